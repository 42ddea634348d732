"""A picture and its depth in, a pseudo label out: vegetation, background, or unsure.

After DepthCropSeg (Cao et al., Plant Phenomics 2025: normalise depth, threshold it, post-process
with depth in hand), with a fitted ground instead of a level one, a threshold for each picture, and
a decision whether the picture separates at all.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.config import Section
from training.pseudo_labels.appearance import colour_evidence
from training.pseudo_labels.distribution import otsu
from training.pseudo_labels.ground import fit_ground
from training.pseudo_labels.guided_filter import guided_filter

F32 = NDArray[np.float32]
BACKGROUND, CROP, WEED, VEGETATION, UNSURE = 0, 1, 2, 3, 255  # vegetation: crop or weed
PARTS = ("agreement", "separation", "ground", "known", "sure", "vegetation")
_STEEPNESS = 0.7  # deviations of the ground over which the evidence goes from 0.27 to 0.73


class LabelConfig(Section):
    """How labels are made."""

    size: int = Field(1024, ge=64)  # pictures are worked on at most this long, pixels
    sigmas: float = Field(1.0, ge=0)  # the threshold of height, deviations of this ground
    radius: int = Field(4, ge=1)  # of the guided filter, pixels at 640 wide
    eps: float = Field(1e-3, gt=0)  # colour variance that the guided filter takes for flat
    margin: float = Field(0.2, ge=0, lt=0.5)  # unsure this near the threshold, share of the gap
    least_agreement: float = Field(0.25, ge=0, le=1)  # gates; see `PseudoLabel.parts`
    least_separation: float = Field(0.8, ge=0, le=1)


@dataclass(frozen=True)
class PseudoLabel:
    """A label and how far it can be trusted.

    Attributes:
        mask: uint8 [H, W], 0 background, 1 crop, 2 weed, 3 vegetation (crop or weed), 255 unsure.
        score: 0 to 1, geometric mean of agreement, separation, known and sure.
        parts: each 0 to 1: `agreement` share of the heights' variance that colour explains,
            `separation` of the two sides (Otsu's eta), `ground` share of the picture on the ground
            plane, `known` share of pixels with height, `sure` share of pixels that are not 255,
            `vegetation` share of the sure pixels.
        reason: why the picture does not separate; empty where it does.
    """

    mask: NDArray[np.uint8]
    score: float
    parts: dict[str, float]
    reason: str


def pseudo_label(
    image: NDArray[np.uint8], depth: F32, config: LabelConfig | None = None
) -> PseudoLabel:
    """Label a picture by its depth: ground off, threshold, colours, edges, doubts.

    Args:
        image: uint8 [H, W, 3] BGR.
        depth: float32 [H, W], metres or relative, larger is farther; NaN unknown; one that
            `training.pseudo_labels.depth_files.check_depth` accepts.
        config: defaults where None.
    """
    config = config or LabelConfig()
    height, width = image.shape[:2]
    shrink = min(1.0, config.size / max(height, width))
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    if shrink < 1:
        picture = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        depth = np.asarray(cv2.resize(depth, small, interpolation=cv2.INTER_NEAREST), np.float32)
    else:
        picture = image

    ground = fit_ground(depth)
    evidence = height_evidence(ground.height, config.sigmas)
    colour, agreement = colour_evidence(picture, evidence)
    split = otsu(colour.ravel())
    radius = max(1, round(config.radius * small[0] / 640))
    clean = guided_filter(picture, colour, radius, config.eps)
    # 0 on the threshold, and 1 from the mean of one side to the mean of the other.
    centred = (clean - split.threshold) / max(split.high - split.low, 1e-6)
    centred = cv2.resize(centred, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.where(centred > 0, VEGETATION, BACKGROUND).astype(np.uint8)
    mask[np.abs(centred) <= config.margin] = UNSURE

    sure = int(np.count_nonzero(mask != UNSURE))
    parts = {
        "agreement": agreement,
        "separation": split.separation,
        "ground": ground.support,
        "known": float(np.isfinite(ground.height).mean()),
        "sure": sure / mask.size,
        "vegetation": float(np.count_nonzero(mask == VEGETATION) / max(sure, 1)),
    }
    score = float(
        np.prod([parts[key] for key in ("agreement", "separation", "known", "sure")]) ** 0.25
    )
    return PseudoLabel(mask, score, parts, _doubt(parts, config))


def height_evidence(height: F32, sigmas: float) -> F32:
    """Heights as evidence from 0 to 1, one half at the threshold; NaN stays.

    The threshold lies `sigmas` deviations of this picture's ground above the plane. They are
    measured below the plane, where there is nothing but ground.
    """
    below = height[height < 0]
    sigma = max(1.4826 * float(np.median(-below)) if below.size else 0.0, 1e-5)
    steps = np.clip((height / sigma - sigmas) / _STEEPNESS, -20, 20)
    return np.asarray(1 / (1 + np.exp(-steps)), np.float32)


def _doubt(parts: dict[str, float], config: LabelConfig) -> str:
    """Why a picture does not separate, or nothing."""
    for key, least, meaning in (
        ("separation", config.least_separation, "the picture has no two sides"),
        ("agreement", config.least_agreement, "heights and colours do not agree"),
    ):
        if parts[key] < least:
            return f"{meaning}: {key} {parts[key]:.2f}, at least {least:.2f} is needed"
    if not 0 < parts["vegetation"] < 1:
        return "only one side is sure"
    return ""
