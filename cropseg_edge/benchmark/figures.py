"""Figures of a list of times, and the plain sentence that they come to."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

LEAST_FRAMES = 50  # ten a fifth
KEYS = ("p50", "p95", "p99", "max")


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 (interpolated between neighbours), max and mean; empty for no values."""
    if not milliseconds:
        return {}
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    values = (p50, p95, p99, max(milliseconds), np.mean(milliseconds))
    return {key: round(float(value), 3) for key, value in zip((*KEYS, "mean"), values, strict=True)}


def fifths(milliseconds: Sequence[float]) -> list[float]:
    """The median of each fifth of a run of 50 frames or more, in order: how it drifts."""
    if len(milliseconds) < LEAST_FRAMES:
        return []
    parts = np.array_split(np.asarray(milliseconds), 5)
    return [round(float(np.median(part)), 3) for part in parts]


def change(first: Sequence[float], second: Sequence[float]) -> str:
    """What a second run's fifths say beside a first one's: faster, slower, or no telling.

    A change is called one where every fifth of one run took longer than every fifth of the other:
    a computer that has two speeds shows both of them in a run that is long enough.

    Raises:
        ValueError: a time is not a positive number.
    """
    if not all(0 < time < math.inf for time in (*first, *second)):
        raise ValueError(f"times must be positive, got {[*first, *second]}")
    before, after = float(np.median(first)), float(np.median(second))
    if min(second) <= max(first) and min(first) <= max(second):
        return "no change that can be told from how much these two runs vary"
    word, times = ("faster", before / after) if after < before else ("slower", after / before)
    return f"B is {times:.2f} times {word}, as far as two runs tell; measure A again after B"


def verdict(measured: dict[str, Any], rate_hz: float | None) -> str:
    """The one line that matters.

    Args:
        measured: `frames_per_second`, `latency_ms`, `missed_percent` and `status` of a pass.
        rate_hz: at which frames were released; None: one after the other.
    """
    rate = f"{measured['frames_per_second']:.1f} frames/s"
    if rate_hz is None:
        p99 = measured["latency_ms"]["end to end"]["p99"]
        line = f"{rate}; 99 of 100 frames take at most {p99:.0f} ms"
    else:
        line = f"{rate}; at {rate_hz:g} Hz {_share(measured['missed_percent'])} are missed"
    invalid = measured["status"].get("INVALID", 0)
    if invalid:
        total = sum(measured["status"].values())
        line += f"; NOT USABLE: {invalid} of {total} masks are INVALID"
    return line


def _share(percent: float) -> str:
    if percent == 0:
        return "no deadlines"
    return f"{percent:.0f} % of deadlines" if percent >= 1 else f"{percent:.1f} % of deadlines"
