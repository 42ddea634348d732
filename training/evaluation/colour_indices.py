"""Baselines that need no training: a picture in, green in it out. BGR uint8 [H, W, 3] to labels.

They tell plants from soil, not crop from weed: every plant is called crop (1). Excess green:
Woebbecke et al., Trans. ASAE 38(1), 1995; threshold: Otsu, IEEE Trans. SMC 9(1), 1979.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.evaluation import Segment
from cropseg_edge.labelled import Labels

VERSION = 1  # of what follows: another one counts everything again
EXG_THRESHOLD = 0.1
HSV_LOW, HSV_HIGH = (30, 40, 40), (90, 255, 255)  # OpenCV's H is 0 to 180


def excess_green(image: Labels) -> NDArray[np.float32]:
    """2 g - r - b of the chromatic coordinates (each channel over their sum), -1 to 2;
    black is 0."""
    x = image.astype(np.float32)
    total = x.sum(2)
    return np.asarray((3 * x[..., 1] - total) / np.maximum(total, 1), np.float32)


def exg_otsu(image: Labels) -> Labels:
    """ExG, quantised to 8 bits over -1 to 2, above Otsu's threshold."""
    return _otsu((excess_green(image) + 1) * 85)


def exg_raw_otsu(image: Labels) -> Labels:
    """2 G - R - B of the 8-bit channels, clipped to 0 to 255, above Otsu's threshold."""
    blue, green, red = cv2.split(image.astype(np.float32))
    return _otsu(2 * green - red - blue)


def exg_fixed(image: Labels) -> Labels:
    """ExG above 0.1."""
    return np.asarray(excess_green(image) > EXG_THRESHOLD, np.uint8)


def hsv_green(image: Labels) -> Labels:
    """Hue 60 to 180 degrees, saturation and value above 40 of 255."""
    inside = cv2.inRange(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), HSV_LOW, HSV_HIGH)
    return np.asarray(inside > 0, np.uint8)


def _otsu(values: NDArray[np.float32]) -> Labels:
    grey = np.clip(values, 0, 255).astype(np.uint8)
    _, mask = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(mask, np.uint8)


INDICES: dict[str, Segment] = {
    "ExG + Otsu": exg_otsu,
    "ExG > 0.1": exg_fixed,
    "2G-R-B + Otsu": exg_raw_otsu,
    "HSV green": hsv_green,
}
BASELINES = {"exg": ("ExG + Otsu", "ExG > 0.1", "2G-R-B + Otsu"), "hsv": ("HSV green",)}
