"""Freshness: is there a valid mask that is young enough, and after a gap, is the stream back?

All times are seconds of a steady clock.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from statistics import median

GOOD_FRAMES_TO_RECOVER = 3
PERIODS = 3
_INTERVALS = 5  # one outlier among five does not move the median


class Freshness:
    """Counts arrivals and valid masks; thread-safe.

    The limit is `max_age_s` or three frame periods, whichever is larger; the period is the median
    of the last five intervals, known from the sixth frame on. A stream that came without a valid
    mask for longer than the limit is trusted again with the third valid mask in a row.
    """

    def __init__(self, max_age_s: float, now: float) -> None:
        self.max_age_s = max_age_s
        self.last_arrival: float | None = None
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._last_valid = now  # and trusted
        self._in_order = math.inf  # first arrival, then last valid mask, trusted or not
        self._missing = 0  # valid masks still to come before the stream is trusted
        self._lock = threading.RLock()

    def arrived(self, now: float) -> None:
        """A frame came in."""
        with self._lock:
            if self.last_arrival is None:
                self._in_order = now
            else:
                # A gap is no period. A camera that is slow for good raises the limit step by step.
                self._intervals.append(min(now - self.last_arrival, self.limit_s()))
            self.last_arrival = now

    def valid(self, now: float) -> int:
        """A valid mask is ready. Returns how many more must follow before the stream is trusted."""
        with self._lock:
            self._note_gap(now)
            self._in_order = now
            self._missing = max(0, self._missing - 1)
            if not self._missing:
                self._last_valid = now
            return self._missing

    def invalid(self) -> None:
        """A frame gave no valid mask; a recovery starts anew."""
        with self._lock:
            if self._missing:
                self._missing = GOOD_FRAMES_TO_RECOVER

    def limit_s(self) -> float:
        """How old the last valid mask may be."""
        with self._lock:
            known = len(self._intervals) == _INTERVALS
            return max(self.max_age_s, PERIODS * median(self._intervals) if known else 0.0)

    def seconds_left(self, now: float) -> float:
        """Time until the stream is stale; zero or less if it is."""
        with self._lock:
            self._note_gap(now)
            return self._last_valid + self.limit_s() - now

    def _note_gap(self, now: float) -> None:
        if now - self._in_order >= self.limit_s():
            self._missing = GOOD_FRAMES_TO_RECOVER

    def reason(self, now: float) -> str:
        """Why the stream is stale."""
        with self._lock:
            if self.last_arrival is None:
                return "stale: no image has come yet"
            age_ms = 1e3 * (now - self._last_valid)
            return f"stale: no valid mask for {age_ms:.0f} ms, limit {1e3 * self.limit_s():.0f} ms"
