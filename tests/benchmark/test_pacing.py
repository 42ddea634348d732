"""When frames are worked on, with a clock that only moves when it is told to."""

import pytest

from cropseg_edge.benchmark.figures import percentiles, verdict
from cropseg_edge.benchmark.pacing import closed_loop, paced


class Scripted:
    """A clock, and work that takes the scripted seconds a frame (the last one over and over)."""

    def __init__(self, *seconds: float) -> None:
        self.time, self.seconds, self.worked = 100.0, list(seconds), []

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def __call__(self, index: int) -> None:
        self.worked.append(index)
        self.time += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


def test_a_closed_loop_takes_frame_after_frame() -> None:
    clock = Scripted(0.1, 0.3)
    pace = closed_loop(clock, clock, frames=3)
    assert clock.worked == [0, 1, 2]
    assert pace.latencies_ms == pytest.approx([100, 300, 300])
    assert pace.seconds == pytest.approx(0.7)
    assert pace.missed == 0


def test_a_closed_loop_for_some_seconds_ends_with_the_frame_that_passes_them() -> None:
    clock = Scripted(0.4)
    assert closed_loop(clock, clock, seconds=1.0).released == 3


def test_fast_work_keeps_every_deadline_and_waits_between_frames() -> None:
    clock = Scripted(0.04)
    pace = paced(clock, clock, rate_hz=10, frames=5)
    assert clock.worked == [0, 1, 2, 3, 4]
    assert pace.latencies_ms == pytest.approx([40] * 5)
    assert pace.missed == 0
    assert pace.seconds == pytest.approx(0.44)


def test_work_of_exactly_one_period_keeps_its_deadline() -> None:
    clock = Scripted(0.1)
    pace = paced(clock, clock, rate_hz=10, frames=50)
    assert (pace.skipped, pace.late) == (0, 0)


def test_latency_counts_from_the_release_not_from_the_start_of_work() -> None:
    # Frame 0 ends at 150 ms; frame 1, released at 100 ms, begins then and ends at 180 ms.
    clock = Scripted(0.15, 0.03)
    pace = paced(clock, clock, rate_hz=10, frames=3)
    assert pace.latencies_ms == pytest.approx([150, 80, 30])
    assert (pace.skipped, pace.late) == (0, 1)


def test_slow_work_takes_the_latest_frame_and_skips_the_others() -> None:
    # Every frame takes 250 ms at 10 Hz: after frame 0 the latest is 2, then (at 500 ms) 5, 7, 10.
    clock = Scripted(0.25)
    pace = paced(clock, clock, rate_hz=10, frames=10)
    assert clock.worked == [0, 2, 5, 7, 9]
    assert pace.latencies_ms == pytest.approx([250, 300, 250, 300, 350])
    assert pace.skipped == 5
    assert pace.late == 5
    assert pace.missed == pace.released == 10


def test_one_hiccup_costs_the_frames_behind_it_and_no_more() -> None:
    clock = Scripted(0.02, 0.02, 0.35, 0.02)
    pace = paced(clock, clock, rate_hz=10, frames=8)
    # Frame 2 is done at 550 ms: 3 and 4 are skipped, 5 is 70 ms old when it is done.
    assert clock.worked == [0, 1, 2, 5, 6, 7]
    assert (pace.skipped, pace.late) == (2, 1)


@pytest.mark.parametrize("milliseconds", [[7.0], [7.0] * 100])
def test_percentiles_of_equal_times_are_that_time(milliseconds: list[float]) -> None:
    assert set(percentiles(milliseconds).values()) == {7.0}


def test_percentiles_of_a_spread_and_of_nothing() -> None:
    figures = percentiles([float(value) for value in range(101)])
    assert figures == {"p50": 50, "p95": 95, "p99": 99, "max": 100, "mean": 50}
    assert percentiles([]) == {}


def measured(missed: float = 0.0, **status: int) -> dict[str, object]:
    return {
        "frames_per_second": 8.34,
        "latency_ms": {"end to end": {"p99": 152.6}},
        "missed_percent": missed,
        "status": status,
    }


@pytest.mark.parametrize(
    ("figures", "rate_hz", "line"),
    [
        (measured(OK=9), None, "8.3 frames/s; 99 of 100 frames take at most 153 ms"),
        (measured(14.2, OK=9), 10.0, "8.3 frames/s; at 10 Hz 14 % of deadlines are missed"),
        (measured(0.25, OK=9), 10.0, "8.3 frames/s; at 10 Hz 0.2 % of deadlines are missed"),
        (measured(0.0, OK=9), 7.5, "8.3 frames/s; at 7.5 Hz no deadlines are missed"),
        (
            measured(0.0, OK=1, INVALID=3),
            5.0,
            "8.3 frames/s; at 5 Hz no deadlines are missed; NOT USABLE: 3 of 4 masks are INVALID",
        ),
    ],
)
def test_the_verdict_is_one_plain_line(
    figures: dict[str, object], rate_hz: float | None, line: str
) -> None:
    assert verdict(figures, rate_hz) == line
