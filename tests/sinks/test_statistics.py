"""IoU against ground truth is pooled over pixels; ignored and unknown pixels are left out."""

import numpy as np
import pytest

from cropseg_edge.frames import Frame
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.sinks.statistics import RunStatistics


def add(statistics: RunStatistics, truth: list[int] | None, labels: list[int]) -> dict[str, object]:
    predicted = np.array([labels], np.uint8)
    known = None if truth is None else np.array([truth], np.uint8)
    confidence = np.where(predicted == 255, 0, 255).astype(np.uint8)
    image = np.zeros((*predicted.shape, 3), np.uint8)
    mask = CropMask(predicted, confidence, Status.OK, "", 0, "c", 0, "")
    return statistics.add(Frame(image, 0, "c", 0, "0", known), mask)


@pytest.mark.parametrize(
    ("truth", "labels", "vegetation", "crop"),
    [
        ([0, 1, 2, 0], [0, 1, 2, 0], 100.0, 100.0),
        ([1, 1, 2, 0], [1, 2, 2, 1], 75.0, 33.33),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0, 0.0),
        ([255, 1, 0, 0], [1, 1, 0, 0], 100.0, 100.0),
        ([1, 1, 0, 0], [255, 1, 255, 0], 100.0, 100.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], None, None),
        ([2, 2, 0, 0], [2, 0, 0, 0], 50.0, None),
        ([1, 2, 0, 0], [255, 255, 255, 255], None, None),
    ],
)
def test_iou_of_a_frame(
    truth: list[int], labels: list[int], vegetation: float | None, crop: float | None
) -> None:
    row = add(RunStatistics(), truth, labels)
    assert (row["vegetation_iou_percent"], row["crop_iou_percent"]) == (vegetation, crop)


def test_iou_is_pooled_over_frames() -> None:
    statistics = RunStatistics()
    add(statistics, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1])
    add(statistics, [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0])
    add(statistics, None, [1, 1, 1, 1, 1, 1])
    assert statistics.summary()["iou_percent"] == {"vegetation": 75.0, "crop": 75.0, "frames": 2}


def test_without_truth_there_is_no_iou() -> None:
    statistics = RunStatistics()
    row = add(statistics, None, [1, 255])
    assert row["crop_iou_percent"] is None
    assert row["unknown_percent"] == 50.0
    assert row["mean_confidence"] == 1.0
    assert statistics.summary()["iou_percent"] is None


def test_an_unknown_mask_has_no_confidence() -> None:
    assert add(RunStatistics(), None, [255, 255])["mean_confidence"] is None
