"""What a photograph itself says: how far green confirms a label, its light, and a hash of it."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

HASH_BITS = 63
_LONG_SIDE = 384  # pixels: what is measured does not need more, and averaging removes noise
_BINS = 256


def shrink(image: Image, mask: Image | None = None, long_side: int = _LONG_SIDE) -> list[Image]:
    """The picture [H, W, 3] (and its mask [H, W]) with the longer side at most `long_side`."""
    factor = min(1.0, long_side / max(image.shape[:2]))
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = [np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)]
    if mask is not None:
        nearest = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        small.append(np.asarray(nearest, np.uint8))
    return small


def colour_index(image: Image) -> NDArray[np.float32]:
    """Excess green 2g - r - b on chromatic coordinates, float32 [H, W], -1 to 2.

    Woebbecke et al.: Color indices for weed identification, Trans. ASAE 38(1), 1995. The constant
    in the denominator keeps the noise of nearly black pixels from passing for colour.
    """
    blue, green, red = cv2.split(cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.float32))
    return np.asarray((2 * green - red - blue) / (red + green + blue + 30), np.float32)


def agreement(image: Image, mask: Image) -> float:
    """How well green alone can tell the mask's vegetation from its background, 0 to 1.

    The mean IoU of both sides at the best threshold of the colour index: a threshold for each
    picture, so light and species cancel out, while leaves that the mask misses and soil that it
    takes in both lower the figure. 0 where the mask has one side only.

    Args:
        image: uint8 [H, W, 3], BGR.
        mask: uint8 [H, W], 0 background, 1 vegetation; everything else does not count.
    """
    levels = np.clip((colour_index(image) + 0.3) / 1.3 * (_BINS - 1), 0, _BINS - 1).astype(np.uint8)
    plants = np.bincount(levels[mask == 1], minlength=_BINS)
    ground = np.bincount(levels[mask == 0], minlength=_BINS)
    total_plants, total_ground = plants.sum(), ground.sum()
    if not total_plants or not total_ground:
        return 0.0
    hit = plants[::-1].cumsum()[::-1]  # vegetation at or above each level
    false = ground[::-1].cumsum()[::-1]
    iou = hit / (total_plants + false)
    ground_iou = (total_ground - false) / (total_ground + total_plants - hit)
    return float(((iou + ground_iou) / 2)[1:].max())


def perceptual_hash(image: Image) -> int:
    """63 bits that stay nearly the same under scaling, recompression and small changes of light.

    The signs, about their median, of the lowest 8 x 8 DCT coefficients of the 32 x 32 grey picture,
    without the mean. Zauner: Implementation and benchmarking of perceptual image hash functions,
    2010.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()[1:]
    return sum(1 << bit for bit, high in enumerate(low > np.median(low)) if high)


def hash_signs(value: int) -> NDArray[np.float32]:
    """A hash as float32 [63] of -1 and 1: (63 - a @ b) / 2 is the number of bits that differ."""
    return np.array([1 if value >> bit & 1 else -1 for bit in range(HASH_BITS)], np.float32)


def light(image: Image) -> str:
    """The light as a rough class: dark, hard (deep shadows or a lamp's cone), dim or bright."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 3)
    low, middle, high = np.percentile(grey, (5, 50, 95))
    if middle < 40:
        return "dark"
    if low < 0.35 * high:
        return "hard"
    return "dim" if middle < 105 else "bright"


def canopy(cover: float) -> str:
    """How much of the picture plants cover (0 to 1), as a class: sparse, open or dense."""
    return "sparse" if cover < 0.1 else "open" if cover < 0.5 else "dense"
