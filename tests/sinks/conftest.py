"""Frames with masks for the tests of sinks."""

from collections.abc import Callable

import numpy as np
import pytest

from cropseg_edge.frames import Frame
from cropseg_edge.mask import CropMask, Status

Pair = tuple[Frame, CropMask]


@pytest.fixture(scope="session")
def pair() -> Callable[..., Pair]:
    """A function that makes a frame and its mask: a crop square, a weed square, soil."""

    def make(
        sequence: int = 0,
        *,
        status: Status = Status.OK,
        reason: str = "",
        size: tuple[int, int] = (64, 48),
        truth: bool = True,
        stage_ms: dict[str, float] | None = None,
    ) -> Pair:
        width, height = size
        image = np.full((height, width, 3), (60, 80, 100), np.uint8)
        labels = np.zeros((height, width), np.uint8)
        labels[8:24, 8:24] = 1
        labels[8:24, 32:40] = 2
        correct = labels.copy()
        if status is Status.INVALID:
            labels[:] = 255
        confidence = np.where(labels == 255, 0, 204).astype(np.uint8)
        stamp_ns = 5 * 10**9 + sequence * 10**8
        frame = Frame(
            image, stamp_ns, "cam", sequence, f"{sequence:06d}", correct if truth else None
        )
        times = {"engine": 80.0 + sequence, "upsample": 4.0} if stage_ms is None else stage_ms
        mask = CropMask(
            labels, confidence, status, reason, stamp_ns, "cam", sequence, "ab" * 32, times
        )
        return frame, mask

    return make
