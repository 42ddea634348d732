"""Hours of the segmentation node under faults: does it grow, slow down, or keep silent?

    . ros2_ws/env.sh && .venv/bin/python benchmarks/ros2_soak.py --minutes 60 [--json FILE]

This process is the camera and listens. Sizes of pictures take turns, every 50th image has an
encoding that cannot be used and must be answered by INVALID, and every thousand images the camera
pauses until the node has said so by itself. Every ten seconds memory, open files and threads of
the node are noted. After a sixth of the time (ten minutes at most) of warming up:

- memory of its own (what it shares with the camera has a fixed size): the slope of a straight line
  through it, and the upper end of its 95 % interval, which should stay under 1 MB/h; a run of less
  than about an hour cannot tell so little;
- files and threads: none more at the end than at the beginning;
- time from image to status: p99 of the last quarter against the first;
- every fault: answered, or missed.

Ctrl-C ends it early with the same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from cropseg_ros.graph import Graph, GraphError
from cropseg_ros.transport import environment, private_graph

GOAL_MB_PER_HOUR = 1.0
SIZES = ((640, 480), (1280, 720), (480, 640))
SAMPLE_S, SAY_S = 10.0, 60.0
BROKEN_EVERY, PAUSE_EVERY = 50, 1000
ANSWER_S = 5.0
WARM_UP_S, LEAST_S = 600.0, 2400.0


@dataclass(frozen=True)
class Sample:
    """What the node holds at one time."""

    seconds: float
    memory_mb: float
    files: int
    threads: int


@dataclass
class Record:
    """What was seen."""

    samples: list[Sample] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)  # (seconds, ms)
    faults: int = 0
    missed: int = 0


def sample(pid: int, started: float) -> Sample:
    """Read /proc of a process."""
    folder = Path("/proc", str(pid))
    lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return Sample(
        time.monotonic() - started,
        int(lines["RssAnon"].split()[0]) / 1024,
        len(list((folder / "fd").iterdir())),
        int(lines["Threads"]),
    )


class Camera:
    """Publishes pictures, one at a time, and waits for what the node says of each."""

    def __init__(self) -> None:
        import rclpy
        from cropseg_msgs.msg import CropMaskStatus
        from rclpy.signals import SignalHandlerOptions
        from sensor_msgs.msg import Image

        from cropseg_ros.conversions import to_image
        from cropseg_ros.qos import profile

        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._spin_once = rclpy.spin_once
        self._node = rclpy.create_node("soak")
        self._publisher = self._node.create_publisher(Image, "image", profile("reliable", 5))
        topic = "segmentation_node/"
        self._node.create_subscription(
            CropMaskStatus, topic + "status", self._hear, profile("reliable", 50)
        )
        self._node.create_subscription(
            Image, topic + "mask", lambda data: None, profile("reliable", 5), raw=True
        )
        rng = np.random.default_rng(0)
        self._messages = []
        for width, height in SIZES:
            image = rng.integers(60, 110, (height, width, 3)).astype(np.uint8)
            image[::3, ::2, 1] += 90
            self._messages.append(to_image(Image().header, image, "rgb8"))
        self._status: Any = None

    def _hear(self, status: Any) -> None:
        self._status = status

    def wait(self, done: Any, seconds: float) -> bool:
        """Listen until `done`; whether it came in time."""
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                return False
            self._spin_once(self._node, timeout_sec=0.05)
        return True

    def ready(self) -> bool:
        """Whether the node listens and speaks."""
        return self._publisher.get_subscription_count() > 0 and self._status is not None

    def send(self, index: int, *, broken: bool) -> Any:
        """Publish an image; its status, or None."""
        message = self._messages[index // BROKEN_EVERY % len(SIZES)]
        message.encoding = "32FC7" if broken else "rgb8"
        message.data[index % 1000] ^= 1  # a camera whose picture never changes counts as frozen
        message.header.stamp = stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        answered = self.wait(lambda: self._status.header.stamp == stamp, ANSWER_S)
        return self._status if answered else None

    def pause(self) -> bool:
        """Send nothing until the node says INVALID by itself; whether it did."""
        self._status.status = 0
        return self.wait(lambda: self._status.reason.startswith("stale"), ANSWER_S)


def rate(text: str) -> float:
    """A rate in Hz; ValueError where it is none."""
    value = float(text)
    if not 0.1 <= value <= 1000:
        raise ValueError
    return value


def soak(arguments: argparse.Namespace, record: Record, logs: Path) -> None:
    """Run it; what is seen goes into `record`, so that Ctrl-C loses nothing."""
    camera = Camera()
    parameters = {"autostart": True, "bundle": arguments.bundle, "max_age_ms": 1000}
    with Graph(logs, {}) as graph:
        process = graph.start("segmentation_node", parameters)
        while not camera.wait(camera.ready, 1.0):
            graph.check()
        started = time.monotonic()
        next_sample = next_line = 0.0
        for index in count(1):
            elapsed = time.monotonic() - started
            if elapsed > 60 * arguments.minutes:
                return
            if elapsed >= next_sample:
                graph.check()
                record.samples.append(sample(process.pid, started))
                next_sample += SAMPLE_S
            if elapsed >= next_line:
                now = record.samples[-1]
                print(
                    f"{elapsed / 60:5.0f} min  {index:8d} images  {now.memory_mb:7.1f} MB  "
                    f"{now.files} files  {now.threads} threads  "
                    f"{record.missed} of {record.faults} faults missed",
                    flush=True,
                )
                next_line += SAY_S
            broken = index % BROKEN_EVERY == 0
            sent = time.perf_counter()
            status = camera.send(index, broken=broken)
            if broken:
                record.faults += 1
                record.missed += status is None or status.status != 2
            elif status is not None:
                record.latencies.append((elapsed, 1e3 * (time.perf_counter() - sent)))
            if index % PAUSE_EVERY == 0:
                record.faults += 1
                record.missed += not camera.pause()
            camera.wait(lambda: False, max(0.0, 1 / arguments.rate + sent - time.perf_counter()))


def slope(samples: list[Sample]) -> tuple[float, float]:
    """MB/h of the least-squares line, and the upper end of its 95 % interval."""
    hours = np.array([s.seconds for s in samples]) / 3600
    memory = np.array([s.memory_mb for s in samples])
    centred = hours - hours.mean()
    spread = float((centred**2).sum())
    value = float((centred * memory).sum()) / spread
    residual = memory - memory.mean() - value * centred
    error = float(np.sqrt((residual**2).sum() / (len(samples) - 2) / spread))
    return value, value + 1.96 * error


def main() -> int:
    """Run and print; exit code 1 if something grew or a fault was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=rate, default=10.0, help="images a second, at most")
    parser.add_argument("--bundle", default="", help="default: the shipped one")
    parser.add_argument("--json", type=Path, help="also write samples and figures here")
    arguments = parser.parse_args()
    if "MALLOC_TOP_PAD_" not in os.environ:  # read by the C library before Python starts
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment()})
    os.environ.update(private_graph())
    if arguments.json and not arguments.json.parent.is_dir():
        parser.error(f"--json: there is no folder {arguments.json.parent}")
    record = Record()
    with tempfile.TemporaryDirectory() as logs:
        try:
            soak(arguments, record, Path(logs))
        except KeyboardInterrupt:
            print("interrupted")
        except GraphError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return report(record, arguments.json)


