"""SimulatedFrame: an image and everything that is true about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.camera import Intrinsics, Pose


@dataclass(frozen=True, slots=True)
class RowLine:
    """One crop row: parallel to world x at `offset_m` (world y).

    Attributes:
        offset_m: world y in metres.
        image: float32 [2, 2], two points (x, y) in pixels: where the row line enters and leaves
            the image.
    """

    offset_m: float
    image: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PlantTruth:
    """The plants whose foot is inside the image, one entry each.

    Attributes:
        world_m: float64 [P, 3], foot in the world.
        pixel: float32 [P, 2], foot in the image (x, y).
        label: uint8 [P], 1 crop or 2 weed.
    """

    world_m: NDArray[np.float64]
    pixel: NDArray[np.float32]
    label: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """One frame of a simulated drive.

    Attributes:
        image: uint8 [H, W, 3], BGR.
        labels: uint8 [H, W]; 0 background, 1 crop, 2 weed.
        depth_m: float32 [H, W], metres along the optical axis (REP-118), ground included.
        rows: the crop rows that cross the image.
        plants: the plants in the image.
        pose: of the camera in the world.
        camera: intrinsics.
        stamp_ns: time since the start of the drive.
        index: number of the frame.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    rows: tuple[RowLine, ...]
    plants: PlantTruth
    pose: Pose
    camera: Intrinsics
    stamp_ns: int
    index: int
