"""CropMask: what comes out for a frame, and the contract that a controller can rely on.

Labels are 0 background, 1 crop, 2 weed, 255 unknown. Unknown is to be treated as crop: nothing in
this package ever turns a failure into background.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

BACKGROUND, CROP, WEED, UNKNOWN = 0, 1, 2, 255
CLASSES = ("background", "crop", "weed")
MOST_MARGIN = 200  # pixels that may be spared around crop


class Status(IntEnum):
    """How far a mask can be trusted; the values are those of `cropseg_msgs/CropMaskStatus`."""

    OK = 0
    DEGRADED = 1
    INVALID = 2


@dataclass(frozen=True, slots=True)
class CropMask:
    """The segmentation of one frame.

    Attributes:
        labels: uint8 [H, W] at the frame's size: 0 background, 1 crop, 2 weed, 255 unknown.
        confidence: uint8 [H, W]: probability of the label, 0 to 255 for 0 to 1; 0 where unknown.
        status: OK, DEGRADED or INVALID. An INVALID mask is 255 everywhere.
        reason: why the status is not OK; empty when it is.
        stamp_ns: the frame's stamp, never the time of computation.
        frame_id: the frame's coordinate frame.
        sequence: the frame's number in its source.
        bundle_sha256: hex digest of the model bundle that made the mask.
        stage_ms: milliseconds of each stage, in the order in which they ran.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    status: Status
    reason: str
    stamp_ns: int
    frame_id: str
    sequence: int
    bundle_sha256: str
    stage_ms: dict[str, float] = field(default_factory=dict)
