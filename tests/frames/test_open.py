"""open_source recognises what is meant and says what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames import open as recognise
from cropseg_edge.frames import open_source


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ("0", 0),
        ("camera:2", 2),
        ("/dev/video11", 11),
        ("rtsp://10.0.0.2/stream", "rtsp://10.0.0.2/stream"),
        ("HTTP://10.0.0.2/mjpeg", "HTTP://10.0.0.2/mjpeg"),
        ("nvarguscamerasrc ! appsink", "nvarguscamerasrc ! appsink"),
        ("./0", None),
        ("frame0.jpg", None),
        ("camera:front", None),
        ("camera:99999999999", None),
    ],
)
def test_cameras_are_recognised(spec: str, address: int | str | None) -> None:
    assert recognise._camera_address(spec) == address


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jpg", None, "does not exist; expected an image"),
        ("x" * 5000, None, "cannot be read"),
        ("notes.txt", b"hello", "not a video that OpenCV"),
        ("empty.mp4", b"", "not a video that OpenCV"),
        ("cut.mp4", b"\0\0\0\x18ftypmp42", "not a video that OpenCV"),
        ("bad.mcap", b"no mcap", "cannot be opened"),
        ("bad.db3", b"no database", "cannot be opened"),
        ("empty.mcap", b"", "cannot be opened"),
    ],
)
def test_a_source_that_cannot_be_opened(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FrameError, match=message) as caught:
        open_source(str(path))
    assert len(str(caught.value).splitlines()) <= 2


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FrameError, match=r"no images \(.jpg .* among its 1 entries"):
        open_source(tmp_path)


def test_no_source_at_all_is_not_the_working_directory(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError, match="source is empty"):
        open_source("")


def test_a_missing_camera_is_a_frame_error() -> None:
    with pytest.raises(FrameError, match="/dev/video63 cannot be opened"):
        open_source("camera:63")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"topic": "/cam"}, "only in a bag"), ({"rate_hz": 0}, "above 0"), ({"rate_hz": -1}, "above")],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, jpeg: bytes, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with pytest.raises(ConfigError, match=message):
        open_source(tmp_path / "a.jpg", **options)
