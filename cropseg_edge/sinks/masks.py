"""Masks as PNG files with the label values 0, 1, 2 and 255."""

from pathlib import Path

import cv2

from cropseg_edge.files import write_atomically
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask
from cropseg_edge.sinks.files import encode_image

# Label maps compress well at any level; the lowest is three times as fast.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class MaskSink:
    """Writes `folder/<frame name>.png`: 8-bit grey, the labels as they are, the frame's size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, mask: CropMask) -> None:
        png = encode_image(".png", mask.labels, _PNG_OPTIONS)
        write_atomically(self.folder / f"{frame.name}.png", png, durable=False)

    def close(self) -> None:
        """Nothing to finish."""
