"""`select` spares what is there, says what is wrong, and can be cut off at any time."""

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.frames import read_set
from cropseg_edge.errors import ConfigError, CropSegError, StorageError
from tests.calibration.conftest import SOURCE, call

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures_of_mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    ramp = np.linspace(0, 200, 64, dtype=np.uint8)
    for i in range(3):
        image = np.dstack([np.tile(np.roll(ramp, 9 * i + c), (48, 1)) for c in (0, 20, 40)])
        cv2.imwrite(str(folder / f"{i:04d}.png"), image)
    return folder


@pytest.mark.parametrize("out", [".", ".."])
def test_a_set_does_not_mix_with_its_source(pictures_of_mine: Path, out: str) -> None:
    before = set(pictures_of_mine.parent.rglob("*"))
    with pytest.raises(ConfigError, match="is or holds the source"):
        call("select", pictures_of_mine, "--count", 2, "--out", pictures_of_mine / out)
    assert set(pictures_of_mine.parent.rglob("*")) == before


def test_select_replaces_no_picture_of_the_user(pictures_of_mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    out.mkdir()
    (out / "0001.png").write_bytes(b"mine too")
    assert call("select", pictures_of_mine, "--count", 2, "--out", out).exit_code == 0
    assert call("select", pictures_of_mine, "--count", 1, "--out", out).exit_code == 0
    assert (out / "0001.png").read_bytes() == b"mine too"


def test_select_leaves_nothing_but_the_set(frames: Path) -> None:
    listed = {frame.name for frame in read_set(frames).frames}
    assert {path.name for path in frames.iterdir()} == {*listed, "frames.json"}


@pytest.mark.parametrize(
    ("source", "options"),
    [("nowhere", ()), ("camera:4321", ()), ("mine", ("--split", "dev")), ("noise", ())],
)
def test_a_refused_source_leaves_no_folder(
    pictures_of_mine: Path, tmp_path: Path, source: str, options: tuple[str, ...]
) -> None:
    (pictures_of_mine / "splits.csv").write_text("dataset,stem,split\n")
    (tmp_path / "noise").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise" / "a.png"), noise)
    source = source if ":" in source else str(tmp_path / source)
    with pytest.raises(CropSegError):  # the first source's frames lie there by then
        call("select", SOURCE, source, *options, "--out", tmp_path / "new" / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "noise"}


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow past 1 KiB: writing fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("source", [SOURCE, "mine"])
def test_a_full_disk_is_named_with_what_to_do(
    tmp_path: Path, pictures_of_mine: Path, small_disk: None, source: str
) -> None:
    source = source if ":" in source else str(tmp_path / source)
    with pytest.raises(StorageError, match=r"/set.*: File too large; make room"):
        call("select", source, "--out", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGKILL, -9)])
def test_a_select_that_was_killed_leaves_the_set_before_and_can_be_repeated(
    frames: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    source, out = "simulator:species=maize,frames=4,width=64,height=48", tmp_path / "set"
    shutil.copytree(frames, out)
    killed = f"""if True:
        import os, sys
        import calibration.frames
        from calibration.__main__ import cli
        calibration.frames.write_atomically = lambda path, data: (
            os.kill(os.getpid(), {number}) if path.suffix == ".json" else path.write_bytes(data)
        )
        cli(sys.argv[1:])
    """
    arguments = [sys.executable, "-c", killed, "select", source, "--out", str(out)]
    assert subprocess.run(arguments, cwd=ROOT, capture_output=True).returncode == code
    assert read_set(out).frames == read_set(frames).frames
    if number == signal.SIGTERM:
        assert {path.name for path in out.iterdir()} == {path.name for path in frames.iterdir()}
    assert call("select", source, "--out", out).exit_code == 0
    test_select_leaves_nothing_but_the_set(out)


def test_fewer_frames_than_asked_for_are_said(
    pictures_of_mine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("0001.png", "0002.png"):
        (pictures_of_mine / name).write_bytes((pictures_of_mine / "0000.png").read_bytes())
    assert call("select", pictures_of_mine, "--count", 3, "--out", tmp_path / "set").exit_code == 0
    assert "only 1 of the 3 frames asked for" in caplog.text


def bag(folder: Path) -> Path:
    """A bag of two image topics: /left has one frame, /right two."""
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    kind, types = "sensor_msgs/msg/CompressedImage", store.types
    with rosbag2.Writer(folder, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        topics = {t: writer.add_connection(t, kind, typestore=store) for t in ("/left", "/right")}
        for stamp, topic in enumerate(("/left", "/right", "/right"), 1):
            ramp = np.roll(np.linspace(0, 200, 64, dtype=np.uint8), 9 * stamp)
            image = np.dstack([np.tile(np.roll(ramp, c), (48, 1)) for c in (0, 20, 40)])
            data = np.frombuffer(cv2.imencode(".png", image)[1].tobytes(), np.uint8)
            time = types["builtin_interfaces/msg/Time"](0, stamp)
            header = types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
            message = types[kind](header=header, format="png", data=data)
            writer.write(topics[topic], stamp, store.serialize_cdr(message, kind))
    return folder


def test_a_topic_is_for_the_bags_among_the_sources(tmp_path: Path) -> None:
    recorded, described = bag(tmp_path / "drive"), tmp_path / "described"
    described.mkdir()
    (described / "metadata.yaml").write_text("camera: left\n")
    frame = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    cv2.imwrite(str(described / "a.png"), cv2.resize(frame, (64, 48)))
    sources = (recorded, SOURCE, described)
    result = call("select", *sources, "--topic", "/right", "--out", tmp_path / "set")
    assert f"{described}: 1 pictures" in result.output
    assert f"{recorded}: 2 pictures" in result.output
    assert f"{SOURCE}: 3 pictures" in result.output
    result = call("select", SOURCE, "--topic", "/right", "--out", tmp_path / "set")
    assert result.exit_code == 2
    assert "none of the sources is a bag" in result.output
