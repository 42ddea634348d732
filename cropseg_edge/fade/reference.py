"""FADE, one output pixel at a time in float64: slow, and obviously the equations.

Lu, Liu, Fu, Cao: FADE, ECCV 2022 (arXiv 2207.10392), steps after the kernel encoder:
    W = softmax over the 25 taps of kernels_high + nearest x2 of kernels_low
    P[c, 2u+i, 2v+j] = sum over r, s in -2..2 of W[5(r+2)+(s+2)] * logits[c, u+r, v+s]
    G = sigmoid(nearest x2 of gate)
    Y[c, s*y+i, s*x+j] = G[y, x] * guide[s*s*c + s*i + j, y, x] + (1 - G[y, x]) * P[c, y, x]
where the guide has s * s sub-pixels a pixel; with s = 1, FADE's own blend. Zeros lie outside
the map, and the border's weights are not renormalised.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def fade_reference(
    logits: Array,
    kernels_high: Array,
    kernels_low: Array,
    guide: Array | None = None,
    gate: Array | None = None,
) -> NDArray[np.float64]:
    """The module's equations; shapes as in `fade_upsample`. Returns [1, C, 2sh, 2sw]."""
    x = np.asarray(logits[0], np.float64)
    channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    side = 1 if guide is None else math.isqrt(guide.shape[1] // channels)
    out = np.zeros((1, channels, 2 * side * height, 2 * side * width))
    for y in range(2 * height):
        for z in range(2 * width):
            u, v = y // 2, z // 2
            scores = np.float64(kernels_high[0, :, y, z]) + np.float64(kernels_low[0, :, u, v])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            window = padded[:, u : u + 5, v : v + 5]
            value = (window * weights.reshape(5, 5)).sum(axis=(1, 2))[:, None, None]
            if guide is not None and gate is not None:
                g = 1 / (1 + np.exp(-np.float64(gate[0, 0, u, v])))
                value = g * guide[0, :, y, z].reshape(channels, side, side) + (1 - g) * value
            out[0, :, side * y : side * (y + 1), side * z : side * (z + 1)] = value
    return out


def softmax_reference(y: Array) -> NDArray[np.float64]:
    """Probabilities [C, H, W] of class scores [1, C, H, W], in float64."""
    shifted = np.exp(np.asarray(y[0], np.float64) - np.max(y[0], axis=0))
    return np.asarray(shifted / shifted.sum(axis=0))
