"""Overlays as JPEG files."""

from pathlib import Path

import cv2

from cropseg_edge.files import write_atomically
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask
from cropseg_edge.sinks.files import encode_image
from cropseg_edge.sinks.overlay import OverlayPainter


class OverlaySink:
    """Writes `folder/<frame name>.jpg`."""

    def __init__(self, folder: Path, painter: OverlayPainter) -> None:
        self.folder = folder
        self._painter = painter
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, mask: CropMask) -> None:
        jpeg = encode_image(".jpg", self._painter.draw(frame, mask), [cv2.IMWRITE_JPEG_QUALITY, 88])
        write_atomically(self.folder / f"{frame.name}.jpg", jpeg, durable=False)

    def close(self) -> None:
        """Nothing to finish."""
