"""The node's own overhead: everything in it but the network and the upsampler, over real ROS 2.

    . ros2_ws/env.sh && .venv/bin/python benchmarks/ros2_overhead.py [--bundle B] [--json FILE]

A publisher (this process) sends rgb8 images to segmentation_node (a process of its own), which
measures its stages: receive (message to BGR), check, preprocess, engine, fade, decode, publish.
The overhead is their sum without engine and fade. The age, from the image's stamp to its status
being sent, holds the transport as well. On a computer that has other things to do, put
`chrt -r 5` (as root) before the command: it then measures the node and not the scheduler.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cropseg_ros.transport import environment, private_graph

GOAL_P99_MS = 12.0
NETWORK_STAGES = ("engine", "fade")
WARM_UP_FRAMES = 10


def picture(width: int, height: int) -> np.ndarray:
    """RGB uint8 [H, W, 3]: noisy soil with green blobs."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 110, (height, width, 3)).astype(np.uint8)
    for y, x in rng.integers(0, (height - 80, width - 80), (60, 2)):
        image[y : y + 80, x : x + 80, 1] += 90
    return image


def measure(arguments: argparse.Namespace, logs: Path) -> list[Any]:
    """The statuses of the measured frames."""
    import rclpy
    from cropseg_msgs.msg import CropMaskStatus
    from sensor_msgs.msg import Image

    from cropseg_ros.conversions import to_image
    from cropseg_ros.graph import Graph
    from cropseg_ros.qos import profile

    rclpy.init()
    node = rclpy.create_node("overhead")
    statuses: list[Any] = []
    node.create_subscription(
        CropMaskStatus, "segmentation_node/status", statuses.append, profile("reliable", 50)
    )
    # The mask's reader: publishing to nobody would cost nothing.
    node.create_subscription(
        Image, "segmentation_node/mask", lambda data: None, profile("reliable", 5), raw=True
    )
    publisher = node.create_publisher(Image, "image", profile("reliable", 5))
    message = to_image(Image().header, picture(arguments.width, arguments.height), "rgb8")
    parameters = {"autostart": True, "bundle": arguments.bundle, "max_age_ms": 5000}
    with Graph(logs, {}) as graph:
        graph.start("segmentation_node", parameters)
        while not statuses or not publisher.get_subscription_count():
            graph.check()
            rclpy.spin_once(node, timeout_sec=0.1)
        statuses.clear()
        for index in range(WARM_UP_FRAMES + arguments.frames):
            due = time.monotonic() + 1.0 / arguments.rate
            message.header.stamp = node.get_clock().now().to_msg()
            message.data[0] ^= 1  # a camera whose picture never changes is taken for frozen
            publisher.publish(message)
            while (left := due - time.monotonic()) > 0:
                rclpy.spin_once(node, timeout_sec=left)
            if index + 1 == WARM_UP_FRAMES:
                statuses.clear()
    node.destroy_node()
    rclpy.shutdown()
    return [status for status in statuses if status.stage_names]


def figures(statuses: list[Any]) -> dict[str, dict[str, float]]:
    """p50, p99 and max in ms of each stage, of the overhead, and of the age."""
    columns: dict[str, list[float]] = {}
    for status in statuses:
        stages = dict(zip(status.stage_names, status.stage_ms, strict=True))
        network = sum(stages[name] for name in NETWORK_STAGES)
        stages["overhead"] = sum(stages.values()) - network
        stages["age"] = status.age_ms
        stages["age without network"] = status.age_ms - network
        for name, value in stages.items():
            columns.setdefault(name, []).append(float(value))
    return {
        name: {
            "p50": float(np.percentile(values, 50)),
            "p99": float(np.percentile(values, 99)),
            "max": max(values),
        }
        for name, values in columns.items()
    }


def main() -> int:
    """Measure and print; exit code 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", default="", help="default: the shipped one")
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--rate", type=float, default=8.0, help="images a second")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if "MALLOC_TOP_PAD_" not in os.environ:  # read by the C library before Python starts
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment()})
    os.environ.update(private_graph())
    with tempfile.TemporaryDirectory() as logs:
        statuses = measure(arguments, Path(logs))
    if not statuses:
        print("no mask came", file=sys.stderr)
        return 1
    table = figures(statuses)
    print(f"{arguments.width}x{arguments.height} rgb8 at {arguments.rate:g} Hz: ", end="")
    print(f"{len(statuses)} masks of {arguments.frames} images, {statuses[-1].engine}")
    print(f"{'ms':<22}{'p50':>8}{'p99':>8}{'max':>8}")
    for name, row in table.items():
        print(f"{name:<22}" + "".join(f"{row[key]:>8.2f}" for key in ("p50", "p99", "max")))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2))
    missed = table["overhead"]["p99"] > GOAL_P99_MS
    print(f"goal: overhead p99 <= {GOAL_P99_MS:g} ms: {'missed' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
