"""A depthwise convolution as one node computes what ONNX Runtime's computes."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from calibration.fuse import fuse
from tests.calibration.exporting import BOTH, exported, lone_node, needs_library, own_nodes, run


def convolution(channels, bias=True, **settings):
    torch.manual_seed(0)
    settings = {"kernel_size": 3, "padding": 1, "groups": channels} | settings
    return nn.Conv2d(channels, channels, bias=bias, **settings)


def picture(channels, height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, channels, height, width, generator=generator)


@pytest.mark.parametrize("compiled", BOTH)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 33), (12, 64)], ids=str)
def test_one_node_gives_what_pytorch_gives(size, bias, compiled):
    module, x = convolution(25, bias), picture(25, *size)
    fused = fuse(exported(module, x=x))
    assert own_nodes(fused) == ["DepthwiseConvolution"]
    onnx.checker.check_model(fused)
    with torch.no_grad():
        np.testing.assert_allclose(run(fused, compiled, x=x.numpy()), module(x).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        (32, {}),
        (25, {"groups": 5}),
        (25, {"stride": 2}),
        (25, {"dilation": 2}),
        (25, {"padding": 0}),
        (25, {"kernel_size": 5, "padding": 2}),
    ],
    ids=str,
)
def test_another_convolution_is_left_alone(channels, settings):
    module = convolution(channels, **settings)
    assert own_nodes(fuse(exported(module, x=picture(channels, 9, 9)))) == []


def test_two_pictures_at_once_are_left_alone():
    assert own_nodes(fuse(exported(convolution(25), x=torch.zeros(2, 25, 9, 9)))) == []


@needs_library
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_input_does_not_become_a_number(bad):
    x = picture(25, 6, 20).numpy()
    x[0, 3, 2, 19] = bad
    out = run(fuse(exported(convolution(25), x=picture(25, 6, 20))), True, x=x)
    assert not np.isfinite(out[0, 3, 1:4, 18:]).any()
    assert np.isfinite(out[0, :3]).all()


@needs_library
@pytest.mark.parametrize(
    "sides",
    [
        {"x": (1, 4, 5, 7, 3)},
        {"weight": (4, 1, 3, 3, 0)},
        {"weight": (4, 1, 3, 2)},
        {"bias": (4, 0)},
        {"x": (2, 4, 5, 7)},
        {"bias": (3,)},
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_give_nan(sides):
    sides = {"x": (1, 4, 5, 7), "weight": (4, 1, 3, 3), "bias": (4,)} | sides
    feed = {name: np.zeros(side, np.float32) for name, side in sides.items()}
    out = run(lone_node("DepthwiseConvolution", feed), True, **feed)
    assert np.isnan(out).all()
    assert out.size
