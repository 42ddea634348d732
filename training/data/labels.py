"""Masks in, class sets out: a bit a class (1 background, 2 crop, 4 weed), 0 where nothing is known.

A mask value may leave classes open: 0 in a crop-only set means background or weed.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.labelled import Meaning, check_mask


def to_sets(
    mask: NDArray[np.uint8], meaning: Meaning, image: NDArray[np.uint8], name: str
) -> NDArray[np.uint8]:
    """Class sets of an image's mask, uint8 [H, W]; 255 is unknown.

    Raises:
        FrameError: the mask called `name` is of another size than the image, or holds a value that
            `meaning` does not explain.
    """
    check_mask(mask, meaning, image, name)
    return class_sets(meaning)[mask]


def class_sets(meaning: Meaning) -> NDArray[np.uint8]:
    """Look-up table uint8 [256] from mask value to set of classes as bits."""
    table = np.zeros(256, np.uint8)
    for value, classes in meaning.items():
        table[value] = sum(1 << c for c in classes)
    return table


def loosened(sets: NDArray[np.uint8], band: int) -> NDArray[np.uint8]:
    """Class sets uint8 [H, W] with what is up to `band` pixels from an outline unknown: labels that
    were drawn loosely say what is there, not where exactly it ends."""
    kernel = np.ones((2 * band + 1, 2 * band + 1), np.uint8)
    sure = cv2.dilate(sets, kernel) == cv2.erode(sets, kernel)
    return np.where(sure, sets, 0).astype(np.uint8, copy=False)
