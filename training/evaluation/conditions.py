"""The conditions that a picture was taken under: stated by the root, or measured where they can be.

Light is taken from the root's tables (sun, shade, cloud, dusk, night). A camera's exposure hides
most of it, so that only one class is measured where the tables are silent: low light, a mean grey
under 75 of 255. (Of 400 simulated frames with known light no daylight one is that dark, and 42 % of
those at dusk or at night are.) Sun and shade are never guessed. The canopy is measured on the mask.
"""

from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np

from cropseg_edge.labelled import Labels, Meaning
from cropseg_edge.mask import BACKGROUND
from training.evaluation.pictures import Picture

DENSE_COVER = 0.5
SEEDLING_COVER = 0.1
LOW_LIGHT = 75.0
ORDER = (
    "sun", "shade", "cloud", "dusk", "night", "low light (measured)",
    "dense canopy", "seedlings", "unseen species",
)  # fmt: skip
DEFINITIONS = {
    "low light (measured)": f"mean grey under {LOW_LIGHT:.0f} of 255, where no table states light",
    "dense canopy": f"plants cover {DENSE_COVER:.0%} or more of the labelled pixels",
    "seedlings": f"plants cover less than {SEEDLING_COVER:.0%} of the labelled pixels",
    "unseen species": "sets that the model's training record does not name, or marked train: false",
}


class Measures(NamedTuple):
    """What a picture and its mask show.

    Attributes:
        grey: mean grey of the picture, 0 to 255.
        cover: share of vegetation among the pixels whose label tells it; NaN where none does.
    """

    grey: float
    cover: float


def measure(image: Labels, mask: Labels, meaning: Meaning) -> Measures:
    """Measures of a picture, uint8 [H, W, 3] BGR, and its mask, uint8 [H, W]."""
    pixels = np.bincount(mask.ravel(), minlength=256)
    plants = sum(int(pixels[v]) for v, classes in meaning.items() if BACKGROUND not in classes)
    bare = [v for v, classes in meaning.items() if set(classes) == {BACKGROUND}]
    told = plants + sum(int(pixels[v]) for v in bare)
    cover = plants / told if bare and told else float("nan")
    return Measures(float(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).mean()), cover)


def conditions(picture: Picture, measures: Measures, unseen: Collection[str]) -> list[str]:
    """Names of the conditions that hold; `unseen` are the sets that the model has not seen."""
    holds = [picture.condition] if picture.condition else []
    if not picture.condition and measures.grey < LOW_LIGHT:
        holds.append("low light (measured)")
    if measures.cover >= DENSE_COVER:
        holds.append("dense canopy")
    if measures.cover < SEEDLING_COVER:
        holds.append("seedlings")
    if picture.dataset in unseen:
        holds.append("unseen species")
    return holds


def in_order(names: Collection[str]) -> list[str]:
    """The known conditions first, in their order, then others that a root names."""
    return [n for n in ORDER if n in names] + sorted(set(names) - set(ORDER))
