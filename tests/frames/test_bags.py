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


def depth_fields(png: bytes) -> dict[str, Any]:
    return {"format": "16UC1; png compressed ", "data": np.frombuffer(png, np.uint8)}


def test_a_depth_topic_that_comes_first_is_passed_over(
    tmp_path: Path, scene: np.ndarray, png: bytes, write_bag: Callable[..., Path],
    raw: Callable[..., Any],
) -> None:  # fmt: skip
    messages = [("/depth", RAW, 1, raw(scene[..., :2], "16UC1"))]
    messages.append(("/depth/compressed", COMPRESSED, 2, depth_fields(png)))
    messages += [("/colour", RAW, 3 + n, raw(scene)) for n in range(2)]
    source = open_source(write_bag(tmp_path / "bag", messages))
    assert source.topic == "/colour"
    assert len(list(source)) == 2


def test_an_image_topic_without_messages_is_passed_over(
    tmp_path: Path, jpeg: bytes, compressed: Callable[..., Any]
) -> None:
    rosbag2, typesys = (pytest.importorskip(f"rosbags.{part}") for part in ("rosbag2", "typesys"))
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    kind = store.types[COMPRESSED]
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=0, nanosec=1), frame_id="cam"
    )
    with rosbag2.Writer(tmp_path / "bag", version=9) as writer:
        writer.add_connection("/asleep", COMPRESSED, typestore=store)
        awake = writer.add_connection("/awake", COMPRESSED, typestore=store)
        message = kind(header=header, **compressed(jpeg))
        writer.write(awake, 1, store.serialize_cdr(message, COMPRESSED))
    assert open_source(tmp_path / "bag").topic == "/awake"


def test_a_topic_without_a_picture_names_the_others(
    tmp_path: Path, png: bytes, write_bag: Callable[..., Path], jpeg: bytes,
    compressed: Callable[..., Any],
) -> None:  # fmt: skip
    messages = [("/depth", COMPRESSED, 1, depth_fields(png))]
    messages.append(("/colour", COMPRESSED, 2, compressed(jpeg)))
    bag = write_bag(tmp_path / "depth", messages)
    with pytest.raises(FrameError, match="choose with --topic, its image topics: /depth, /colour"):
        list(open_source(bag, topic="/depth"))


def test_pictures_with_a_metadata_file_of_their_own_are_no_bag(tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "metadata.yaml").write_text("camera: left\n")
    (tmp_path / "a.jpg").write_bytes(jpeg)
    assert [frame.name for frame in open_source(tmp_path)] == ["a"]
