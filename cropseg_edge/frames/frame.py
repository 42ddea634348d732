"""Frame: one camera picture with its stamp, and FrameSource: what frames come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera picture.

    Attributes:
        image: uint8 [H, W, 3], BGR.
        stamp_ns: time of exposure in nanoseconds: of the camera's clock where the source has one,
            otherwise counted from 0 at the source's frame rate.
        frame_id: the coordinate frame, as in a ROS header.
        sequence: number of the frame in its source, from 0; unreadable frames leave gaps.
        name: the file's stem where the frame is a file, otherwise `sequence` with six digits.
        truth: uint8 [H, W] ground-truth labels (0, 1, 2, 255) where the source knows them
            (the simulator), otherwise None.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    frame_id: str
    sequence: int
    name: str
    truth: NDArray[np.uint8] | None = None


class FrameSource(Protocol):
    """Where frames come from. Iterate it once; `close` frees what it holds (idempotent).

    A frame that cannot be read is logged at WARNING (logger `cropseg_edge.frames`), counted in
    `failed`, and the iteration goes on with the next one.
    """

    name: str
    rate_hz: float | None
    failed: int

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...
