"""The active node as a separate process: images in, masks and statuses out."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cropseg_edge.mask import CROP, UNKNOWN
from cropseg_ros.graph import Graph

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

from cropseg_ros.conversions import from_mono8, stamp_ns
from tests.ros2.harness import NODE, picture

if TYPE_CHECKING:
    from tests.ros2.harness import Harness

OK, INVALID = 0, 2
PATIENT_MS = 5000  # so that a busy computer is not taken for a silent camera


@pytest.fixture(scope="module", autouse=True)
def node(graph: Graph, harness: Harness, tiny_bundle_path: Path) -> Iterator[Harness]:
    """An active segmentation node."""
    bundle = str(tiny_bundle_path)
    graph.start(
        "segmentation_node", {"autostart": True, "bundle": bundle, "max_age_ms": PATIENT_MS}
    )
    harness.connect(harness.rgb, harness.image)
    yield harness
    graph.stop("segmentation_node")


def test_100_frames_give_100_masks_with_the_same_stamps_and_sizes(harness: Harness) -> None:
    for _ in range(100):
        image = harness.rgb()
        mask, status = harness.send(image)
        assert mask.header == image.header
        assert (mask.height, mask.width, mask.encoding) == (48, 64, "mono8")
        assert status.status == OK, status.reason
        assert status.header == image.header
    labels = from_mono8(mask)
    assert labels[24, 32] == CROP
    assert labels[2, 2] != CROP


def test_status_tells_bundle_engine_age_and_stages(harness: Harness) -> None:
    _, status = harness.send(harness.rgb())
    assert len(status.bundle_sha256) == 64
    assert status.engine.startswith("onnxruntime")
    assert 0 < status.age_ms < PATIENT_MS
    stages = dict(zip(status.stage_names, status.stage_ms, strict=True))
    assert {"receive", "preprocess", "engine", "fade", "decode", "publish"} <= stages.keys()
    assert all(milliseconds >= 0 for milliseconds in stages.values())


def _wrong_encoding(harness: Harness) -> object:
    message = harness.rgb()
    message.encoding = "32FC7"
    return message


def _short_data(harness: Harness) -> object:
    message = harness.rgb()
    message.data = message.data[:-10]
    return message


def _too_small(harness: Harness) -> object:
    return harness.rgb(picture(8, 8))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_wrong_encoding, "32FC7"), (_short_data, "short"), (_too_small, "too small")],
)
def test_a_bad_image_gives_an_unknown_mask_and_the_next_one_is_fine(
    harness: Harness, spoil: object, reason: str
) -> None:
    message = spoil(harness)  # type: ignore[operator]
    mask, status = harness.send(message)
    assert status.status == INVALID
    assert reason in status.reason
    assert mask.header == message.header
    assert (mask.height, mask.width) == (message.height, message.width)
    assert set(mask.data) == {UNKNOWN}
    _, status = harness.send(harness.rgb())
    assert status.status == OK, status.reason


def test_a_size_that_the_data_cannot_hold_is_not_taken_over(harness: Harness) -> None:
    harness.send(harness.rgb())
    message = harness.rgb()
    message.width, message.height = 9999, 5000
    mask, status = harness.send(message)
    assert status.status == INVALID
    assert (mask.height, mask.width) == (48, 64)


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (640, 480), (480, 640), (17, 31)])
def test_mask_follows_the_image_when_its_size_changes(
    harness: Harness, size: tuple[int, int]
) -> None:
    mask, status = harness.send(harness.rgb(picture(*size)))
    assert status.status == OK, status.reason
    assert (mask.width, mask.height) == size
    assert from_mono8(mask)[size[1] // 2, size[0] // 2] == CROP


def test_a_black_image_protects_everything(harness: Harness) -> None:
    mask, status = harness.send(harness.rgb(np.zeros((48, 64, 3), np.uint8)))
    assert status.status == INVALID
    assert "dark" in status.reason
    assert (from_mono8(mask) == 255).all()


def test_a_stream_that_stops_is_invalid_in_time_and_recovers_with_three_frames(
    harness: Harness,
) -> None:
    for _ in range(7):  # the frame period is known and short, and so is the limit
        harness.send(harness.rgb())
    assert harness.set_parameter("max_age_ms", 500).successful
    harness.send(harness.rgb())
    del harness.statuses[:], harness.masks[:]
    waited_s = harness.wait(lambda: any(s.status == INVALID for s in harness.statuses), 3)
    assert waited_s < 0.8
    status = next(s for s in harness.statuses if s.status == INVALID)
    assert status.reason.startswith("stale")
    assert math.isnan(status.age_ms)
    harness.wait(lambda: harness.masks)
    assert set(harness.masks[-1].data) == {UNKNOWN}

    harness.set_parameter("max_age_ms", PATIENT_MS)
    answers = [harness.send(harness.rgb()) for _ in range(3)]
    assert [status.status for _, status in answers] == [INVALID, INVALID, OK]
    assert answers[0][1].reason.startswith("recovering")
    assert set(answers[1][0].data) == {UNKNOWN}


def test_frames_that_come_too_fast_are_dropped_and_counted(harness: Harness) -> None:
    before = harness.send(harness.rgb())[1]
    for message in [harness.rgb(picture(1920, 1080)) for _ in range(30)]:
        harness.image.publish(message)
    stamps = set()

    def answered() -> bool:  # what follows a burst may be lost on its way
        if any(stamp_ns(status.header) in stamps for status in harness.statuses):
            return True
        message = harness.rgb()
        stamps.add(stamp_ns(message.header))
        harness.image.publish(message)
        return False

    harness.wait(answered)
    _, after = harness.send(harness.rgb())
    numbers = {s.sequence for s in harness.statuses if s.sequence > before.sequence}
    assert len(numbers) == (after.sequence - before.sequence) - (after.dropped - before.dropped)


def test_a_reader_that_reads_no_more_holds_up_no_mask(harness: Harness) -> None:
    topic = f"{NODE}/mask"
    program = (
        "import rclpy; from sensor_msgs.msg import Image; from cropseg_ros.qos import profile\n"
        "rclpy.init(); node = rclpy.create_node('reader'); topic, hear = %r, lambda mask: None\n"
        "node.create_subscription(Image, topic, hear, profile('reliable', 1)); rclpy.spin(node)"
    )
    reader = subprocess.Popen([sys.executable, "-c", program % topic])
    try:
        harness.wait(lambda: harness.node.count_subscribers(topic) == 2, 20)
        reader.send_signal(signal.SIGSTOP)
        publish_ms = []
        for _ in range(20):
            _, status = harness.send(harness.rgb(picture(1920, 1080, seed=len(publish_ms))))
            publish_ms.append(
                dict(zip(status.stage_names, status.stage_ms, strict=True))["publish"]
            )
    finally:
        reader.send_signal(signal.SIGCONT)
        reader.terminate()  # one that is killed leaves its shared memory behind
        reader.wait(10)
    assert median(publish_ms) < 50  # half of the time for which a reliable writer waits for readers


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_age_ms", 10, "out of range"),
        ("max_age_ms", "soon", "type"),
        ("weed_confidence", 1.5, "out of range"),
        ("weed_confidence", float("nan"), "out of range"),
        ("transport", "pigeon", "read in configure"),
        ("bundle", "/other.cropseg", "read in configure"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_reason(
    harness: Harness, name: str, value: object, reason: str
) -> None:
    result = harness.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason.lower()


def test_a_margin_around_crop_is_spared_from_the_next_frame_on(harness: Harness) -> None:
    without = from_mono8(harness.send(harness.rgb())[0])
    assert harness.set_parameter("crop_margin", 3).successful
    spared = from_mono8(harness.send(harness.rgb())[0])
    assert harness.set_parameter("crop_margin", 0).successful
    assert UNKNOWN not in without
    assert spared[24, 32] == CROP
    row = spared[24].tolist()
    assert row[row.index(CROP) - 4 : row.index(CROP)] == [0, UNKNOWN, UNKNOWN, UNKNOWN]


def test_class_names_reach_a_late_subscriber(harness: Harness) -> None:
    from std_msgs.msg import String

    from cropseg_ros.qos import profile

    if harness.node.count_publishers(f"{NODE}/labels") == 0:
        pytest.skip("vision_msgs is here: the names are a LabelInfo")
    heard: list[String] = []
    subscription = harness.node.create_subscription(
        String, f"{NODE}/labels", heard.append, profile("reliable", 1, latched=True)
    )
    harness.wait(lambda: heard)
    assert heard[0].data == '{"0": "background", "1": "crop", "2": "weed", "255": "unknown"}'
    harness.node.destroy_subscription(subscription)


def test_confidence_and_overlay_come_once_somebody_listens(harness: Harness) -> None:
    from sensor_msgs.msg import Image

    from cropseg_ros.qos import profile

    heard: dict[str, list[Image]] = {"confidence": [], "overlay": []}
    subscriptions = [
        harness.node.create_subscription(
            Image, f"{NODE}/{topic}", messages.append, profile("reliable", 5)
        )
        for topic, messages in heard.items()
    ]
    harness.wait(lambda: all(heard.values()) or not harness.send(harness.rgb()))
    assert heard["confidence"][-1].encoding == "mono8"
    assert heard["overlay"][-1].encoding == "bgr8"
    for subscription in subscriptions:
        harness.node.destroy_subscription(subscription)
