"""Every size and form of the network as ONNX: ONNX Runtime gives PyTorch's probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError
from training import export
from training.models.registry import build
from training.models.sizes import SIZES, quarters

SHRUNKEN = replace(
    SIZES["small"],
    width=32,
    depth=4,
    heads=2,
    groups=quarters(4),
    adapter_heads=2,
    extra_extractors=0,
    stem=8,
    decoder_width=8,
    grid=(3, 3),
)
FORMS = {
    "tiny": SIZES["tiny"],  # its stem reads the picture at twice the size
    "fade_steps": replace(SHRUNKEN, position="relative", prefix=1, layer_scale=0.1),
    "fade_steps_lite": replace(SHRUNKEN, lite=True, position="rotary", prefix=5),
}


def random_model(size):
    """A network with no weight at its initial value: nothing that the graph lost stays hidden."""
    torch.manual_seed(0)
    model = build(size).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    ("form", "gather"), [("tiny", False), ("fade_steps", False), ("fade_steps_lite", True)]
)
def test_onnx_runtime_gives_pytorchs_probabilities(form, gather):
    model = random_model(FORMS[form])
    frame = export.golden_frame("maize", "sun", "oblique", 96, 64)
    expected = export.reference_probabilities(model, frame)
    graph = export.export_onnx(model, model.fine * 96, model.fine * 64, gather=gather)
    result = export.onnx_probabilities(export.open_session(graph), frame, model.fine)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert expected.std() > 0.01


def test_a_bilinear_network_is_refused():
    model = random_model(replace(SHRUNKEN, last_step="bilinear"))
    with pytest.raises(ConfigError, match="expects FADE's inputs"):
        export.export_onnx(model, 96, 64, gather=False)
