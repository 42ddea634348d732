"""Where a distribution of values splits in two, and how well it does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_BINS = 256


@dataclass(frozen=True)
class Split:
    """Two sides of a distribution.

    Attributes:
        threshold: values above are the upper side.
        low, high: mean of each side.
        separation: between-class share of the variance (Otsu's eta), 0 to 1.
    """

    threshold: float
    low: float
    high: float
    separation: float


def otsu(values: F32) -> Split:
    """Split with the largest variance between its sides (Otsu, IEEE TSMC 1979).

    Args:
        values: float32 [N], finite, at least one.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    high = max(high, low + 1e-9 + 1e-6 * abs(low))
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    share, centres = counts / counts.sum(), (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(share), np.cumsum(share * centres)
    mean = float(sums[-1])
    between = (mean * below - sums) ** 2 / np.maximum(below * (1 - below), 1e-12)
    best = int(np.argmax(between[:-1]))
    variance = max(float((share * (centres - mean) ** 2).sum()), 1e-12)
    return Split(
        float(edges[best + 1]),
        float(sums[best] / max(float(below[best]), 1e-9)),
        float((mean - sums[best]) / max(1 - float(below[best]), 1e-9)),
        min(float(between[best]) / variance, 1.0),
    )
