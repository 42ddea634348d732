"""Predictions against pixel masks: IoU, precision, recall and boundary IoU, pooled over a set.

Two readings of the same masks. *Vegetation*: crop or weed against the rest. *Crop*: crop against
the rest. A mask value may leave classes open (a set of classes): a pixel counts for a reading only
where every class of its set gives the same answer; 255 never counts. A prediction of 255 (unknown)
counts as an error at every pixel that counts.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.frames.frame import Frame
from cropseg_edge.health import judge
from cropseg_edge.labelled import Labels, Meaning, Pair, read_pair
from cropseg_edge.mask import CROP, UNKNOWN, WEED, Status

if TYPE_CHECKING:
    from cropseg_edge.segmenter import Segmenter

log = logging.getLogger("cropseg_edge.evaluation")

Bools = NDArray[np.bool_]
Segment = Callable[[Labels], Labels]  # BGR uint8 [H, W, 3] -> labels uint8 [H, W]
Counts = NDArray[np.int64]

READINGS = {"vegetation": {CROP, WEED}, "crop": {CROP}}
COUNTS = ("hit", "false", "missed", "rest", "boundary_both", "boundary_either")
BOUNDARY_SHARE = 0.02


def evaluate_segmenter(
    segmenter: "Segmenter", pairs: list[Pair], progress: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Figures of pictures taken together, as of `evaluate_pairs`, and how the masks came.

    Further keys: `degraded` and `invalid`, masks of that status; `engine_failures`, the invalid
    ones whose picture is fit. Each such picture is logged at WARNING with the reason.

    Raises:
        FrameError: a picture or mask cannot be read or used.
        DeviceLostError: the engine failed for good.
    """
    names = (str(pair.image) for pair in pairs)  # each picture is segmented once, in their order
    counts: Counter[str] = Counter(degraded=0, invalid=0, engine_failures=0)

    def segment(image: Labels) -> Labels:
        frame = Frame(image, 0, "", 0, next(names))
        mask = segmenter.segment(frame)
        if mask.status is not Status.OK:
            counts[mask.status.name.lower()] += 1
            fit = judge(frame)[0] is not Status.INVALID
            counts["engine_failures"] += fit and mask.status is Status.INVALID
            log.warning("%s: the mask is %s: %s", frame.name, mask.status.name, mask.reason)
        return mask.labels

    return evaluate_pairs(segment, pairs, progress) | dict(counts)


def evaluate_pairs(
    segment: Segment, pairs: list[Pair], progress: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Figures of pictures taken together, in percent.

    Keys are READING.FIGURE with READING vegetation or crop and FIGURE miou (mean of the IoU of
    both sides), iou, precision, recall, boundary_iou; and `images`. A reading that the labels
    cannot answer is left out; a figure without any pixel is left out too.
    """
    counts = {reading: np.zeros(len(COUNTS), np.int64) for reading in READINGS}
    for number, pair in enumerate(pairs, 1):
        image, mask = read_pair(pair)
        for reading, found in picture_counts(segment(image), mask, pair.meaning).items():
            counts[reading] += found
        if progress:
            progress(number)
    results: dict[str, float] = {"images": len(pairs)}
    for reading, sums in counts.items():
        if sums.any():
            results |= {
                f"{reading}.{key}": round(float(value), 3)
                for key, value in figures(sums).items()
                if not np.isnan(value)
            }
    return results


def picture_counts(labels: Labels, mask: Labels, meaning: Meaning) -> dict[str, Counts]:
    """Pixel counts of one picture, by reading: int64 [6] in the order of `COUNTS`.

    Counts of several pictures add up; `figures` turns sums into IoU and the rest. A reading that
    the labels cannot answer is left out.

    Args:
        labels: predicted, uint8 [H, W]: 0, 1, 2, 255.
        mask: of the same size; its values as `meaning` says.
    """
    answers = {reading: _answers(meaning, positive) for reading, positive in READINGS.items()}
    return {
        reading: _count(labels, mask, answer, READINGS[reading])
        for reading, answer in answers.items()
        if {True, False} <= set(answer.values())
    }


def _answers(meaning: Meaning, positive: set[int]) -> dict[int, bool]:
    """Mask values that answer a reading: True inside, False outside; open ones are left out."""
    inside = {value: {c in positive for c in classes} for value, classes in meaning.items()}
    return {value: answer.pop() for value, answer in inside.items() if len(answer) == 1}


def _count(labels: Labels, mask: Labels, answers: Mapping[int, bool], positive: set[int]) -> Counts:
    """[true positive, false positive, false negative, true negative, boundary and, boundary or]."""
    table = np.full(256, UNKNOWN, np.uint8)
    for value, answer in answers.items():
        table[value] = answer
    table[UNKNOWN] = UNKNOWN
    truth = table[mask]
    counted, wanted = truth != UNKNOWN, truth == 1
    predicted = np.isin(labels, list(positive))
    predicted = np.where(labels == UNKNOWN, ~wanted, predicted)
    a, b = boundary(wanted), boundary(predicted & counted)
    return np.array(
        [
            np.count_nonzero(predicted & wanted & counted),
            np.count_nonzero(predicted & ~wanted & counted),
            np.count_nonzero(~predicted & wanted & counted),
            np.count_nonzero(~predicted & ~wanted & counted),
            np.count_nonzero(a & b & counted),
            np.count_nonzero((a | b) & counted),
        ],
        np.int64,
    )


def boundary(mask: Bools) -> Bools:
    """Pixels of a mask within 2 % of the image diagonal of its contour.

    Cheng et al.: Boundary IoU, CVPR 2021; the picture's border is a contour, as there.
    """
    height, width = mask.shape
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return np.asarray(mask & (inner == 0))


def figures(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """IoU and the rest in percent from summed counts [..., 6]; NaN where no pixel could answer.

    Keys: miou (mean of the IoU of both sides), iou, background_iou, precision, recall,
    boundary_iou; each value has the shape [...].
    """
    hit, false, missed, rest, both, either = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    shares = {
        "iou": (hit, hit + false + missed),
        "background_iou": (rest, rest + false + missed),
        "precision": (hit, hit + false),
        "recall": (hit, hit + missed),
        "boundary_iou": (both, either),
    }
    found = {
        key: 100 * np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)
        for key, (a, b) in shares.items()
    }
    sides = np.stack([found["iou"], found["background_iou"]])
    known = np.count_nonzero(~np.isnan(sides), axis=0)
    total = np.nansum(sides, axis=0)
    miou = np.divide(total, known, out=np.full_like(hit, np.nan), where=known > 0)
    return {"miou": miou, **found}
