"""FADE: x2 upsampling with kernels predicted from encoder and decoder features together.

Lu, Liu, Fu, Cao: "FADE: Fusing the Assets of Decoder and Encoder for Task-Agnostic Upsampling",
ECCV 2022 (arXiv 2207.10392). Equation numbers below are the steps of section 3 there:
compress, semi-shift convolution, softmax, reassembly, gate.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FadeInputs(NamedTuple):
    """What the reassembly needs; on the robot these tensors leave the engine.

    Shapes, for a decoder map of h x w:
        features: [B, C, h, w], the map to upsample.
        kernels_high: [B, K*K, 2h, 2w], beta(E) with its bias.
        kernels_low: [B, K*K, h, w], beta(D) without bias.
        guide: [B, s*s*C, 2h, 2w], what the encoder says of the s x s sub-pixels of its pixels
            (channel c*s*s + i*s + j is class c of row i, column j), and gate: [B, 1, h, w] (a
            logit); or None for the ungated form.
    """

    features: Tensor
    kernels_high: Tensor
    kernels_low: Tensor
    guide: Tensor | None
    gate: Tensor | None


def reassemble(features: Tensor, kernels: Tensor) -> Tensor:
    """The CARAFE operator with one group: each output pixel is a weighted K x K window.

    Args:
        features: [B, C, h, w]; zeros are taken outside.
        kernels: [B, K*K, 2h, 2w], already normalised; border kernels are not renormalised.

    Returns:
        [B, C, 2h, 2w].
    """
    h, w = (int(side) for side in features.shape[-2:])  # int: tensors while it is traced
    k = math.isqrt(int(kernels.shape[1]))
    padded = F.pad(features, [k // 2] * 4)
    cells = F.pixel_unshuffle(kernels, 2).unflatten(1, (k * k, 1, 4)).unbind(1)
    windows = [padded[:, :, None, y : y + h, x : x + w] for y in range(k) for x in range(k)]
    output = sum(window * cell for window, cell in zip(windows, cells, strict=True))
    return F.pixel_shuffle(output.flatten(1, 2), 2)


def fade(inputs: FadeInputs) -> Tensor:
    """Semi-shift sum, softmax, reassembly, gate and blend (steps 2 to 6): [B, C, 2sh, 2sw].

    A guide with sub-pixels (s > 1) is blended at each of them with the pixel's reassembled value,
    and laid out by the pixel shuffle of Shi et al., CVPR 2016.
    """
    semi_shift = inputs.kernels_high + F.interpolate(inputs.kernels_low, scale_factor=2.0)
    upsampled = reassemble(inputs.features, semi_shift.softmax(1))
    if inputs.guide is None or inputs.gate is None:
        return upsampled
    gate = F.interpolate(inputs.gate, scale_factor=2.0).sigmoid()
    side = math.isqrt(int(inputs.guide.shape[1]) // int(upsampled.shape[1]))
    if side > 1:
        upsampled = upsampled.repeat_interleave(side**2, 1)
    return F.pixel_shuffle(gate * inputs.guide + (1 - gate) * upsampled, side)


class FadeUpsampler(nn.Module):
    """Predicts the kernels and the gate of FADE from an encoder and a decoder map.

    Args:
        encoder_channels: C_en of the guide, at twice the decoder's resolution.
        decoder_channels: C_de of the map that the kernels are predicted from.
        compressed: d, the width of the compressed maps. Ignored by the Lite form (K*K).
        kernel_size: K, the side of the reassembly window.
        gated: blend the guide in. The guide must then have the reassembled map's channels;
            where `encoder_channels` differs, an aligner (1x1 convolution) is learnt.
        lite: FADE-Lite: compress straight to K*K channels and convolve depth-wise.
        output_channels: channels of the map that is reassembled, if it is not the decoder map
            itself. A linear classifier commutes with the reassembly, so class logits can be
            reassembled with kernels predicted from the features that they were computed from.
        subpixel: s, the side of the guide's sub-pixels.
    """

    def __init__(
        self,
        encoder_channels: int,
        decoder_channels: int,
        compressed: int = 64,
        kernel_size: int = 5,
        *,
        gated: bool = True,
        lite: bool = False,
        output_channels: int | None = None,
        subpixel: int = 1,
    ) -> None:
        super().__init__()
        taps = kernel_size**2
        compressed = taps if lite else compressed
        self.groups = taps if lite else 1
        self.compress_encoder = nn.Conv2d(encoder_channels, compressed, 1)
        self.compress_decoder = nn.Conv2d(decoder_channels, compressed, 1, bias=False)
        self.kernel_encoder = nn.Conv2d(compressed, taps, 3, padding=1, groups=self.groups)
        self.gate: nn.Conv2d | None = None
        self.align: nn.Module = nn.Identity()
        if gated:
            self.gate = nn.Conv2d(decoder_channels, 1, 1)
            channels = output_channels or decoder_channels
            if encoder_channels != channels or subpixel > 1:
                self.align = nn.Conv2d(encoder_channels, channels * subpixel**2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def predict(self, encoder: Tensor, decoder: Tensor, output: Tensor | None = None) -> FadeInputs:
        """Kernels and gate for `encoder` [B, C_en, 2h, 2w] and `decoder` [B, C_de, h, w].

        `output` [B, C, h, w] is the map to reassemble, by default `decoder` itself.
        """
        weight, groups = self.kernel_encoder.weight, self.groups
        low = F.conv2d(self.compress_decoder(decoder), weight, None, padding=1, groups=groups)
        return FadeInputs(
            features=decoder if output is None else output,
            kernels_high=self.kernel_encoder(self.compress_encoder(encoder)),
            kernels_low=low,
            guide=None if self.gate is None else self.align(encoder),
            gate=None if self.gate is None else self.gate(decoder),
        )

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        """`decoder` upsampled: [B, C_de, 2sh, 2sw]."""
        return fade(self.predict(encoder, decoder))


class BilinearUpsampler(nn.Module):
    """What FADE is measured against: the map resized, plus a 1x1 convolution of the guide."""

    def __init__(self, encoder_channels: int, output_channels: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(encoder_channels, output_channels, 1)

    def forward(self, encoder: Tensor, output: Tensor) -> Tensor:
        """`output` [B, C, h, w] at the size of `encoder` [B, C_en, 2h, 2w]."""
        return bilinear_like(output, encoder.shape[-2:]) + self.align(encoder)


def bilinear_like(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """`x` resized to `size` bilinearly, half-pixel centres (align_corners=False)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
