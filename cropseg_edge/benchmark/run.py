"""Measure a bundle on this machine: a source's frames go in, a document of figures comes out."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from itertools import islice
from math import ceil
from typing import Any

from cropseg_edge.benchmark.figures import fifths, percentiles, verdict
from cropseg_edge.benchmark.machine import machine, state
from cropseg_edge.benchmark.pacing import Clock, Pace, SteadyClock, closed_loop, paced
from cropseg_edge.benchmark.sensors import Sensors
from cropseg_edge.doctor.system import System
from cropseg_edge.errors import FrameError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.frames.open import open_source
from cropseg_edge.health import judge
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from cropseg_edge.sinks.versions import versions

SOURCE = "simulator:species=maize,frames=8"
_HELD = 16  # frames in memory: 100 MB at 1920x1080


def benchmark(
    segmenter: Segmenter,
    frames: Sequence[Frame],
    *,
    rate_hz: float | None = None,
    count: int = 200,
    seconds: float | None = None,
    warm_up: int = 10,
    clock: Clock | None = None,
    system: System | None = None,
) -> dict[str, Any]:
    """Segment frames over and over and measure.

    Args:
        segmenter: with the bundle and the engine to measure.
        frames: in memory, taken in turn.
        rate_hz: release frames at this rate; None: one after the other.
        count: frames to measure.
        seconds: measure for so long instead.
        warm_up: frames before that, one after the other, with figures of their own.

    Returns:
        The document that `cropseg bench --json` writes, but for the source.

    Raises:
        FrameError: a frame is too small.
    """
    clock, system = clock or SteadyClock(), system or System()
    work = _Work(segmenter, frames)
    warmed = closed_loop(work, clock, frames=warm_up) if warm_up else Pace()
    warm_figures = {"frames": warm_up, "latency_ms": work.latencies(warmed)}
    work = _Work(segmenter, frames)
    before, cpu = state(system), time.process_time()
    with Sensors(system) as sensors:
        if rate_hz is None:
            pace = closed_loop(work, clock, frames=0 if seconds else count, seconds=seconds or 0.0)
        else:
            total = ceil(seconds * rate_hz) if seconds else count
            pace = paced(work, clock, rate_hz=rate_hz, frames=total)
    cpu_s = time.process_time() - cpu
    measured = _measured(work, pace, rate_hz)
    engine = segmenter.engine
    return {
        "verdict": verdict(measured, rate_hz),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": {
            "name": segmenter.bundle.manifest.name,
            "sha256": segmenter.bundle.sha256,
        },
        "engine": {"name": engine.name, "precision": engine.precision},
        "rate_hz": rate_hz,
        "warm_up": warm_figures,
        "measured": measured,
        "watts": sensors.watts(),
        "resident_mb_max": sensors.resident_mb(),
        "available_mb_min": sensors.available_mb(),
        "cpu_cores": round(cpu_s / pace.seconds, 2) if pace.seconds else None,
        "machine": machine(system),
        "before": before,
        "after": state(system),
        "versions": versions(),
    }


def load_frames(
    source: str, limit: int = _HELD, *, topic: str | None = None
) -> tuple[list[Frame], dict[str, Any]]:
    """The first frames of a source, decoded or rendered into memory, and what they are.

    Raises:
        FrameError: the source cannot be opened, or has no frame.
        ConfigError: a simulator's specification is wrong, or a topic is given for no bag.
    """
    with closing(open_source(source, topic=topic)) as opened:
        frames = list(islice(opened, limit))
    if not frames:
        raise FrameError(f"{source}: it has no frame that can be used")
    height, width = frames[0].image.shape[:2]
    return frames, {"name": source, "width": width, "height": height, "frames": len(frames)}


class _Work:
    """Segments frame after frame and keeps what the masks say."""

    def __init__(self, segmenter: Segmenter, frames: Sequence[Frame]) -> None:
        self._segmenter, self._frames = segmenter, frames
        self.stages: dict[str, list[float]] = {}
        self.status: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._invalid: Counter[int] = Counter()  # by number of the frame

    def __call__(self, index: int) -> None:
        number = index % len(self._frames)
        mask = self._segmenter.segment(self._frames[number])
        for stage, milliseconds in mask.stage_ms.items():
            self.stages.setdefault(stage, []).append(milliseconds)
        self.status[mask.status.name] += 1
        if mask.reason:
            self.reasons[mask.reason] += 1
        if mask.status is Status.INVALID:
            self._invalid[number] += 1

    def engine_failures(self) -> int:
        """Masks that are INVALID although their picture is not."""
        return sum(
            count
            for number, count in self._invalid.items()
            if judge(self._frames[number])[0] is not Status.INVALID
        )

    def latencies(self, pace: Pace) -> dict[str, dict[str, float]]:
        """Percentiles by stage, then of the whole way."""
        stages = {stage: percentiles(values) for stage, values in self.stages.items()}
        return {**stages, "end to end": percentiles(pace.latencies_ms)}


def _measured(work: _Work, pace: Pace, rate_hz: float | None) -> dict[str, Any]:
    done = len(pace.latencies_ms)
    figures: dict[str, Any] = {
        "frames": done,
        "seconds": round(pace.seconds, 3),
        "frames_per_second": round(done / pace.seconds, 3) if pace.seconds else 0.0,
        "latency_ms": work.latencies(pace),
        "p50_of_fifths_ms": fifths(pace.latencies_ms),
        "status": {status.name: work.status[status.name] for status in Status},
        "reasons": dict(work.reasons),
        "engine_failures": work.engine_failures(),
    }
    if rate_hz is not None:
        figures |= {
            "deadline_ms": round(1e3 / rate_hz, 3),
            "released": pace.released,
            "skipped": pace.skipped,
            "late": pace.late,
            "missed_percent": round(100 * pace.missed / pace.released, 2),
        }
    return figures
