"""Stamps and pictures that do not move on as a live camera's do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cropseg_edge.mask import CROP, UNKNOWN, Status
from cropseg_ros.graph import Graph

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

from cropseg_ros.conversions import stamp_ns
from cropseg_ros.liveness import Picture, Stamps, judge_age
from tests.ros2.harness import picture

if TYPE_CHECKING:
    from tests.ros2.harness import Harness

OK, DEGRADED, INVALID = Status
PATIENT_MS = 5000  # so that a busy computer is not taken for a silent camera
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def node(graph: Graph, harness: Harness, tiny_bundle_path: Path) -> Iterator[Harness]:
    """An active segmentation node, and who talks to it."""
    parameters = {"autostart": True, "bundle": str(tiny_bundle_path), "max_age_ms": PATIENT_MS}
    graph.start("segmentation_node", {**parameters, "reliability": "reliable", "depth": 10})
    harness.connect(harness.rgb, harness.image)
    yield harness
    graph.stop("segmentation_node")


@pytest.mark.parametrize(
    ("stamps_s", "passed_s"),
    [
        ([1.0, 1.0, 1.0], [1.0]),
        ([1.0, 1.2, 1.1, 1.3], [1.0, 1.2, 1.3]),
        ([9.0, 9.1, 0.0, 0.1], [9.0, 9.1, 0.0, 0.1]),
        ([1.0, 11.0, 1.2, 1.3], [1.0, 11.0, 1.2, 1.3]),
    ],
    ids=["frozen", "out of order", "a bag that starts again", "a clock set and set back"],
)
def test_stamps_pass_that_advance_or_start_again(
    stamps_s: list[float], passed_s: list[float]
) -> None:
    stamps = Stamps()
    assert [s for s in stamps_s if stamps.advance(round(s * SECOND_NS))] == passed_s
    assert stamps.refused == len(stamps_s) - len(passed_s)


@pytest.mark.parametrize(
    ("age_s", "status"),
    [(0.1, OK), (0.21, INVALID), (1.7e9, INVALID), (-0.04, OK), (-0.06, DEGRADED)],
)
def test_a_mask_is_trusted_as_far_as_its_stamp(age_s: float, status: Status) -> None:
    assert judge_age(age_s, 0.2)[0] is status


def test_equal_pictures_are_degraded_from_the_fifth_on_and_invalid_after_the_limit() -> None:
    watched = Picture()
    image = picture()
    judged = [watched.judge(image, 0.1 * index, 0.55)[0] for index in range(7)]
    assert judged == [OK, OK, OK, OK, DEGRADED, DEGRADED, INVALID]
    assert watched.judge(picture(seed=1), 0.7, 0.55) == (OK, "")


def test_duplicate_stamps_are_dropped_and_counted(node: Harness) -> None:
    message = node.rgb()
    before = node.send(message)[1]
    for _ in range(3):
        node.image.publish(message)
    after = node.send(node.rgb())[1]
    assert (after.dropped - before.dropped, after.sequence - before.sequence) == (3, 4)
    stamp = stamp_ns(message.header)
    assert sum(stamp_ns(status.header) == stamp for status in node.statuses) == 1


def test_an_image_with_an_old_stamp_is_invalid_and_the_reason_says_what_to_do(
    node: Harness,
) -> None:
    message = node.rgb()
    message.header.stamp.sec -= 10
    mask, status = node.send(message)
    assert status.status == INVALID
    assert status.age_ms > 10_000
    assert "use_sim_time" in status.reason
    assert set(mask.data) == {UNKNOWN}
    assert node.send(node.rgb())[1].status == OK


def test_an_image_from_the_future_is_degraded_and_has_no_age(node: Harness) -> None:
    message = node.rgb()
    message.header.stamp.sec += 10
    mask, status = node.send(message)
    assert status.status == DEGRADED
    assert "future" in status.reason
    assert math.isnan(status.age_ms)
    assert CROP in mask.data
    assert node.send(node.rgb())[1].status == OK


def test_a_frozen_picture_is_degraded_then_invalid(node: Harness) -> None:
    image = picture(seed=123_456)
    statuses = [node.send(node.rgb(image))[1] for _ in range(5)]
    assert [status.status for status in statuses] == [OK, OK, OK, OK, DEGRADED]
    assert statuses[-1].reason.startswith("frozen picture")
    assert node.set_parameter("max_age_ms", 50).successful
    node.wait(lambda: node.send(node.rgb(image))[1].reason.startswith("frozen picture: 3"))
    assert set(node.masks[-1].data) == {UNKNOWN}
    assert node.set_parameter("max_age_ms", PATIENT_MS).successful


def test_frozen_stamps_are_invalid_in_time_and_the_reason_says_so(node: Harness) -> None:
    node.wait(lambda: node.send(node.rgb())[1].status == OK)
    message = node.rgb()
    assert node.set_parameter("max_age_ms", 200).successful
    del node.statuses[:]

    def heard() -> bool:
        node.image.publish(message)
        return any("do not advance" in status.reason for status in node.statuses)

    assert node.wait(heard, 5) < 1.0
    assert node.set_parameter("max_age_ms", PATIENT_MS).successful
    answers = [node.send(node.rgb())[1].status for _ in range(3)]
    assert answers == [INVALID, INVALID, OK]
