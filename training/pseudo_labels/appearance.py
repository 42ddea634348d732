"""What a picture's colours say about height: the colours of plants, learned from one picture.

Leaves and clods can be of one height, and blur rounds leaves off; but in one picture a plant's
colour is high more often than the soil's colour. The mean evidence for height over all pixels of
a colour is free of both errors, needs no idea of what colour plants have, and keeps sharp edges.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_BINS = (12, 20, 20)  # lightness, red-green, blue-yellow
_PRIOR = 20.0  # pixels' worth of the picture's mean that each colour starts with


def colour_evidence(image: NDArray[np.uint8], evidence: F32) -> tuple[F32, float]:
    """Mean evidence over all pixels of a colour.

    Args:
        image: uint8 [H, W, 3] BGR.
        evidence: float32 [H, W], 0 to 1 that a pixel stands above ground; NaN unknown.

    Returns:
        float32 [H, W], the mean evidence of each pixel's colour; and the share of the evidence's
        variance that colour explains, 0 to 1.
    """
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 0.8), cv2.COLOR_BGR2LAB)
    index = np.zeros(evidence.shape, np.intp)
    for channel, bins in enumerate(_BINS):
        plane = lab[..., channel].astype(np.float32)
        low, high = np.percentile(plane, (0.5, 99.5))
        cell = (plane - low) * (bins / max(float(high - low), 8.0))
        index = index * bins + np.clip(cell, 0, bins - 1).astype(np.intp)
    known = np.isfinite(evidence)
    values = evidence[known]
    size, mean = int(np.prod(_BINS)), float(values.mean())
    counts = np.bincount(index[known], minlength=size).reshape(_BINS)
    sums = np.bincount(index[known], weights=values, minlength=size).reshape(_BINS)
    table = (_smoothed(sums) + _PRIOR * mean) / (_smoothed(counts) + _PRIOR)
    seen = table.ravel()[index].astype(np.float32)
    explained = float(seen[known].var() / max(float(values.var()), 1e-9))
    return seen, min(explained, 1.0)


def _smoothed(table: NDArray[np.generic]) -> NDArray[np.float64]:
    """Each colour mixed with its neighbours: 1 2 1 along each axis."""
    out = table.astype(np.float64)
    for axis in range(3):
        padded = np.pad(out, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        n = out.shape[axis]
        parts = [padded.take(range(start, start + n), axis) for start in range(3)]
        out = 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    return out
