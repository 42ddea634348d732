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
    """

    def __init__(
        self, freshness: Freshness, stale: Callable[[str], None], silent: Callable[[], None]
    ) -> None:
        self._freshness = freshness
        self._stale = stale
        self._silent = silent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        heard = time.monotonic()
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            now = time.monotonic()
            left_s = self._freshness.seconds_left(now)
            if left_s <= 0:
                self._stale(self._freshness.reason(now))
            wait_s = min(left_s, STALE_PERIOD_S) if left_s > 0 else STALE_PERIOD_S
            heard = max(heard, self._freshness.last_arrival or heard)
            if now - heard > SILENCE_S:
                heard = now
                self._silent()

    def stop(self, timeout_s: float) -> bool:
        """Be silent from now on. Returns whether the thread ended."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
