"""FADE in PyTorch against the equations, written out naively in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from training.models.fade import FadeUpsampler, fade, reassemble


def convolve(x, conv, bias=True):
    """A convolution of [C, H, W] by its definition, zero padding, float64."""
    weight = conv.weight.detach().double().numpy()
    out_channels, per_group, k, _ = weight.shape
    group_out = out_channels // conv.groups
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((out_channels, *x.shape[1:]))
    for o in range(out_channels):
        first = (o // group_out) * per_group
        for c in range(per_group):
            for dy in range(k):
                for dx in range(k):
                    window = padded[first + c, dy : dy + x.shape[1], dx : dx + x.shape[2]]
                    out[o] += weight[o, c, dy, dx] * window
    if bias and conv.bias is not None:
        out += conv.bias.detach().double().numpy()[:, None, None]
    return out


def naive_fade(module: FadeUpsampler, encoder, decoder):
    """Steps 1 to 6 of the paper, one output pixel at a time; arrays [C, H, W] float64."""
    compressed_encoder = convolve(encoder, module.compress_encoder)
    compressed_decoder = convolve(decoder, module.compress_decoder)
    high = convolve(compressed_encoder, module.kernel_encoder)
    low = convolve(compressed_decoder, module.kernel_encoder, bias=False)
    gate = None if module.gate is None else convolve(decoder, module.gate)[0]
    padded = np.pad(decoder, ((0, 0), (2, 2), (2, 2)))
    out = np.zeros((decoder.shape[0], *encoder.shape[1:]))
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            u, v = y // 2, x // 2
            kernel = np.exp(high[:, y, x] + low[:, u, v])
            kernel /= kernel.sum()
            window = padded[:, u : u + 5, v : v + 5].reshape(-1, 25)
            out[:, y, x] = window @ kernel
            if gate is not None:
                g = 1 / (1 + np.exp(-gate[u, v]))
                out[:, y, x] = g * encoder[:, y, x] + (1 - g) * out[:, y, x]
    return out


@pytest.mark.parametrize("lite", [False, True], ids=["full", "lite"])
@pytest.mark.parametrize("gated", [False, True], ids=["ungated", "gated"])
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 3, 5), (3, 7, 4), (16, 5, 5), (256, 3, 3), (2, 1, 1)]
)
def test_agrees_with_the_equations(lite, gated, channels, height, width):
    torch.manual_seed(channels)
    module = FadeUpsampler(channels, channels, 8, gated=gated, lite=lite)
    for parameter in module.parameters():  # the biases start at zero: give them values
        nn.init.normal_(parameter, std=0.2)
    encoder = torch.randn(1, channels, 2 * height, 2 * width)
    decoder = torch.randn(1, channels, height, width)

    result = module(encoder, decoder)[0].detach().numpy()

    expected = naive_fade(module, encoder[0].double().numpy(), decoder[0].double().numpy())
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    module = FadeUpsampler(2, 2, 4).double()
    encoder = torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True)
    decoder = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (encoder, decoder))


def test_classifying_before_or_after_reassembly_is_the_same():
    torch.manual_seed(0)
    module = FadeUpsampler(8, 8, gated=False)
    classifier = nn.Conv2d(8, 3, 1, bias=False)
    encoder, decoder = torch.randn(1, 8, 12, 10), torch.randn(1, 8, 6, 5)
    before = fade(module.predict(encoder, decoder, classifier(decoder)))
    after = classifier(module(encoder, decoder))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_a_one_hot_kernel_shifts_the_map():
    kernels = torch.zeros(1, 25, 4, 4)
    kernels[:, 5 * 2 + 3] = 1  # row 0, column +1 of the window
    features = torch.arange(4.0).view(1, 1, 2, 2)
    shifted = reassemble(features, kernels)[0, 0]
    assert shifted.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [3, 3, 0, 0], [3, 3, 0, 0]]


@pytest.mark.parametrize(("channels", "full", "lite"), [(64, 22_700, 3_500), (256, 47_500, 13_300)])
def test_parameter_counts_are_the_papers(channels, full, lite):
    for is_lite, expected in ((False, full), (True, lite)):
        module = FadeUpsampler(channels, channels, lite=is_lite)
        count = sum(p.numel() for p in module.parameters())
        assert count == pytest.approx(expected, rel=0.02)
