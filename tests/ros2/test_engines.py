"""The node on a played robot: it takes an accepted TensorRT engine, says so, and ends when lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept
from cropseg_edge.mask import UNKNOWN
from cropseg_ros.graph import Graph, GraphError
from tests.engines.tensorrt.conftest import Robot, bundle, kept, robot

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

if TYPE_CHECKING:
    from tests.ros2.harness import Harness

__all__ = ["bundle", "kept", "robot"]


class Start(Protocol):
    """Starts the node on a bundle, in the environment of this moment."""

    def __call__(self, model: Bundle, **parameters: object) -> Graph: ...


@pytest.fixture
def start(robot: Robot, tmp_path: Path) -> Iterator[Start]:
    """The node sees the played TensorRT and its cache."""
    with ExitStack() as stack:

        def start_node(model: Bundle, **parameters: object) -> Graph:
            graph = stack.enter_context(Graph(tmp_path / "logs", {}))
            fixed = {"bundle": str(model.path), "max_age_ms": 5000}
            graph.start("segmentation_node", {**fixed, **parameters})
            return graph

        yield start_node


def log(graph: Graph) -> str:
    """What the node has said."""
    return graph.log("segmentation_node").read_text()


def test_an_accepted_engine_makes_the_masks_and_every_status_names_it(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    graph = start(bundle, autostart=True)
    harness.connect(harness.rgb, harness.image)
    mask, status = harness.send(harness.rgb())
    assert status.status == 0, status.reason
    assert status.engine == "tensorrt fp16"
    assert {0, 1} <= set(mask.data)
    graph.stop("segmentation_node")


def test_without_an_accepted_engine_the_cpu_goes_on_and_says_so(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    graph = start(bundle, autostart=True)
    harness.connect(harness.rgb, harness.image)
    _, status = harness.send(harness.rgb())
    assert status.engine == "onnxruntime fp32"
    assert "ONNX Runtime on the CPU is used, not TensorRT" in log(graph)
    assert "fp16: it is not built yet" in log(graph)
    graph.stop("segmentation_node")
    assert robot.count("build") == 0


def test_tensorrt_alone_does_not_configure_without_an_accepted_engine(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    robot.runs("fp16=nan")
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("")
    graph = start(bundle, engine="tensorrt", precision="fp16")
    assert not harness.transition("configure")
    assert harness.state() == "unconfigured"
    assert "configure failed" in log(graph)
    assert "quarantined" in log(graph)
    graph.stop("segmentation_node")


def test_configure_builds_if_it_may(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    graph = start(bundle, engine="tensorrt", precision="int8", build_if_missing=True)
    assert harness.transition("configure")
    assert robot.count("build") == 1
    graph.stop("segmentation_node")


def test_an_engine_that_now_gives_other_masks_does_not_configure(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("fp16=wrong")
    graph = start(bundle, engine="tensorrt", precision="fp16")
    assert not harness.transition("configure")
    assert "mask IoU" in log(graph)
    graph.stop("segmentation_node")


def test_with_auto_the_cpu_takes_over_from_an_engine_that_now_gives_other_masks(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("fp16=wrong")
    graph = start(bundle, precision="fp16")
    assert harness.transition("configure")
    assert "ONNX Runtime on the CPU is used" in log(graph)
    assert "mask IoU" in log(graph)
    assert "on onnxruntime fp32" in log(graph)
    graph.stop("segmentation_node")


def test_a_lost_gpu_says_invalid_and_ends_the_process_with_70(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("fp16=lost-later")
    graph = start(bundle, autostart=True, engine="tensorrt")
    harness.wait(lambda: harness.image.get_subscription_count() == 1, 20)
    del harness.masks[:], harness.statuses[:]

    def ended() -> bool:
        harness.image.publish(harness.rgb())
        return graph.ended("segmentation_node")

    with pytest.raises(GraphError, match="exit code 70"):
        harness.wait(ended, timeout_s=20)
    graph.forget("segmentation_node")
    assert "to be started anew" in log(graph)
    if harness.masks:  # the topics may find each other too late for the last words
        assert set(harness.masks[-1].data) == {UNKNOWN}
        assert harness.statuses[-1].status == 2


def test_an_engine_that_keeps_failing_ends_the_process_and_the_next_takes_its_place(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("fp16=fails-later")
    graph = start(bundle, autostart=True)
    harness.wait(lambda: harness.image.get_subscription_count() == 1, 20)

    def ended() -> bool:
        harness.image.publish(harness.rgb())
        return graph.ended("segmentation_node")

    with pytest.raises(GraphError, match="exit code 70"):
        harness.wait(ended, timeout_s=20)
    graph.forget("segmentation_node")
    assert "failed on 5 frames in a row" in log(graph)
    graph = start(bundle, autostart=True)
    harness.wait(lambda: "on onnxruntime fp32" in log(graph), 20)
    graph.stop("segmentation_node")


def test_a_signal_while_an_engine_loads_ends_the_process_well_and_is_no_crash(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    platform = robot.platform()
    build_and_accept(platform, bundle, ["fp16"])
    loads = robot.count("load")
    robot.runs("fp16=slow-load")
    graph = start(bundle, autostart=True)
    harness.wait(lambda: robot.count("load") > loads, 20)
    assert platform.cache.sidecar(bundle, "fp16").starts == 1
    graph.stop("segmentation_node")  # fails where the exit code is not 0
    assert platform.cache.sidecar(bundle, "fp16").starts == 0


def test_a_gpu_that_is_lost_in_configure_ends_the_process_with_70(
    start: Start,
    harness: Harness,
    robot: Robot,
    bundle: Bundle,
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    robot.runs("fp16=lost")
    graph = start(bundle, autostart=True, engine="tensorrt")
    with pytest.raises(GraphError, match="exit code 70"):
        harness.wait(lambda: graph.ended("segmentation_node"), timeout_s=20)
    graph.forget("segmentation_node")
    assert "configure failed" in log(graph)
    assert "to be started anew" in log(graph)
