"""The demo: camera, segmentation and recorder as separate processes; `make demo` runs it.

Without ROS 2 the same pipeline runs in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cropseg_ros.graph import Graph, GraphError
from cropseg_ros.transport import environment, private_graph

START_TIMEOUT_S = 120.0
WRITE_TIMEOUT_S = 300.0
_FALLBACK_RATE_HZ = 10
_BUSY_MAX_AGE_MS = 500  # a laptop has other things to do as well; robots keep the default


class Monitor:
    """Hears the status messages of the segmentation node."""

    def __init__(self) -> None:
        import rclpy
        from cropseg_msgs.msg import CropMaskStatus
        from rclpy.signals import SignalHandlerOptions

        from cropseg_ros.qos import profile

        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("demo")
        self._node.create_subscription(
            CropMaskStatus, "segmentation_node/status", self._hear, profile("reliable", 10)
        )
        self.last: Any = None
        self.masks = 0

    def _hear(self, status: Any) -> None:
        self.last = status
        self.masks += len(status.stage_names) > 0

    def spin_until(
        self, done: Callable[[], bool], timeout_s: float, tick: Callable[[], None]
    ) -> bool:
        """Listen until `done`, calling `tick` about five times a second. False on timeout."""
        import rclpy

        deadline = time.monotonic() + timeout_s
        next_tick = 0.0
        while not done():
            if time.monotonic() > deadline:
                return False
            if time.monotonic() > next_tick:
                tick()
                next_tick = time.monotonic() + 0.2
            rclpy.spin_once(self._node, timeout_sec=0.1)
        return True

    def close(self) -> None:
        """Leave the graph."""
        import rclpy

        self._node.destroy_node()
        rclpy.try_shutdown()


def say(text: str, *, end: str = "\n") -> None:
    """Print a line; with end="" it is overwritten by the next one on a terminal."""
    if end or sys.stdout.isatty():
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}{text}", end=end, flush=True)


def run_graph(source: str, seconds: float, out: Path, bundle: str) -> None:
    """Run the three processes for `seconds` and let the recorder write what it received.

    Raises:
        GraphError: a process died, or no mask came.
    """
    os.environ.update(private_graph())
    os.environ.update(environment())
    simulated = source.startswith("simulator:")
    with Graph(out / "logs", {}) as graph:
        graph.start(
            "segmentation_node",
            {"autostart": True, "bundle": bundle, "max_age_ms": _BUSY_MAX_AGE_MS},
        )
        graph.start("recorder_node", {"out": str(out), "source": source, "bundle": bundle})
        graph.start(
            "camera_node",
            {
                "source": source,
                "wait_for_subscriptions": 2,
                # The simulator would compete with the network for the cores that are measured.
                "preload": int(seconds * _FALLBACK_RATE_HZ) if simulated else 0,
            },
        )
        monitor = Monitor()
        try:
            _drive(graph, monitor, seconds)
        finally:
            monitor.close()
        say("writing masks, overlay video, bag, table and report ...", end="")
        graph.stop("recorder_node", number=signal.SIGINT, timeout_s=WRITE_TIMEOUT_S)
        say(f"wrote {out}")


def _drive(graph: Graph, monitor: Monitor, seconds: float) -> None:
    """Wait for the first mask, then for the end of the run, then stop camera and segmentation."""
    started = time.monotonic()

    def starting() -> None:
        graph.check()
        what = "preparing the frames" if monitor.last else "starting the nodes"
        say(f"{what} ... {time.monotonic() - started:.0f} s", end="")

    if not monitor.spin_until(lambda: monitor.masks > 0, START_TIMEOUT_S, starting):
        raise GraphError(
            f"no mask came within {START_TIMEOUT_S:.0f} s; see the logs in out/demo/logs"
        )
    first = time.monotonic()
    say(f"first mask after {first - started:.1f} s; engine {monitor.last.engine}")

    def running() -> None:
        graph.check()
        status = monitor.last
        state = ("OK", "DEGRADED", "INVALID")[status.status]
        work_ms = sum(status.stage_ms)
        say(
            f"{time.monotonic() - first:4.0f} of {seconds:.0f} s   {monitor.masks} masks  {state}  "
            f"{work_ms:.0f} ms a frame   age {status.age_ms:.0f} ms   {status.dropped} dropped",
            end="",
        )

    try:
        monitor.spin_until(lambda: graph.ended("camera_node"), seconds, running)
    except KeyboardInterrupt:
        say("stopped early")
    graph.stop("camera_node")
    graph.stop("segmentation_node")
    say(f"all nodes stopped after {time.monotonic() - first:.1f} s of masks")


def run_without_ros(source: str, seconds: float, out: Path, bundle: str) -> None:
    """Run the same pipeline in one process, for as many frames as the graph would see."""
    command = [sys.executable, "-c", "from cropseg_edge.cli.main import main; main()"]
    command += ["run", source, "--out", str(out), "--report", "--max-frames"]
    command += [str(int(seconds * _FALLBACK_RATE_HZ))]
    command += ["--mcap", str(out / "demo.mcap"), "--video", str(out / "overlay.mp4")]
    command += ["--bundle", bundle] if bundle else []
    code = subprocess.run(command).returncode
    if code:
        raise GraphError(f"cropseg run ended with exit code {code}")


def print_table(summary: dict[str, Any]) -> None:
    """Print the figures of a run, the same as in its report.html."""
    status = ", ".join(f"{count} {name}" for name, count in summary["status"].items() if count)
    print(f"\nframes          {summary['frames']}  ({status}; {summary['dropped']} dropped)")
    print(f"rate            {summary['frames_per_second']} masks/s")
    print(f"bundle          {summary['bundle']['name']}  {summary['bundle']['sha256'][:12]}")
    print(f"engine          {summary['engine']}")
    if summary["iou_percent"]:
        iou = summary["iou_percent"]
        print(f"IoU             vegetation {iou['vegetation']} %, crop {iou['crop']} %")
    print(f"\n{'stage':<14}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}")
    for stage, figures in summary["latency_ms"].items():
        print(f"{stage:<14}" + "".join(f"{figures[key]:>9.2f}" for key in ("p50", "p95", "p99")))


def main() -> int:
    """Run the demo; returns the exit code."""
    # SIGTERM ends it at once, in order; Ctrl-C after the first mask still writes what came.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="simulator:", help="anything that open_source takes")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--bundle", default="", help="a .cropseg file; default: the shipped one")
    arguments = parser.parse_args()
    has_ros = all(importlib.util.find_spec(name) for name in ("rclpy", "cropseg_msgs"))
    if not has_ros:
        say("no ROS 2 here: the same pipeline runs in one process, without a graph")
    try:
        run = run_graph if has_ros else run_without_ros
        run(arguments.source, arguments.seconds, arguments.out, arguments.bundle)
        print_table(json.loads((arguments.out / "summary.json").read_text()))
    except GraphError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    print(f"\nlook at {arguments.out / 'report.html'} and {arguments.out / 'overlay.mp4'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
