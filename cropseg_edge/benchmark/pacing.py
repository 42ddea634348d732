"""When frames are worked on: one after the other, or at a rate with only the latest one waiting.

The clock is a parameter, so that a test scripts it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """A steady clock in seconds."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    def wait_until(self, moment: float) -> None:
        """Return at `moment`, or at once if it is past."""
        ...


class SteadyClock:
    """The process's own clock."""

    def now(self) -> float:
        """See `Clock`."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """See `Clock`."""
        while (left := moment - time.perf_counter()) > 0:
            time.sleep(left)


@dataclass
class Pace:
    """What came of a pass.

    Attributes:
        latencies_ms: of every frame worked on, from its release to its mask.
        released: how many frames there were.
        skipped: how many of them never got a mask, because a newer one was there.
        late: how many masks came after their deadline, one period after the release.
        seconds: from the first release to the last mask.
    """

    latencies_ms: list[float] = field(default_factory=list)
    released: int = 0
    skipped: int = 0
    late: int = 0
    seconds: float = 0.0

    @property
    def missed(self) -> int:
        """Deadlines that were missed."""
        return self.skipped + self.late


def closed_loop(
    work: Callable[[int], None], clock: Clock, *, frames: int = 0, seconds: float = 0.0
) -> Pace:
    """Work on one frame after the other without a pause; there are no deadlines.

    Args:
        work: segments the frame of that number.
        frames: how many; 0: until `seconds` have passed.
        seconds: for how long, where `frames` is 0.
    """
    pace = Pace()
    start = now = clock.now()
    while pace.released < frames or (not frames and now - start < seconds):
        work(pace.released)
        done = clock.now()
        pace.latencies_ms.append(1e3 * (done - now))
        pace.released += 1
        now = done
    pace.seconds = now - start
    return pace


def paced(work: Callable[[int], None], clock: Clock, *, rate_hz: float, frames: int) -> Pace:
    """Work at a camera's rate: frame i is released at i / rate_hz, and only the latest one waits.

    Latency counts from the scheduled release, so that waiting behind a slow frame is part of it.

    Args:
        work: segments the frame of that number.
        rate_hz: frames released a second; the deadline is one period after the release.
        frames: how many are released.
    """
    pace = Pace(released=frames)
    start = clock.now()
    index, done = 0, start
    while index < frames:
        release = start + index / rate_hz
        clock.wait_until(release)
        work(index)
        done = clock.now()
        latency = done - release
        pace.latencies_ms.append(1e3 * latency)
        pace.late += latency * rate_hz > 1 + 1e-9
        newest = min(frames - 1, int((done - start) * rate_hz + 1e-9))
        following = max(index + 1, newest)
        pace.skipped += following - index - 1
        index = following
    pace.seconds = done - start
    return pace
