"""The overlays as a video that a browser plays."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import opencv_name
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask
from cropseg_edge.sinks.files import partial_path
from cropseg_edge.sinks.overlay import OverlayPainter

_LOG = logging.getLogger("cropseg_edge.sinks")
# Browsers play VP8 and VP9 in WebM, and VP8 encodes four times as fast. MPEG-4 in .mp4 is what
# every OpenCV can write, but only players show it.
_CODECS = {".webm": ("VP80", "VP90"), ".mp4": ("mp4v",)}


class VideoSink:
    """Writes the overlays to a video; it appears under its name when the sink is closed.

    Where this OpenCV cannot write WebM the video becomes an .mp4 beside it: `path` says which.
    Frames of another size than the first are scaled to it.
    """

    def __init__(self, path: Path, painter: OverlayPainter, *, rate_hz: float = 10.0) -> None:
        """
        Raises:
            ConfigError: the file's suffix is neither .webm nor .mp4, or its name is not UTF-8.
        """
        if path.suffix.lower() not in _CODECS:
            raise ConfigError(f"video {path}: expected a name that ends in .webm or .mp4")
        if path.is_dir():
            raise ConfigError(f"video {path}: this is a folder; expected the name of a file")
        opencv_name(path)
        self.path = path
        self._painter = painter
        # MPEG-4 counts time in at most 65535ths of a second.
        self._rate_hz = min(max(round(rate_hz, 2), 0.01), 600.0)
        self._size = 0, 0
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: Frame, mask: CropMask) -> None:
        image = self._painter.draw(frame, mask)
        if self._writer is None:
            self._size = image.shape[1], image.shape[0]
            self._writer = self._open()
        if (image.shape[1], image.shape[0]) != self._size:
            self._writer.write(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA))
        else:
            self._writer.write(image)

    def _open(self) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        wanted = self.path.suffix.lower()
        for suffix in (wanted, ".mp4"):
            path = self.path.with_suffix(suffix)
            for codec in _CODECS[suffix]:
                with _quiet_stderr():
                    writer = cv2.VideoWriter(
                        opencv_name(partial_path(path)),
                        cv2.CAP_FFMPEG,
                        cv2.VideoWriter.fourcc(*codec),
                        self._rate_hz,
                        self._size,
                    )
                if writer.isOpened():
                    if suffix != wanted:
                        _LOG.warning("this OpenCV cannot write %s; writing %s", self.path, path)
                    self.path = path
                    return writer
        raise ConfigError(f"video {self.path}: this OpenCV has no encoder for .webm or .mp4")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            part = partial_path(self.path)
            try:
                _check_room(part)
                os.replace(part, self.path)
            except OSError as error:
                part.unlink(missing_ok=True)
                error.filename, error.filename2 = str(self.path), None
                raise


def _check_room(part: Path) -> None:
    """OSError where the disk is full: OpenCV does not say that it could not write."""
    size = part.stat().st_size
    with part.open("ab") as file:
        file.write(bytes(1 << 16))
    os.truncate(part, size)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what native code prints: OpenCV calls VP8 in WebM unsupported, and then writes it."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
