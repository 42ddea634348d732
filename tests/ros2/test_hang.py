"""An engine that hangs: the watchdog still speaks, and stopping does not wait for the engine."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

import rclpy
from rclpy.executors import SingleThreadedExecutor

from cropseg_edge.bundle import read_bundle
from cropseg_edge.mask import UNKNOWN
from cropseg_edge.segmenter import Segmenter
from cropseg_ros.outputs import Outputs
from cropseg_ros.parameters import declare, read
from cropseg_ros.stream import Stream

if TYPE_CHECKING:
    from tests.ros2.harness import Harness


class _HangingEngine:
    name, precision = "hanging", "fp32"

    def __init__(self) -> None:
        self.called, self.released = threading.Event(), threading.Event()

    def infer(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        self.called.set()
        self.released.wait(30)
        return {}

    def close(self) -> None:
        pass


def test_invalid_comes_at_10_hz_while_the_engine_hangs_and_stop_returns_within_a_second(
    harness: Harness, tiny_bundle_path: Path
) -> None:
    engine = _HangingEngine()
    node = rclpy.create_node("segmentation_node")
    declare(node)
    segmenter = Segmenter(read_bundle(tiny_bundle_path), engine=engine)
    outputs = Outputs(node, segmenter.bundle.sha256, "hanging")
    stream = Stream(node, read(node), segmenter, outputs)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def turn() -> None:
        executor.spin_once(timeout_sec=0.02)

    harness.wait(lambda: turn() or harness.image.get_subscription_count() == 1)
    harness.wait(lambda: turn() or engine.called.is_set() or harness.image.publish(harness.rgb()))
    del harness.statuses[:], harness.masks[:]
    took_s = harness.wait(lambda: len(harness.statuses) >= 10)
    assert 0.7 < took_s < 2.0
    assert all(status.reason.startswith("stale") for status in harness.statuses)
    assert set(harness.masks[-1].data) == {UNKNOWN}

    started = time.monotonic()
    assert not stream.stop()
    assert time.monotonic() - started < 1.0
    engine.released.set()
    outputs.close()
    node.destroy_node()
