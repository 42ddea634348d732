"""One suite over every kind of source: the contract of FrameSource."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames import Frame, FrameSource, open_source

COUNT = 4
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
PNG = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
KINDS = (
    "image",
    "folder",
    "video",
    "mcap raw",
    "mcap compressed",
    "mcap folder",
    "sqlite3 file",
    "sqlite3 folder",
    "simulator",
)


def write_video(path: Path, images: list[np.ndarray]) -> Path:
    size = images[0].shape[1], images[0].shape[0]
    codec = cv2.VideoWriter.fourcc(*"mp4v" if path.suffix == ".mp4" else "VP80")
    writer = cv2.VideoWriter(str(path), codec, 20.0, size)
    for image in images:
        writer.write(image)
    writer.release()
    return path


@pytest.fixture
def make(
    tmp_path: Path,
    scene: np.ndarray,
    jpeg: bytes,
    write_bag: Callable[..., Path],
    raw: Callable[..., dict[str, Any]],
    compressed: Callable[..., dict[str, Any]],
) -> Callable[[str], str]:
    """A function that makes the source of a kind, with COUNT frames, and returns its name."""

    def build(kind: str) -> str:
        stamps = [10**18 + index * 10**8 for index in range(COUNT)]
        raws = [("/cam", RAW, stamp, raw(scene[..., ::-1], "rgb8", 5)) for stamp in stamps]
        jpegs = [("/cam/compressed", COMPRESSED, stamp, compressed(jpeg)) for stamp in stamps]
        bag = tmp_path / "bag"
        if kind == "image":
            (tmp_path / "one.jpg").write_bytes(jpeg)
            return str(tmp_path / "one.jpg")
        if kind == "folder":
            for index in range(COUNT):
                (tmp_path / f"{index}.jpg").write_bytes(jpeg)
            return str(tmp_path)
        if kind == "video":
            return str(write_video(tmp_path / "drive.mp4", [scene] * COUNT))
        if kind == "simulator":
            pytest.importorskip("cropseg_edge.simulator.source")
            return f"simulator:frames={COUNT},width=64,height=48,seed=1"
        write_bag(
            bag,
            jpegs if "compressed" in kind else raws,
            "SQLITE3" if "sqlite3" in kind else "MCAP",
        )
        if kind.endswith("folder"):
            return str(bag)
        return str(next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3")))

    return build


def read(source: FrameSource) -> list[Frame]:
    try:
        return list(source)
    finally:
        source.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_keeps_the_contract(
    kind: str, make: Callable[[str], str], scene: np.ndarray
) -> None:
    source = open_source(make(kind))
    frames = read(source)
    source.close()  # idempotent
    assert len(frames) == (1 if kind == "image" else COUNT)
    assert source.failed == 0
    assert source.name
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert len({frame.name for frame in frames}) == len(frames)
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert kind == "image" or source.rate_hz is not None
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.flags.c_contiguous
        assert frame.frame_id
        assert (frame.truth is not None) == (kind == "simulator")
        if kind != "simulator":
            difference = np.abs(frame.image.astype(int) - scene)[6:18, 4:18]
            assert difference.max() <= (0 if kind in ("mcap folder", "sqlite3 file") else 12)


@pytest.mark.parametrize("kind", ["folder", "video", "simulator"])
def test_rate_sets_the_stamps(kind: str, make: Callable[[str], str]) -> None:
    source = open_source(make(kind), rate_hz=4.0)
    assert source.rate_hz == 4.0
    assert [frame.stamp_ns for frame in read(source)] == [
        index * 250_000_000 for index in range(COUNT)
    ]


def test_bag_frames_carry_the_header(make: Callable[[str], str]) -> None:
    frames = read(open_source(make("mcap raw")))
    assert [frame.stamp_ns for frame in frames] == [10**18 + n * 10**8 for n in range(COUNT)]
    assert {frame.frame_id for frame in frames} == {"cam_optical"}


def test_a_bag_message_without_stamp_gets_its_recording_time(
    tmp_path: Path, scene: np.ndarray, write_bag: Callable[..., Path], raw: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "bag", [("/cam", RAW, 0, raw(scene))])
    assert read(open_source(bag))[0].stamp_ns == 123


def test_folder_order_is_natural_and_names_are_unique(tmp_path: Path, jpeg: bytes) -> None:
    for name in ("f10.jpg", "f9.jpg", "F8.JPG", "f9.jpeg", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(jpeg)
    names = [frame.name for frame in read(open_source(tmp_path))]
    assert names == ["F8", "f9_jpeg", "f9_jpg", "f10"]


def test_no_two_files_of_a_folder_share_a_name(tmp_path: Path, jpeg: bytes) -> None:
    for name in ("a.jpg", "a.png", "a_jpg.png", "a_png.jpg", "b.x.jpg", "b_x.jpg"):
        (tmp_path / name).write_bytes(jpeg if name.endswith("jpg") else PNG)
    names = [frame.name for frame in read(open_source(tmp_path))]
    assert sorted(names) == ["a_jpg", "a_jpg_", "a_png", "a_png_", "b.x", "b_x"]


def test_a_video_with_a_colon_in_its_relative_name(
    tmp_path: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "drive.mp4", [scene] * 2).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read(open_source("12:30.mp4"))) == 2


def test_a_video_whose_name_is_not_utf_8_is_refused(tmp_path: Path, scene: np.ndarray) -> None:
    path = write_video(tmp_path / "drive.mp4", [scene]).rename(tmp_path / "\udcff.mp4")
    with pytest.raises(ConfigError, match="only names in UTF-8"):
        open_source(path)


def test_a_damaged_image_in_a_folder_is_skipped(
    tmp_path: Path, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for index, data in enumerate([jpeg, jpeg[:200], jpeg, b"", jpeg]):
        (tmp_path / f"{index}.jpg").write_bytes(data)
    source = open_source(tmp_path)
    with caplog.at_level(logging.WARNING, "cropseg_edge.frames"):
        frames = read(source)
    assert [frame.sequence for frame in frames] == [0, 2, 4]
    assert source.failed == 2
    assert "1.jpg: JPEG is cut short" in caplog.text


def test_frames_of_a_folder_keep_their_own_size(tmp_path: Path, scene: np.ndarray) -> None:
    for index, (height, width) in enumerate([(48, 64), (5, 7), (100, 30)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), cv2.resize(scene, (width, height)))
    shapes = [frame.image.shape for frame in read(open_source(tmp_path))]
    assert shapes == [(48, 64, 3), (5, 7, 3), (100, 30, 3)]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp"])
def test_other_image_files_are_read(tmp_path: Path, scene: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), scene)
    (frame,) = read(open_source(path))
    assert frame.name == "a"
    assert np.abs(frame.image.astype(int) - scene)[6:18, 4:18].max() <= 8


def test_a_damaged_single_image_is_an_error(tmp_path: Path, jpeg: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:-30])
    with pytest.raises(FrameError, match=r"a\.jpg: JPEG is cut short"):
        read(open_source(path))


def test_a_folder_without_one_good_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(FrameError, match="none of the 1 images"):
        read(open_source(tmp_path))


def test_a_video_that_is_cut_short_gives_what_it_has(
    tmp_path: Path, scene: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    whole = write_video(tmp_path / "whole.webm", list(noise)).read_bytes()
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole[: len(whole) // 2])
    source = open_source(cut)
    frames = read(source)
    assert 5 < len(frames) < 35
    assert source.failed >= 40 - len(frames) - 1
    assert "cut short" in caplog.text


def test_bad_bag_messages_are_skipped(
    tmp_path: Path,
    scene: np.ndarray,
    jpeg: bytes,
    write_bag: Callable[..., Path],
    raw: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    small = scene[:20, :30]
    fields = [raw(scene), raw(scene, "32FC1"), raw(small), raw(scene) | {"step": 3}, raw(scene)]
    bag = write_bag(tmp_path / "bag", [("/cam", RAW, 1 + n, f) for n, f in enumerate(fields)])
    source = open_source(bag)
    frames = read(source)
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64), (20, 30), (48, 64)]
    assert [frame.sequence for frame in frames] == [0, 2, 4]
    assert source.failed == 2
    assert "message 1: image encoding '32FC1' is not supported" in caplog.text


def test_damaged_jpegs_in_a_bag_are_skipped(
    tmp_path: Path,
    jpeg: bytes,
    write_bag: Callable[..., Path],
    compressed: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = jpeg[:-10] + b"\x55\x55" + jpeg[-8:]  # OpenCV decodes it without a word
    messages = [jpeg, damaged, jpeg]
    bag = write_bag(
        tmp_path / "bag", [("/c", COMPRESSED, 1 + n, compressed(m)) for n, m in enumerate(messages)]
    )
    source = open_source(bag)
    assert [frame.sequence for frame in read(source)] == [0, 2]
    assert source.failed == 1
    assert "message 1: JPEG data is damaged" in caplog.text
