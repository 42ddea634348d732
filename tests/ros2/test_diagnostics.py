"""What the node tells of itself on /diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cropseg_ros.graph import Graph

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from cropseg_ros.conversions import calibrated_size
from cropseg_ros.qos import profile
from tests.ros2.harness import picture

if TYPE_CHECKING:
    from tests.ros2.harness import Harness

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Heard:
    """The newest status of each name."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._by_name: dict[str, DiagnosticStatus] = {}
        harness.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._hear, profile("reliable", 10)
        )

    def _hear(self, array: DiagnosticArray) -> None:
        self._by_name |= {status.name: status for status in array.status}

    def next(
        self, part: str, level: bytes, meanwhile: Callable[[], object] = lambda: None
    ) -> tuple[str, dict[str, str]]:
        """Message and values of the next status of a part that has this level."""
        name = f"segmentation_node: {part}"
        self._by_name.pop(name, None)

        def done() -> bool:
            meanwhile()
            return name in self._by_name and self._by_name[name].level == level

        self._harness.wait(done)
        status = self._by_name[name]
        return status.message, {value.key: value.value for value in status.values}


@pytest.fixture(scope="module")
def heard(graph: Graph, harness: Harness, tiny_bundle_path: Path) -> Iterator[Heard]:
    """The diagnostics of a segmentation node, which runs and is configured."""
    parameters = {"bundle": str(tiny_bundle_path), "reliability": "reliable", "max_age_ms": 10_000}
    graph.start("segmentation_node", parameters)
    heard = Heard(harness)
    assert harness.transition("configure")
    yield heard
    graph.stop("segmentation_node")


def test_an_inactive_node_says_so(heard: Heard) -> None:
    assert heard.next("images", OK)[0] == "inactive"
    text, values = heard.next("masks", OK)
    assert text == "inactive"
    assert values["engine"].startswith("onnxruntime")
    heard.next("computer", OK)


def test_an_active_node_tells_of_images_and_of_the_worst_mask(
    heard: Heard, harness: Harness
) -> None:
    assert harness.transition("activate")
    harness.connect(harness.rgb, harness.image)
    harness.send(harness.rgb())
    values = heard.next("images", OK)[1]
    assert (values["topic"], values["publishers"]) == ("/image", "1")
    harness.send(harness.rgb(picture(8, 8)))
    harness.send(harness.rgb())
    text, values = heard.next("masks", ERROR)
    assert "16" in text
    assert int(values["invalid"]) == 1


@pytest.mark.parametrize(
    ("info", "size"),
    [
        (CameraInfo(width=64, height=48), (48, 64)),
        (CameraInfo(width=64, height=48, binning_x=2, binning_y=1), (48, 32)),
        (CameraInfo(width=64, height=48, roi=RegionOfInterest(width=8, height=6)), (6, 8)),
        (CameraInfo(), None),
    ],
    ids=["whole", "binned", "region", "empty"],
)
def test_a_calibration_is_for_images_of_one_size(
    info: CameraInfo, size: tuple[int, int] | None
) -> None:
    assert calibrated_size(info) == size


def test_a_calibration_for_another_size_is_a_warning(heard: Heard, harness: Harness) -> None:
    publisher = harness.node.create_publisher(CameraInfo, "camera_info", profile("reliable", 1))
    harness.wait(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(CameraInfo(width=1920, height=1080))
    text = heard.next("images", WARN, lambda: harness.send(harness.rgb()))[0]
    assert text == "/camera_info is for 1920x1080 pixels, the images have 64x48"
    publisher.publish(CameraInfo(width=64, height=48))
    heard.next("images", OK, lambda: harness.send(harness.rgb()))
    harness.node.destroy_publisher(publisher)


def test_a_publisher_that_cannot_be_heard_is_told_as_long_as_it_is_there(
    heard: Heard, harness: Harness
) -> None:
    publisher = harness.node.create_publisher(Image, "image", profile("best_effort", 1))
    text, values = heard.next("images", ERROR)
    assert text.startswith("1 of 2 publishers on /image cannot be heard: Best effort publisher")
    assert values["publishers"] == "2"
    heard.next("images", WARN, lambda: harness.send(harness.rgb()))  # the other one is heard
    harness.node.destroy_publisher(publisher)
    heard.next("images", OK)


def test_no_mask_for_a_while_is_a_warning(heard: Heard) -> None:
    assert heard.next("masks", WARN)[0].startswith("no mask for")
