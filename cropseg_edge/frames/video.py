"""A video file as a source."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cropseg_edge.errors import FrameError
from cropseg_edge.files import opencv_name
from cropseg_edge.frames.frame import Frame

_LOG = logging.getLogger("cropseg_edge.frames")
_DEFAULT_RATE_HZ = 30.0


def _backends() -> list[int]:
    """What can open a file; OpenCV's other backends would try its name as a pattern or a URL."""
    backends = (cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER)
    return [backend for backend in backends if cv2.videoio_registry.hasBackend(backend)]


class VideoSource:
    """Gives every frame of a video; stamps count from 0 at the video's own rate or `rate_hz`."""

    def __init__(self, path: Path, *, rate_hz: float | None = None) -> None:
        """
        Raises:
            FrameError: not readable, or not a video that OpenCV can open.
            ConfigError: its name is not UTF-8.
        """
        try:
            path.open("rb").close()
        except OSError as error:
            raise FrameError(f"video {path} cannot be read: {error.strerror}") from error
        self._capture = cv2.VideoCapture()
        name = opencv_name(path)
        if not any(self._capture.open(name, backend) for backend in _backends()):
            raise FrameError(
                f"{path} is not a video that OpenCV can open, or is damaged; other "
                "sources are images (.jpg .png ...), folders and ROS 2 bags (.mcap, .db3)"
            )
        self.name = str(path)
        self.rate_hz: float | None = rate_hz or self._own_rate()
        self.failed = 0

    def _own_rate(self) -> float:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else _DEFAULT_RATE_HZ

    def __iter__(self) -> Iterator[Frame]:
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        period_ns = 1e9 / (self.rate_hz or _DEFAULT_RATE_HZ)
        sequence = 0
        while self._capture.grab():
            decoded, image = self._capture.retrieve()
            if decoded:
                yield Frame(
                    image=np.asarray(image, np.uint8),
                    stamp_ns=round(sequence * period_ns),
                    frame_id="camera",
                    sequence=sequence,
                    name=f"{sequence:06d}",
                )
            else:
                self.failed += 1
                _LOG.warning("%s: frame %d cannot be decoded; skipped", self.name, sequence)
            sequence += 1
        if sequence == self.failed:
            raise FrameError(f"{self.name}: no frame of the video can be decoded")
        # Containers round the count; a file that was cut short misses far more.
        missing = announced - sequence
        if missing > 1 + announced // 50:
            self.failed += missing
            _LOG.warning(
                "%s ends after %d of %d frames: it is cut short", self.name, sequence, announced
            )

    def close(self) -> None:
        self._capture.release()
