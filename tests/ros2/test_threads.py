"""The node's two threads survive exceptions; should one die all the same, the process ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cropseg_ros.freshness import Freshness
from cropseg_ros.watchdog import Watchdog
from cropseg_ros.worker import Worker

if TYPE_CHECKING:
    from tests.ros2.harness import Harness


def test_the_watchdog_speaks_again_after_an_exception() -> None:
    again = threading.Event()
    logged: list[Exception] = []

    def stale(reason: str) -> None:
        if not logged:
            raise MemoryError("no mask")
        again.set()

    watchdog = Watchdog(Freshness(0.0, time.monotonic()), stale, lambda: None, logged.append)
    assert again.wait(5)
    assert watchdog.stop(5)
    assert [str(error) for error in logged] == ["no mask"]


def test_the_worker_goes_on_when_not_even_a_failure_can_be_published() -> None:
    taken: list[int] = []
    logged: list[Exception] = []
    done = threading.Event()

    def work(item: int) -> None:
        taken.append(item)
        raise ValueError("no mask")

    def failed(item: int, error: Exception) -> None:
        raise MemoryError("no status")

    def log(error: Exception) -> None:
        logged.append(error)
        done.set()

    worker = Worker(work, failed, log)
    for item in (1, 2):
        done.clear()
        worker.mailbox.put(item)
        assert done.wait(5)
    assert worker.stop(5)
    assert taken == [1, 2]
    assert [str(error) for error in logged] == ["no status", "no status"]


def test_the_status_comes_even_where_the_mask_cannot_be_made(harness: Harness) -> None:
    pytest.importorskip("cropseg_msgs")
    import rclpy
    from std_msgs.msg import Header

    from cropseg_ros.outputs import Outputs

    node = rclpy.create_node("segmentation_node")
    outputs = Outputs(node, "", "")

    def publish() -> None:
        with pytest.raises((MemoryError, ValueError)):
            outputs.publish_invalid(Header(), (1 << 40, 1 << 40), "full", sequence=7, dropped=0)

    harness.wait(lambda: harness.statuses or publish())
    assert (harness.statuses[0].status, harness.statuses[0].reason) == (2, "full")
    outputs.close()
    node.destroy_node()


def test_a_thread_that_dies_ends_the_process_with_70(tiny_bundle_path: Path) -> None:
    pytest.importorskip("cropseg_msgs")
    program = (
        "import sys; from cropseg_ros import outputs, segmentation_node\n"
        "outputs.Outputs.publish_invalid = lambda *_, **__: sys.exit()  # ends the watchdog\n"
        "segmentation_node.main()"
    )
    command = [sys.executable, "-c", program, "--ros-args", "-p", "autostart:=true"]
    command += ["-p", f"bundle:={tiny_bundle_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 70, result.stderr
    assert "a thread of the stream died" in result.stderr
