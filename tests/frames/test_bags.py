"""Bags: topics, damage, and bags that hold no images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cropseg_edge.errors import FrameError
from cropseg_edge.frames import Frame, open_source

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TEXT = "std_msgs/msg/String"


def collect(path: Path, into: list[Frame]) -> None:
    """Read a bag, keeping the frames that came before an error."""
    for frame in open_source(path):
        into.append(frame)


@pytest.fixture
def two_cameras(
    tmp_path: Path,
    scene: np.ndarray,
    jpeg: bytes,
    write_bag: Callable[..., Path],
    raw: Callable[..., Any],
    compressed: Callable[..., Any],
) -> Path:
    messages = [("/chatter", TEXT, 1, {"data": "x"})]
    for stamp in range(2, 6):
        messages.append(("/left", RAW, stamp, raw(scene)))
        messages.append(("/right/compressed", COMPRESSED, stamp, compressed(jpeg)))
    return write_bag(tmp_path / "bag", messages)


def test_the_first_image_topic_is_the_default(two_cameras: Path) -> None:
    source = open_source(two_cameras)
    assert source.topic == "/left"
    assert len(list(source)) == 4


def test_a_topic_can_be_chosen(two_cameras: Path) -> None:
    source = open_source(two_cameras, topic="/right/compressed")
    assert len(list(source)) == 4


def test_a_missing_topic_lists_what_there_is(two_cameras: Path) -> None:
    with pytest.raises(FrameError, match=r"no image topic /front.*/chatter \(std_msgs/msg/String"):
        open_source(two_cameras, topic="/front")


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_a_bag_without_images_lists_its_topics(
    tmp_path: Path, write_bag: Callable[..., Path], storage: str
) -> None:
    bag = write_bag(tmp_path / "bag", [("/chatter", TEXT, 1, {"data": "x"})], storage)
    with pytest.raises(FrameError, match=r"no image topic.*its topics: /chatter \(std_msgs"):
        open_source(bag)


def test_a_bag_without_messages_says_so(tmp_path: Path, write_bag: Callable[..., Path]) -> None:
    with pytest.raises(FrameError, match="its topics: none"):
        open_source(write_bag(tmp_path / "bag", []))


def test_a_damaged_chunk_keeps_the_frames_before_it(
    tmp_path: Path, write_bag: Callable[..., Path], raw: Callable[..., Any]
) -> None:
    # Chunks close at 1 MiB, so that this bag has several.
    image = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    bag = write_bag(tmp_path / "bag", [("/cam", RAW, 1 + n, raw(image)) for n in range(8)])
    path = next(bag.glob("*.mcap"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 650_000] = b"\xa5" * 650_000  # over a message's header
    path.write_bytes(data)
    frames: list[Frame] = []
    with pytest.raises(FrameError, match=r"is damaged after \d messages of /cam"):
        collect(path, frames)
    assert 1 <= len(frames) < 8


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_bag_is_a_frame_error(
    tmp_path: Path,
    scene: np.ndarray,
    write_bag: Callable[..., Path],
    raw: Callable[..., Any],
    storage: str,
    share: float,
) -> None:
    bag = write_bag(tmp_path / "bag", [("/cam", RAW, 1 + n, raw(scene)) for n in range(9)], storage)
    path = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(FrameError, match="bag"):
        list(open_source(path))


def test_a_folder_with_a_broken_metadata_file_is_a_frame_error(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    with pytest.raises(FrameError, match="cannot be opened"):
        open_source(tmp_path)
