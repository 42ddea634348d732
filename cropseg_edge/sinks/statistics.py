"""Statistics of a run: a row a frame, and a summary of all of them.

Against a frame's ground truth the vegetation (crop or weed) and the crop IoU are pooled over all
pixels of all frames. Left out are pixels where the truth is 255 and pixels that the mask calls
unknown: unknown is an answer ("protect this"), neither right nor wrong, and its share is reported
beside the IoU as `unknown_percent`.
"""

import time
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CROP, UNKNOWN, WEED, CropMask, Status

Row = dict[str, Any]

# The columns of every row; one column a stage (`<stage>_ms`) follows.
COLUMNS = (
    "sequence",
    "name",
    "stamp_ns",
    "width",
    "height",
    "status",
    "reason",
    "crop_percent",
    "weed_percent",
    "unknown_percent",
    "mean_confidence",
    "vegetation_iou_percent",
    "crop_iou_percent",
    "total_ms",
)


_CLASSES_OF = {"vegetation": (CROP, WEED), "crop": (CROP,)}


def _select(labels: NDArray[np.uint8], classes: tuple[int, ...]) -> NDArray[np.bool_]:
    chosen = np.zeros(256, np.bool_)
    chosen[list(classes)] = True
    selected: NDArray[np.bool_] = chosen[labels]
    return selected


def _overlap(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """[intersection, union] in pixels."""
    both = np.count_nonzero(truth & predicted & valid)
    either = np.count_nonzero((truth | predicted) & valid)
    return np.array([both, either], np.int64)


def _percent(overlap: NDArray[np.int64]) -> float | None:
    """IoU in percent; None where neither side has a pixel."""
    return round(100.0 * float(overlap[0]) / float(overlap[1]), 2) if overlap[1] else None


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    figures = {"mean": np.mean(values), "p50": p50, "p95": p95, "p99": p99, "max": max(values)}
    return {key: round(float(value), 3) for key, value in figures.items()}


def _mean(rows: list[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None]
    return round(float(np.mean(values)), 3) if values else None


class RunStatistics:
    """Collects the figures of a run, frame by frame."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._stages: dict[str, list[float]] = {}
        self._totals: list[float] = []
        self._pooled = {name: np.zeros(2, np.int64) for name in _CLASSES_OF}
        self._with_truth = 0
        self._first = self._last = time.monotonic()

    def add(self, frame: Frame, mask: CropMask) -> Row:
        """Take a frame in; returns its row: `COLUMNS`, then `<stage>_ms` in milliseconds.

        Cover and IoU are percent, `mean_confidence` is 0 to 1 over the known pixels, and a figure
        that does not exist (no truth, nothing known) is None.
        """
        self._last = time.monotonic()
        if not self.rows:
            self._first = self._last
        labels = mask.labels
        pixels = labels.size
        unknown = np.count_nonzero(labels == UNKNOWN)
        known = pixels - unknown
        row: Row = dict.fromkeys(COLUMNS)
        row |= {
            "sequence": frame.sequence,
            "name": frame.name,
            "stamp_ns": frame.stamp_ns,
            "width": labels.shape[1],
            "height": labels.shape[0],
            "status": mask.status.name,
            "reason": mask.reason,
            "crop_percent": round(100 * np.count_nonzero(labels == CROP) / pixels, 3),
            "weed_percent": round(100 * np.count_nonzero(labels == WEED) / pixels, 3),
            "unknown_percent": round(100 * unknown / pixels, 3),
        }
        if known:
            # Confidence is 0 where unknown, so the sum needs no mask.
            row["mean_confidence"] = round(float(mask.confidence.sum()) / (255 * known), 4)
        if frame.truth is not None:
            row |= self._score(frame.truth, labels)
        if mask.stage_ms:
            total = sum(mask.stage_ms.values())
            self._totals.append(total)
            row["total_ms"] = round(total, 3)
        for stage, milliseconds in mask.stage_ms.items():
            self._stages.setdefault(stage, []).append(milliseconds)
            row[f"{stage}_ms"] = round(milliseconds, 3)
        self.rows.append(row)
        return row

    def _score(self, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Row:
        valid = (truth != UNKNOWN) & (labels != UNKNOWN)
        self._with_truth += 1
        scores: Row = {}
        for name, classes in _CLASSES_OF.items():
            overlap = _overlap(_select(truth, classes), _select(labels, classes), valid)
            self._pooled[name] += overlap
            scores[f"{name}_iou_percent"] = _percent(overlap)
        return scores

    def summary(self, seconds: float | None = None) -> dict[str, Any]:
        """Counts, latency percentiles, rates, covers and IoU of all frames so far.

        `seconds` lie between the first and the last frame; None takes the time between their `add`.
        """
        status = Counter(row["status"] for row in self.rows)
        elapsed = self._last - self._first if seconds is None else seconds
        figures: dict[str, Any] = {
            "frames": len(self.rows),
            "status": {member.name: status[member.name] for member in Status},
            "reasons": dict(Counter(row["reason"] for row in self.rows if row["reason"])),
            "frames_per_second": round((len(self.rows) - 1) / elapsed, 2) if elapsed else None,
            "latency_ms": {stage: _percentiles(ms) for stage, ms in self._stages.items()},
            "cover_percent": {
                name: _mean(self.rows, f"{name}_percent") for name in ("crop", "weed", "unknown")
            },
            "mean_confidence": _mean(self.rows, "mean_confidence"),
            "iou_percent": None,
        }
        if self._totals:
            figures["latency_ms"]["total"] = _percentiles(self._totals)
        if self._with_truth:
            figures["iou_percent"] = {
                name: _percent(overlap) for name, overlap in self._pooled.items()
            } | {"frames": self._with_truth}
        return figures