def report(record: Record, path: Path | None) -> int:
    """Print the figures and write them; the exit code."""
    if len(record.samples) < 6:
        print("too short: less than a minute was seen", file=sys.stderr)
        return 1
    warm = min(WARM_UP_S, record.samples[-1].seconds / 6)
    kept = [s for s in record.samples if s.seconds >= warm]
    value, upper = slope(kept)
    latencies = [ms for seconds, ms in record.latencies if seconds >= warm]
    quarter = max(1, len(latencies) // 4)
    first, last = (
        float(np.percentile(part, 99)) for part in (latencies[:quarter], latencies[-quarter:])
    )
    more = {name: getattr(kept[-1], name) - getattr(kept[0], name) for name in ("files", "threads")}
    figures = {
        "minutes": record.samples[-1].seconds / 60,
        "masks": len(record.latencies),
        "memory_mb": kept[-1].memory_mb,
        "mb_per_hour": value,
        "mb_per_hour_upper": upper,
        "p99_ms_first_quarter": first,
        "p99_ms_last_quarter": last,
        "faults": record.faults,
        "missed": record.missed,
        **more,
    }
    for name, figure in figures.items():
        print(f"{name:<22}{figure:10.2f}" if isinstance(figure, float) else f"{name:<22}{figure:7}")
    if path:
        samples = [asdict(s) for s in record.samples]
        path.write_text(json.dumps({"figures": figures, "samples": samples}, indent=2))
    met = upper <= GOAL_MB_PER_HOUR and max(more.values()) <= 0 and not record.missed
    told = "met" if met else "missed"
    if met and kept[-1].seconds - kept[0].seconds < LEAST_S:
        told = "nothing against it, but the run is too short to tell"
    print(
        f"goal: memory grows by at most {GOAL_MB_PER_HOUR:g} MB/h, files and threads not at all, "
        f"every fault answered: {told}"
    )
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
