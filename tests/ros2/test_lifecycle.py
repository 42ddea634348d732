"""The node's life: transitions without leaks, refusals with reasons, a prompt end."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cropseg_ros.graph import Graph, GraphError

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

from cropseg_edge.mask import UNKNOWN
from tests.ros2.harness import TRANSITIONS

if TYPE_CHECKING:
    from tests.ros2.harness import Harness

MIB = 1 << 20


def _usage(pid: int) -> tuple[int, int, int]:
    """(resident bytes, threads, open files) of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"]), files


def test_twenty_round_trips_leak_nothing(
    graph: Graph, harness: Harness, tiny_bundle_path: Path
) -> None:
    parameters = {"bundle": str(tiny_bundle_path), "max_age_ms": 5000}
    pid = graph.start("segmentation_node", parameters).pid

    def round_trip() -> None:
        assert harness.transition("configure")
        assert harness.transition("activate")
        harness.connect(harness.rgb, harness.image)
        assert harness.transition("deactivate")
        assert harness.transition("cleanup")
        harness.wait(lambda: harness.image.get_subscription_count() == 0)

    for _ in range(5):  # allocators and caches fill up
        round_trip()
    memory, threads, files = _usage(pid)
    for _ in range(20):
        round_trip()
    memory_after, threads_after, files_after = _usage(pid)
    assert harness.state() == "unconfigured"
    assert memory_after - memory < 10 * MIB
    assert threads_after <= threads
    assert files_after <= files
    graph.stop("segmentation_node")


def test_transitions_in_any_order_are_done_or_refused_and_leak_nothing(
    graph: Graph, harness: Harness, tiny_bundle_path: Path
) -> None:
    leads_to = {
        ("unconfigured", "configure"): "inactive",
        ("inactive", "activate"): "active",
        ("active", "deactivate"): "inactive",
        ("inactive", "cleanup"): "unconfigured",
    }
    rng, state = random.Random(0), "unconfigured"
    pid = graph.start("segmentation_node", {"bundle": str(tiny_bundle_path)}).pid

    def walk(steps: int) -> tuple[int, int, int]:
        nonlocal state
        for _ in range(steps):
            name = rng.choice(list(TRANSITIONS))
            assert harness.transition(name) == ((state, name) in leads_to)
            state = leads_to.get((state, name), state)
            harness.image.publish(harness.rgb())
        assert harness.state() == state
        for name in ("deactivate", "cleanup", "configure"):
            harness.transition(name)
        state = "inactive"
        return _usage(pid)

    memory, threads, files = walk(50)
    memory_after, threads_after, files_after = walk(200)
    assert memory_after - memory < 10 * MIB
    assert threads_after <= threads
    assert files_after <= files
    graph.stop("segmentation_node")
    assert (
        "transition 3 refused: in state unconfigured there are configure (1)"
        in graph.log("segmentation_node").read_text()
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_active_node_within_three_seconds(
    graph: Graph, harness: Harness, tiny_bundle_path: Path, number: int
) -> None:
    process = graph.start("segmentation_node", {"bundle": str(tiny_bundle_path), "autostart": True})
    harness.wait(lambda: harness.image.get_subscription_count() == 1, 20)
    harness.image.publish(harness.rgb())
    started = time.monotonic()
    graph.stop("segmentation_node", number=number)
    assert time.monotonic() - started < 3
    assert process.returncode == 0
    harness.wait(lambda: harness.image.get_subscription_count() == 0)


def test_configure_fails_with_the_reason_when_the_bundle_is_missing(
    graph: Graph, harness: Harness, tmp_path: Path
) -> None:
    graph.start("segmentation_node", {"bundle": str(tmp_path / "none.cropseg")})
    assert not harness.transition("configure")
    assert harness.state() == "unconfigured"
    log = graph.log("segmentation_node").read_text()
    assert "configure failed" in log
    assert "none.cropseg" in log
    assert "Traceback" not in log
    for name, value, reason in (
        ("transport", "pigeon", "one of raw, compressed"),
        ("image_topic", "no spaces please", "not a topic name"),
        ("threads", 1000, "out of range"),
    ):
        result = harness.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason.lower()
    graph.stop("segmentation_node")


def test_autostart_without_a_bundle_ends_with_exit_code_2(graph: Graph, tmp_path: Path) -> None:
    bundle = str(tmp_path / "none.cropseg")
    process = graph.start("segmentation_node", {"bundle": bundle, "autostart": True})
    process.wait(20)
    with pytest.raises(GraphError, match="exit code 2"):
        graph.check()
    graph.forget("segmentation_node")


def test_compressed_images_are_segmented_and_truncated_ones_refused(
    graph: Graph, harness: Harness, tiny_bundle_path: Path
) -> None:
    parameters = {"bundle": str(tiny_bundle_path), "transport": "compressed", "max_age_ms": 5000}
    graph.start("segmentation_node", {**parameters, "autostart": True})
    harness.connect(harness.jpeg, harness.compressed)
    mask, status = harness.send(harness.jpeg())
    assert status.status == 0, status.reason
    assert (mask.height, mask.width) == (48, 64)

    cut = harness.jpeg()
    cut.data = cut.data[: len(cut.data) // 2]
    mask, status = harness.send(cut)
    assert status.status == 2
    assert status.reason
    assert set(mask.data) == {UNKNOWN}
    assert harness.send(harness.jpeg())[1].status == 0
    graph.stop("segmentation_node")


def test_a_publisher_that_cannot_be_heard_is_named(
    graph: Graph, harness: Harness, tiny_bundle_path: Path
) -> None:
    from sensor_msgs.msg import Image

    from cropseg_ros.qos import profile

    parameters = {"bundle": str(tiny_bundle_path), "reliability": "reliable", "autostart": True}
    graph.start("segmentation_node", {**parameters, "image_topic": "other"})
    publisher = harness.node.create_publisher(Image, "other", profile("best_effort", 1))
    log = graph.log("segmentation_node")
    harness.wait(lambda: "reliability" in log.read_text(), 20)
    assert "/other" in log.read_text()
    harness.node.destroy_publisher(publisher)
    graph.stop("segmentation_node")


def test_a_remapped_camera_takes_all_its_topics_along(
    graph: Graph, harness: Harness, tiny_bundle_path: Path
) -> None:
    parameters = {"autostart": True, "bundle": str(tiny_bundle_path), "transport": "compressed"}
    graph.start("segmentation_node", parameters, {"image": "/front/image_raw"})
    for topic in ("/front/image_raw/compressed", "/front/camera_info"):
        harness.wait(lambda topic=topic: harness.node.count_subscribers(topic) == 1, 20)
    graph.stop("segmentation_node")
