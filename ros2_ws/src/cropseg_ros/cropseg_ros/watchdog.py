"""Watchdog: a thread that speaks up while no fresh valid mask comes, even if all else hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cropseg_ros.freshness import Freshness

STALE_PERIOD_S = 0.1
SILENCE_S = 5.0


class Watchdog:
    """Watches a `Freshness` on the steady clock.

    Args:
        freshness: what is watched.
        stale: called at 10 Hz with the reason while the stream is stale.
        silent: called every 5 s while no image comes.
        log: called with what one of them raised; the watchdog then goes on.
    """

    def __init__(
        self,
        freshness: Freshness,
        stale: Callable[[str], None],
        silent: Callable[[], None],
        log: Callable[[Exception], None],
    ) -> None:
        self._freshness = freshness
        self._stale = stale
        self._silent = silent
        self._log = log
        self._heard = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            try:
                wait_s = self._look(time.monotonic())
            except Exception as error:  # the thread's boundary: it speaks again next time
                wait_s = STALE_PERIOD_S
                self._log(error)

    def _look(self, now: float) -> float:
        """Say what is wrong; returns the seconds until the next look."""
        self._heard = max(self._heard, self._freshness.last_arrival or self._heard)
        if now - self._heard > SILENCE_S:
            self._heard = now
            self._silent()
        left_s = self._freshness.seconds_left(now)
        if left_s > 0:
            return min(left_s, STALE_PERIOD_S)
        self._stale(self._freshness.reason(now))
        return STALE_PERIOD_S

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> bool:
        """Be silent from now on. Returns whether the thread ended."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self.alive()
