"""`row-label`: plants in a crop row are crop, plants between rows are weeds.

A network that has not seen a crop finds its plants, but may call all of them weeds. Where a crop
is sown in rows the picture itself says which they are (Bah, Hafiane, Canals: Deep learning with
unsupervised data labeling for weed detection in line crops in UAV images, Remote Sensing 10(11),
2018), here with rows in perspective (`cropseg_edge.analysis`).
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cropseg_edge.analysis import Rows, find_rows
from cropseg_edge.evaluation import Segment
from cropseg_edge.mask import UNKNOWN
from training.config import Section
from training.pseudo_labels.label import BACKGROUND, CROP, VEGETATION, WEED, PseudoLabel
from training.pseudo_labels.labelling import Labeller, LabellingConfig, label_pictures

MEANING = {
    BACKGROUND: ["background"],
    CROP: ["crop"],
    WEED: ["weed"],
    VEGETATION: ["crop", "weed"],
}
PARTS = ("strength", "chance", "spacing", "across", "decided", "vegetation")


class RowLabelConfig(Section):
    """How labels are made. Distances from a row are in spacings, 0.5 in the middle between two."""

    row: float = Field(0.2, gt=0, lt=0.5)  # nearer than this a plant stands in the row
    between: float = Field(0.3, gt=0, lt=0.5)  # farther than this a leaf is no longer the row's
    least_share: float = Field(0.2, ge=0, le=1)  # of a plant in the row, so that all of it is crop
    weed_strength: float = Field(0.5, ge=0, le=1)  # of rows, for weeds between them
    longest_weed: float = Field(0.7, gt=0)  # along the rows; what is longer is a missed row
    edge: int = Field(1, ge=0)  # pixels to either side of an outline that are unsure


class RowLabelling(LabellingConfig, RowLabelConfig):
    """One run of `python -m training row-label`."""

    model: Path  # a bundle or a checkpoint, which finds the plants
    weights: str  # its fingerprint: a run goes on only with the same


def make_row_labels(
    config: RowLabelling,
    segment: Segment,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]] | None:
    """Label pictures by the rows that `segment`'s plants stand in; see `label_pictures`."""

    def label(image: NDArray[np.uint8], stem: str) -> PseudoLabel:
        return row_label(segment(image), config)

    return label_pictures(config, Labeller("row-label", PARTS, MEANING, label), out, progress)


def row_label(labels: NDArray[np.uint8], config: RowLabelConfig | None = None) -> PseudoLabel:
    """Label the plants that a network found by the rows they stand in.

    A plant (what hangs together) that stands in a row is crop as far as the row reaches; one that
    keeps away from the rows is a weed; all else is left open. Weeds in the row are taken for crop.

    Args:
        labels: uint8 [H, W], 0 background, 1 crop, 2 weed, 255 unknown; which of crop and weed does
            not matter.
        config: defaults where None.

    Returns:
        A label of 0 background, 1 crop, 2 weed, 3 crop or weed, 255 unsure; in doubt, and without 1
        and 2, where no rows were found. Its parts: strength, chance, spacing and direction of the
        `Rows`, the share of the vegetation that is crop or weed, and the share of the picture that
        is vegetation.
    """
    config = config or RowLabelConfig()
    plants = (labels != BACKGROUND) & (labels != UNKNOWN)
    rows = find_rows(plants)
    doubt = _doubt(rows)
    mask = np.where(plants, VEGETATION, labels).astype(np.uint8)
    if rows and not doubt:
        mask[plants] = _by_row(plants, rows, config)[plants]
    mask[_near_outlines(plants, config.edge)] = UNKNOWN
    parts = {"vegetation": float(plants.mean())}
    if rows:
        counts = np.bincount(mask.ravel(), minlength=VEGETATION + 1)[CROP : VEGETATION + 1]
        parts |= {
            "strength": rows.strength,
            "chance": rows.chance,
            "spacing": rows.spacing,
            "across": float(rows.across),
            "decided": float((counts[0] + counts[1]) / max(counts.sum(), 1)),
        }
    return PseudoLabel(mask, min(1.0, parts.get("strength", 0.0)), parts, doubt)


def _by_row(plants: NDArray[np.bool_], rows: Rows, config: RowLabelConfig) -> NDArray[np.uint8]:
    """Crop, weed or vegetation for every pixel of a plant; elsewhere it means nothing."""
    phase = rows.phase(*plants.shape)
    distance = np.abs(phase - np.round(phase))
    in_row, reach = distance < config.row, distance < config.between
    count, plant = cv2.connectedComponents(plants.astype(np.uint8))
    size, within = (np.bincount(plant[chosen], minlength=count) for chosen in (plants, in_row))
    decided = np.full(plants.shape, VEGETATION, np.uint8)
    decided[(within >= np.maximum(config.least_share * size, 1))[plant] & reach] = CROP
    if rows.strength >= config.weed_strength:
        apart = (within == 0) & (_length(plant, count, rows) <= config.longest_weed)
        decided[apart[plant] & np.isfinite(phase)] = WEED
    return decided


def _length(plant: NDArray[np.int32], count: int, rows: Rows) -> NDArray[np.float64]:
    """How far each plant reaches along the rows, in spacings."""
    along = rows.along(*plant.shape)
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, plant.ravel(), along.ravel())
    np.maximum.at(last, plant.ravel(), along.ravel())
    return (last - first) / (rows.spacing * (1 + rows.growth * (first + last) / 2))


def _near_outlines(plants: NDArray[np.bool_], edge: int) -> NDArray[np.bool_]:
    kernel = np.ones((2 * edge + 1, 2 * edge + 1), np.uint8)
    levels = plants.astype(np.uint8)
    return np.asarray(cv2.dilate(levels, kernel) != cv2.erode(levels, kernel))


def _doubt(rows: Rows | None) -> str:
    """Why rows are not to be trusted, or nothing."""
    if rows is None:
        return "hardly a plant was found"
    if rows.found:
        return ""
    return f"no rows: strength {rows.strength:.3f}, at least {rows.least:.3f} is needed"
