"""open_source: a word on the command line becomes a source of frames."""

import re
from pathlib import Path

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.frame import FrameSource
from cropseg_edge.frames.image import IMAGE_SUFFIXES, ImageSource

BAG_SUFFIXES = (".mcap", ".db3")

_URL = re.compile(r"(rtsps?|https?)://", re.IGNORECASE)
_V4L2 = re.compile(r"(?:camera:)?(\d{1,4})|/dev/video(\d{1,4})")
_KINDS = (
    "an image, a folder of images, a video file, a ROS 2 bag (.mcap, .db3 or its folder), a camera "
    '(camera:0, /dev/video0, rtsp://..., a GStreamer pipeline with " ! ") or simulator:'
)


def open_source(
    spec: str | Path, *, rate_hz: float | None = None, topic: str | None = None
) -> FrameSource:
    """Recognise what `spec` names and open it.

    Args:
        spec: `simulator:...`; a GStreamer pipeline (contains " ! "); an rtsp:// or http:// URL; a
            camera as "0", "camera:0" or "/dev/video0"; or the path of an image, a folder of
            images, a bag or a video. A file or folder that is called "0" is reached as "./0".
        rate_hz: frames per second. Folders count their stamps with it (10 by default), videos and
            the simulator use it in place of their own, cameras are asked for it.
        topic: the image topic of a bag; the first image topic by default.

    Returns:
        A source that is open and has not been read yet.

    Raises:
        FrameError: there is no such source, or it cannot be opened.
        ConfigError: `rate_hz` or `topic` does not fit.
    """
    text = str(spec)
    if rate_hz is not None and not rate_hz > 0:
        raise ConfigError(f"rate_hz must be above 0, not {rate_hz}")
    source = _open(text, rate_hz, topic)
    if topic is not None and not hasattr(source, "topic"):
        source.close()
        raise ConfigError(f"a topic ({topic}) can be chosen only in a bag, and {text!r} is none")
    return source


def _open(text: str, rate_hz: float | None, topic: str | None) -> FrameSource:
    if text == "simulator" or text.startswith("simulator:"):
        return _open_simulator(text, rate_hz)
    if (camera := _camera_address(text)) is not None:
        from cropseg_edge.frames.camera import CameraSource

        return CameraSource(camera, rate_hz=rate_hz)
    if not text:
        raise FrameError(f"the source is empty; expected {_KINDS}")
    path = Path(text)
    try:
        path.stat()
    except FileNotFoundError as error:
        raise FrameError(f"source {text!r} does not exist; expected {_KINDS}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FrameError(f"source {text[:80]!r} cannot be read: {reason}") from error
    if is_bag(path):
        from cropseg_edge.frames.bag import BagSource

        return BagSource(path, topic=topic)
    if path.is_dir():
        from cropseg_edge.frames.folder import FolderSource

        return FolderSource(path, rate_hz=rate_hz)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path)
    from cropseg_edge.frames.video import VideoSource

    return VideoSource(path, rate_hz=rate_hz)


def is_bag(path: Path) -> bool:
    """Whether a path is that of a ROS 2 bag: by a file's suffix, or by a folder's metadata.yaml.

    Pictures may have a metadata.yaml of their own: a bag's has one key that tells.
    """
    if path.suffix.lower() in BAG_SUFFIXES:
        return True
    try:
        text = (path / "metadata.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "rosbag2_bagfile_information" in text


def _camera_address(text: str) -> int | str | None:
    """V4L2 index, URL or pipeline; None where `text` is no camera."""
    if " ! " in text or _URL.match(text):
        return text
    found = _V4L2.fullmatch(text)
    return int(found[1] or found[2]) if found else None


def _open_simulator(text: str, rate_hz: float | None) -> FrameSource:
    from cropseg_edge.simulator.source import SimulatorSource

    spec = text if ":" in text else f"{text}:"
    if rate_hz is not None:
        spec += ("" if spec.endswith(":") else ",") + f"rate_hz={rate_hz:g}"
    return SimulatorSource(spec)
