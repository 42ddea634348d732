"""Bad input: exit code 2, one or two lines that say what is wrong, nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropseg_edge.bundle.archive import MANIFEST, pack, unpack
from tests.cli.conftest import Cropseg, Result


def picture(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 120, (height, width, 3)).astype(np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2, 1] = 200
    return image


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def assert_refused(result: Result, *words: str) -> None:
    assert result.code == 2, result
    assert "Traceback" not in result.err
    assert 1 <= len(result.err.strip().splitlines()) <= 2, result.err
    assert result.err.strip().splitlines()[-1].startswith("error: ")
    for word in words:
        assert word in result.err


def bad_truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def bad_flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def bad_hash(data: bytes) -> bytes:
    members = unpack(data, "x")
    return pack({**members, "model.onnx": members["model.onnx"] + b"\0"})


def bad_path(data: bytes) -> bytes:
    return pack({**unpack(data, "x"), "../outside": b"1"})


def bad_key(data: bytes) -> bytes:
    members = unpack(data, "x")
    manifest = members[MANIFEST].replace(b'"format"', b'"magic": 1, "format"', 1)
    return pack({**members, MANIFEST: manifest})


BUNDLES = {
    "truncated": bad_truncated,
    "bit-flipped": bad_flipped,
    "wrong hash": bad_hash,
    "member outside": bad_path,
    "unknown key": bad_key,
    "empty": lambda data: b"",
    "text": lambda data: b"not a bundle",
}


@pytest.mark.parametrize("kind", BUNDLES)
@pytest.mark.parametrize("command", ["info", "verify", "run", "eval"])
def test_a_corrupt_bundle(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, kind: str, command: str
) -> None:
    bad, out = tmp_path / "bad.cropseg", tmp_path / "out"
    bad.write_bytes(BUNDLES[kind](tiny_bundle_path.read_bytes()))
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    arguments: dict[str, tuple[object, ...]] = {
        "info": (bad,),
        "verify": (bad,),
        "run": (tmp_path / "a.jpg", "--out", out, "--bundle", bad),
        "eval": (tmp_path, tmp_path, "--bundle", bad, "--json", tmp_path / "figures.json"),
    }
    assert_refused(cropseg(command, *arguments[command]), "bad.cropseg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "bad.cropseg"]


def make_nothing(path: Path) -> Path:
    return path / "none.mp4"


def make_text_video(path: Path) -> Path:
    (path / "a.mp4").write_text("this is no video")
    return path / "a.mp4"


def make_empty_folder(path: Path) -> Path:
    (path / "folder").mkdir()
    return path / "folder"


def make_truncated_jpeg(path: Path) -> Path:
    data = jpeg(picture(640, 480))
    (path / "a.jpg").write_bytes(data[: len(data) // 2])
    return path / "a.jpg"


def make_small_picture(path: Path) -> Path:
    (path / "a.png").write_bytes(cv2.imencode(".png", picture(15, 40))[1].tobytes())
    return path / "a.png"


def make_broken_bag(path: Path) -> Path:
    (path / "a.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    return path / "a.mcap"


def make_simulator(path: Path) -> str:
    return "simulator:species=oak"


@pytest.mark.parametrize(
    "make",
    [
        make_nothing,
        make_text_video,
        make_empty_folder,
        make_truncated_jpeg,
        make_small_picture,
        make_broken_bag,
        make_simulator,
    ],
)
def test_a_source_without_one_usable_frame(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, make: Callable[[Path], object]
) -> None:
    source, out = make(tmp_path), tmp_path / "out"
    result = cropseg("run", source, "--out", out, "--bundle", tiny_bundle_path)
    assert_refused(result)
    assert not out.exists()


def test_a_bag_without_images(cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path) -> None:
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    text = store.types["std_msgs/msg/String"]
    bag = tmp_path / "bag"
    with rosbag2.Writer(bag, version=9) as writer:
        chatter = writer.add_connection("/chatter", text.__msgtype__, typestore=store)
        writer.write(chatter, 1, store.serialize_cdr(text("hello"), text.__msgtype__))
    out = tmp_path / "out"
    result = cropseg("run", bag, "--out", out, "--bundle", tiny_bundle_path)
    assert_refused(result, "image")
    assert not out.exists()


def test_a_stream_goes_on_after_bad_frames(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    data = jpeg(picture(640, 480))
    for name, content in {
        "1": jpeg(picture(seed=1)),
        "2": data[: len(data) // 2],
        "3": jpeg(picture(12, 12)),
        "4": b"",
        "5": jpeg(picture(60, 200)),  # another size, portrait
    }.items():
        (frames / f"{name}.jpg").write_bytes(content)
    result = cropseg("run", frames, "--out", out, "--bundle", tiny_bundle_path)
    assert result.code == 0, result
    assert len(result.err.strip().splitlines()) == 3, "one warning for each bad frame"
    masks = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in out.glob("masks/*")}
    assert {stem: mask.shape for stem, mask in masks.items()} == {"1": (64, 96), "5": (200, 60)}
    assert "2 frames" in result.out
    assert "3 unusable" in result.out


def test_an_unwritable_folder(cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    (tmp_path / "file").write_text("in the way")
    result = cropseg(
        "run", tmp_path / "a.jpg", "--out", tmp_path / "file", "--bundle", tiny_bundle_path
    )
    assert_refused(result, "file")


def test_an_output_that_is_the_source_itself(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"a recording")
    (tmp_path / "link.mp4").symlink_to(video)
    arguments = ("--out", tmp_path / "out", "--bundle", tiny_bundle_path)
    assert_refused(
        cropseg("run", video, "--video", tmp_path / "link.mp4", *arguments), "source itself"
    )
    assert video.read_bytes() == b"a recording"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--mcap", "--video"])
def test_an_output_in_the_folder_that_is_read(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, option: str
) -> None:
    recording = tmp_path / "drive" / {"--mcap": "drive.mcap", "--video": "drive.mp4"}[option]
    recording.parent.mkdir()
    recording.write_bytes(b"a recording")
    arguments = ("--out", tmp_path / "out", "--bundle", tiny_bundle_path)
    result = cropseg("run", recording.parent, option, recording, *arguments)
    assert_refused(result, "is in the source folder")
    assert recording.read_bytes() == b"a recording"


def test_pictures_that_an_earlier_run_left_are_not_cleared_before_they_are_read(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    arguments = ("--out", tmp_path / "out", "--bundle", tiny_bundle_path)
    assert cropseg("run", tmp_path / "a.jpg", *arguments).code == 0
    for source in ("out/overlays", "out/overlays/a.jpg", "out/masks"):
        assert_refused(cropseg("run", tmp_path / source, *arguments), "clears first")
    assert (tmp_path / "out/overlays/a.jpg").exists()


def test_an_image_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, tiny_bundle_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "bomb.tif"), np.zeros((7000, 8000), np.uint8))
    command = [sys.executable, "-m", "cropseg_edge", "run", "bomb.tif", "--out", "out"]
    command += ["--bundle", str(tiny_bundle_path)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2, done
    assert "larger than 50 MP" in done.stderr


def test_a_figures_file_without_its_folder(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    result = cropseg("eval", tmp_path, "--json", tmp_path / "no/x.json")
    assert result.code == 2
    assert "no folder" in result.err


@pytest.mark.parametrize("command", ["bench", "doctor", "eval"])
def test_a_figures_file_that_cannot_be_written_is_said_before_anything_is_measured(
    cropseg: Cropseg, tmp_path: Path, command: str
) -> None:
    arguments = [tmp_path / "nothing"] if command == "eval" else []
    result = cropseg(command, *arguments, "--json", tmp_path)
    assert result.code == 2
    assert result.err == f"error: {tmp_path}: Is a directory\n"
    assert not result.out


@pytest.mark.parametrize("command", ["bench", "eval", "run"])
def test_more_threads_than_any_board_has_are_refused(
    cropseg: Cropseg, tmp_path: Path, command: str
) -> None:
    sources = {"bench": [], "eval": [tmp_path], "run": [tmp_path, "--out", tmp_path / "out"]}
    result = cropseg(command, *sources[command], "--threads", 99999)
    assert result.code == 2
    assert "99999 is not in the range" in result.err


@pytest.mark.parametrize(
    "arguments", [("fly",), ("run",), ("run", "0"), ("run", "0", "--out", "x", "--max-frames", "0")]
)
def test_a_wrong_use(cropseg: Cropseg, arguments: tuple[str, ...]) -> None:
    result = cropseg(*arguments)
    assert result.code == 2
    assert "Error: " in result.err
    assert "Traceback" not in result.err


def test_a_package_that_cannot_be_imported(
    cropseg: Cropseg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = cropseg("run", "simulator:frames=1", "--out", tmp_path, "--bundle", tiny_bundle_path)
    assert_refused(result, "onnxruntime", "cropseg doctor")
