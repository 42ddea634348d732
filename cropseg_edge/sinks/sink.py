"""Sink: what takes a frame with its mask."""

from typing import Protocol

from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask


class Sink(Protocol):
    """Takes every frame with its mask, in order; `close` finishes the file (idempotent)."""

    def write(self, frame: Frame, mask: CropMask) -> None: ...

    def close(self) -> None: ...
