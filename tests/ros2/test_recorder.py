"""The recorder: whatever goes wrong, what came till then is written down."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")

from cropseg_msgs.msg import CropMaskStatus
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message

from cropseg_edge.errors import StorageError
from cropseg_ros.conversions import to_image
from cropseg_ros.recorder_node import RecorderNode, write_recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ros2.harness import Harness


@pytest.fixture
def recorder(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecorderNode]:
    """A recorder that writes into a folder of this test."""
    monkeypatch.chdir(tmp_path)
    node = RecorderNode()
    yield node
    node.close()
    node.destroy_node()


def _store(recorder: RecorderNode, image: Any) -> None:
    """Let the recorder receive an image, its mask and its status."""
    mask = to_image(image.header, np.zeros((48, 64), np.uint8), "mono8")
    status = CropMaskStatus(header=image.header, engine="none", bundle_sha256="0" * 64)
    for topic, message in (("image", image), ("mask", mask), ("status", status)):
        recorder._store(topic, serialize_message(message))


def _summary(recorder: RecorderNode) -> Any:
    return json.loads((recorder.out / "summary.json").read_text())


@pytest.mark.parametrize("spoilt", [1, 3])
def test_an_image_that_cannot_be_decoded_is_counted_and_the_others_are_written(
    recorder: RecorderNode, harness: Harness, spoilt: int
) -> None:
    images = [harness.rgb() for _ in range(3)]
    for image in images[:spoilt]:
        image.encoding = "32FC7"
    for image in images:
        _store(recorder, image)
    write_recording(recorder)
    summary = _summary(recorder)
    assert (summary["frames"], summary["failed"]) == (3 - spoilt, spoilt)


def test_when_the_disk_is_full_what_came_before_is_written(
    recorder: RecorderNode, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(topic: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(2):
        _store(recorder, harness.rgb())
    monkeypatch.setattr(recorder.spool, "write", full)
    _store(recorder, harness.rgb())
    assert "No space left" in recorder.full
    with pytest.raises(StorageError, match="No space left"):
        write_recording(recorder)
    assert _summary(recorder)["frames"] == 2


def test_images_of_a_camera_that_publishes_best_effort_are_heard(
    recorder: RecorderNode, harness: Harness
) -> None:
    harness.wait(lambda: recorder.get_subscriptions_info_by_topic("image"))
    (image,) = recorder.get_subscriptions_info_by_topic("image")
    assert image.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ("module", "parameter", "message"),
    [
        ("recorder_node", "out:=/proc/nope", "/proc/nope"),
        ("camera_node", "rate_hz:=.nan", "rate_hz must be"),
        ("camera_node", "rate_hz:=-5.0", "rate_hz must be"),
        ("camera_node", "preload:=-1", "preload must be"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_one_line_and_exit_code_2(
    module: str, parameter: str, message: str
) -> None:
    command = [sys.executable, "-m", f"cropseg_ros.{module}", "--ros-args", "-p", parameter]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
