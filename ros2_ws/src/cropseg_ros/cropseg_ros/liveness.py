"""Liveness: do stamps and pictures move on as those of a live camera do?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.mask import Status

MAX_AHEAD_S = 0.05
EQUAL_PICTURES = 5
_RESTART_NS = 1_000_000_000
_SAMPLES_A_SIDE = 64


class Stamps:
    """Lets through stamps that are later than the one before.

    A jump back of more than a second is a clock that was set or a recording that starts again: the
    stamps count from there.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self.refused = 0
        self.advancing = True

    def advance(self, stamp_ns: int) -> bool:
        """Whether a frame with this stamp may pass; refused ones are counted."""
        self.advancing = self._last_ns is None or not (0 <= self._last_ns - stamp_ns <= _RESTART_NS)
        if self.advancing:
            self._last_ns = stamp_ns
        else:
            self.refused += 1
        return self.advancing


def judge_age(age_s: float, limit_s: float) -> tuple[Status, str]:
    """How far a frame of this age can be trusted, and why no further."""
    if age_s > limit_s:
        return Status.INVALID, (
            f"old stamp: {1e3 * age_s:.0f} ms before now, limit {1e3 * limit_s:.0f} ms; set the "
            "camera's clock, play recordings with --clock and use_sim_time, raise max_age_ms on a "
            "slow computer"
        )
    if age_s < -MAX_AHEAD_S:
        return Status.DEGRADED, (
            f"stamp from the future: {-1e3 * age_s:.0f} ms after now; set the clocks of camera and "
            "computer alike"
        )
    return Status.OK, ""


class Picture:
    """Notices when the same picture comes again and again; one thread at a time."""

    def __init__(self) -> None:
        self._sample: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._count = 0
        self._since = 0.0

    def judge(self, image: NDArray[np.uint8], now: float, limit_s: float) -> tuple[Status, str]:
        """How far a picture can be trusted, and why no further.

        Looks at a grid of at most 128x128 pixels; no two pictures of a sensor have the same noise.
        DEGRADED from the fifth equal one in a row, INVALID once they have been so for the limit.

        Args:
            image: uint8 [H, W, 3].
            now: seconds of a steady clock.
            limit_s: how old the last change may be.
        """
        step_y, step_x = (max(1, side // _SAMPLES_A_SIDE) for side in image.shape[:2])
        sample = image[::step_y, ::step_x].copy()
        if not np.array_equal(sample, self._sample):
            self._sample, self._count, self._since = sample, 0, now
        self._count += 1
        if self._count < EQUAL_PICTURES:
            return Status.OK, ""
        age_s = now - self._since
        status = Status.INVALID if age_s >= limit_s else Status.DEGRADED
        return status, f"frozen picture: {self._count} equal ones in {1e3 * age_s:.0f} ms"
