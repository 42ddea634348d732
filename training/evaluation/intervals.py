"""Pixel counts of single pictures in, figures with 95 % intervals out: bootstrap over pictures.

Efron, 1979; percentile interval. Pictures are drawn with replacement, their counts summed, and the
figures computed from the sums. With one seed, the same pictures are drawn for every method, so that
differences between methods on the same pictures are paired.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.evaluation import Counts, figures

LEVEL = 95
RESAMPLES = 2000
FEWEST = 5  # pictures; with fewer the interval would say more about their number than the model
_CHUNK = 4_000_000  # drawn numbers at once

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure and its interval; None where no pixel, or too few pictures, could give it."""

    value: float | None
    low: float | None
    high: float | None


def resampled_sums(counts: Counts, resamples: int, seed: int | Sequence[int]) -> Counts:
    """Sums [resamples, 6] of counts [pictures, 6] drawn with replacement."""
    pictures = len(counts)
    rng = np.random.default_rng(seed)
    shares, step = np.full(pictures, 1 / pictures), max(1, _CHUNK // pictures)
    return np.concatenate(
        [
            rng.multinomial(pictures, shares, min(step, resamples - start)) @ counts
            for start in range(0, resamples, step)
        ]
    )


class Sample(NamedTuple):
    """The figures of a group of pictures: of all of them, and of every resample."""

    pictures: int
    whole: dict[str, Floats]  # [] each
    draws: dict[str, Floats]  # [resamples] each


def sample(counts: Counts, resamples: int = RESAMPLES, seed: int | Sequence[int] = 0) -> Sample:
    """Figures of counts [pictures, 6] and of their resamples; keys as in `evaluation.figures`."""
    draws = figures(resampled_sums(counts, resamples, seed))
    return Sample(len(counts), figures(counts.sum(0)), draws)


def intervals(found: Sample) -> dict[str, Interval]:
    """Every figure with its interval, in percent."""
    return {
        key: _interval(value, found.draws[key], found.pictures)
        for key, value in found.whole.items()
    }


def difference(ours: Sample, other: Sample, key: str = "miou") -> Interval:
    """How far `other` is above `ours` on the same pictures, in percentage points."""
    draws = other.draws[key] - ours.draws[key]
    return _interval(other.whole[key] - ours.whole[key], draws, ours.pictures)


def mean_over(samples: list[Sample], key: str = "miou") -> Interval:
    """A figure's mean over groups of pictures, each resampled by itself."""
    whole = np.mean([s.whole[key] for s in samples])
    fewest = min(s.pictures for s in samples)
    return _interval(whole, np.mean([s.draws[key] for s in samples], axis=0), fewest)


def _interval(value: Floats, draws: Floats, pictures: int) -> Interval:
    if np.isnan(value):
        return Interval(None, None, None)
    known = draws[~np.isnan(draws)]
    if pictures < FEWEST or not known.size:
        return Interval(round(float(value), 3), None, None)
    low, high = np.percentile(known, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Interval(*(round(float(number), 3) for number in (value, low, high)))
