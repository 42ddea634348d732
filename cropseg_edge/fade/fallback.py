"""FADE and mask decoding in NumPy: the compiled library's results, several times slower."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def _twice(x: NDArray[Any]) -> NDArray[Any]:
    return x.repeat(2, axis=-2).repeat(2, axis=-1)


def upsample(
    logits: Floats,
    kernels_high: Floats,
    kernels_low: Floats,
    guide: Floats | None,
    gate: Floats | None,
    out: Floats,
) -> None:
    """Fill `out` [1, C, 2sh, 2sw]; what has a non-finite number among its inputs becomes NaN."""
    with np.errstate(all="ignore"):
        scores = kernels_high[0] + _twice(kernels_low[0])  # [25, 2h, 2w]
        bad = ~np.isfinite(scores).all(axis=0)
        scores -= scores.max(axis=0)
        weights = np.exp(scores, out=scores)
        weights /= weights.sum(axis=0)
        height, width = logits.shape[2:]
        padded = np.pad(logits[0], ((0, 0), (2, 2), (2, 2)))
        result = np.zeros((len(padded), *bad.shape), np.float32)
        for tap in range(25):
            r, s = divmod(tap, 5)
            result += weights[tap] * _twice(padded[:, r : r + height, s : s + width])
        side = out.shape[2] // len(bad)  # of a pixel, in sub-pixels
        layers = out[0].reshape(len(result), len(bad), side, -1, side).transpose(0, 2, 4, 1, 3)
        layers[:] = result[:, None, None]
        if guide is not None and gate is not None:
            bad |= _twice(np.logical_not(np.isfinite(gate[0, 0])))
            g = _twice(1 / (1 + np.exp(-gate[0, 0])))
            layers *= 1 - g
            layers += g * guide[0].reshape(layers.shape)
        np.copyto(layers, np.nan, where=bad | ~np.isfinite(layers).all(axis=0))


def softmax(y: Floats, out: Floats) -> None:
    """Fill `out` [C, H, W] with probabilities of the scores `y` [1, C, H, W]; may be y[0]."""
    with np.errstate(all="ignore"):
        np.subtract(y[0], y[0].max(axis=0), out=out)
        np.exp(out, out=out)
        out /= out.sum(axis=0)


def _positions(
    scale: float, offset: float, size: int, count: int
) -> tuple[NDArray[np.intp], Floats]:
    at = np.clip(scale * np.arange(count) + offset, 0, size - 1)
    left = at.astype(np.intp)
    return left, (at - left).astype(np.float32)


def decode(
    probabilities: Floats,
    affine: tuple[float, float, float, float],
    labels: Bytes,
    confidence: Bytes,
) -> bool:
    """Fill labels and confidence [H, W]; False, nothing written, when a value is not in 0..1."""
    with np.errstate(invalid="ignore"):
        if not ((probabilities >= 0) & (probabilities <= 1.001)).all():
            return False
    _, grid_height, grid_width = probabilities.shape
    height, width = labels.shape
    left, x_part = _positions(affine[0], affine[1], grid_width, width)
    top, y_part = _positions(affine[2], affine[3], grid_height, height)
    right, bottom = np.minimum(left + 1, grid_width - 1), np.minimum(top + 1, grid_height - 1)
    start = probabilities[:, :, left]
    wide = start + x_part * (probabilities[:, :, right] - start)  # [C, grid_height, W]
    band = max(1, (1 << 16) // width)
    for y in range(0, height, band):
        rows = slice(y, y + band)
        upper = wide[:, top[rows]]
        mixed = upper + y_part[rows, None] * (wide[:, bottom[rows]] - upper)
        background = mixed[0] > mixed[1:].sum(axis=0)
        labels[rows] = np.where(background, 0, 1 + mixed[1:].argmax(axis=0))
        best = np.where(background, mixed[0], mixed[1:].max(axis=0))
        confidence[rows] = (best * 255 + np.float32(0.5)).astype(np.uint8)
    return True
