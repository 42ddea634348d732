"""A single image file as a source of one frame."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.encodings import decode_compressed
from cropseg_edge.frames.frame import Frame

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file.

    Returns:
        uint8 [H, W, 3], BGR, upright (an EXIF orientation is applied); deeper samples are scaled
        to 8 bits, transparency is dropped.

    Raises:
        FrameError: unreadable, empty, cut short, damaged, or no image; the message names the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_image(data, path.suffix, str(path))


def decode_image(data: bytes, suffix: str, name: str) -> NDArray[np.uint8]:
    """The bytes of the image file called `name`, which ends in `suffix`; see `read_image`."""
    try:
        if suffix.lower() in (".jpg", ".jpeg", ".png") or not data:
            return decode_compressed(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except FrameError as error:
        raise FrameError(f"{name}: {error}") from error
    except cv2.error:
        image = None
    if image is None:
        raise FrameError(
            f"{name}: not an image that OpenCV can read, a damaged one, or larger than 50 MP"
        )
    return np.asarray(image, np.uint8)


class ImageSource:
    """Gives the one frame of an image file; a FrameError where it cannot be read."""

    rate_hz: float | None = None

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.failed = 0
        self._path = path

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(
            image=read_image(self._path),
            stamp_ns=0,
            frame_id="camera",
            sequence=0,
            name=self._path.stem,
        )

    def close(self) -> None:
        """Nothing to free."""
