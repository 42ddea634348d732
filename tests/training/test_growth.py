"""A network that grows computes at first what the smaller one computed."""

from dataclasses import replace

import pytest
import torch

from cropseg_edge.errors import ConfigError
from training.models.growth import grow
from training.models.registry import build
from training.models.sizes import NANO

SMALL = replace(
    NANO,
    depth=4,
    groups=((0, 0), (1, 1), (2, 2), (3, 3)),
    fine=1,
    subpixel=1,
    window=0,
    grid=(4, 6),
)


def trained(size):
    """A network whose norms, gammas and offsets are those of one that has been trained."""
    torch.manual_seed(0)
    model = build(size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize(
    "change",
    [{"fine": 2}, {"width": 128, "heads": 4}, {"decoder_width": 64}, {"stem": 56},
     {"width": 128, "heads": 4, "decoder_width": 64, "fine": 2, "stem": 56}],
)  # fmt: skip
def test_a_grown_network_computes_the_same(change):
    small, size = trained(SMALL), replace(SMALL, **change)
    large = build(size).eval()
    large.load_state_dict(grow(small.state_dict(), SMALL, size))
    image = torch.randn(1, 3, 64, 96)
    fine = image.repeat_interleave(size.fine, 2).repeat_interleave(size.fine, 3)
    with torch.no_grad():
        torch.testing.assert_close(large(fine), small(image), atol=2e-4, rtol=1e-4)


def test_sub_pixels_begin_with_their_pixels_logits():
    small, size = trained(SMALL), replace(SMALL, subpixel=2)
    large = build(size).eval()
    large.load_state_dict(grow(small.state_dict(), SMALL, size))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = small(image).repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(large(image), expected, atol=2e-4, rtol=1e-4)


def test_copies_do_not_stay_alike():
    size = replace(SMALL, width=128, heads=4)
    weight = grow(trained(SMALL).state_dict(), SMALL, size)["backbone.vit.blocks.0.mlp.0.weight"]
    assert not torch.equal(weight[:, :64], weight[:, 64:])


@pytest.mark.parametrize("change", [{"width": 96, "heads": 3}, {"depth": 8}, {"stem": 24}])
def test_what_cannot_grow_is_refused_by_name(change):
    with pytest.raises(ConfigError, match="|".join(change)):
        grow(trained(SMALL).state_dict(), SMALL, replace(SMALL, **change))
