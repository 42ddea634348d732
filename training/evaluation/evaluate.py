"""Methods and a data root in; counts by picture, tables and a page out. Cut off, it goes on."""

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropseg_edge.evaluation import COUNTS, READINGS, Counts, figures, picture_counts
from cropseg_edge.files import write_atomically
from cropseg_edge.labelled import read_pair
from training.evaluation.cache import kept
from training.evaluation.conditions import Measures, conditions, in_order, measure
from training.evaluation.intervals import RESAMPLES
from training.evaluation.keys import digest
from training.evaluation.methods import Method
from training.evaluation.pictures import Picture, Root
from training.evaluation.summary import Group, summarise

log = logging.getLogger("training")
VERSION = "1"  # of how pixels are counted; another one counts everything again
Progress = Callable[[str, int, int], None]  # method, done, total


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        root: the pictures.
        methods: the model first, then what it is compared with.
        conditions: of each picture.
        counts: method name to reading to counts int64 [pictures, 6]; zeros where the picture's
            labels cannot answer the reading.
        results: figures with intervals, as `evaluation.json` holds them.
    """

    root: Root
    methods: list[Method]
    conditions: list[list[str]]
    counts: dict[str, dict[str, Counts]]
    results: dict[str, Any]

    def picture_miou(self, method: str, reading: str) -> list[float]:
        """mIoU of each picture by itself, percent; NaN where it cannot be said."""
        counts = self.counts[method][reading]
        values = figures(counts)["miou"]
        return [float(v) if c.any() else float("nan") for v, c in zip(values, counts, strict=True)]


def evaluate(
    root: Root,
    methods: Sequence[Method],
    out: Path,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Count what is not counted yet and sum up; `out/counts` keeps the counts of each picture.

    Args:
        root: the pictures.
        methods: the model first; "unseen species" are sets that it has not seen.
        out: folder of the results.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: called with (method, done, total) after each picture.

    Raises:
        FrameError: a picture or mask cannot be read; what was counted before is kept.
    """
    folder = out / "counts"
    folder.mkdir(parents=True, exist_ok=True)
    step = _step(progress, "pictures")
    measures = kept(folder / f"pictures-{VERSION}.jsonl", root.pictures, _measures, step)
    counts = {}
    for method in methods:
        file = folder / f"{digest(VERSION, method.key)}.jsonl"
        rows = kept(file, root.pictures, _counting(method), _step(progress, method.name))
        counts[method.name] = {
            reading: np.array([row.get(reading, [0] * len(COUNTS)) for row in rows], np.int64)
            for reading in READINGS
        }
        log.info("%s: %d pictures counted", method.name, len(rows))
    seen = methods[0].trained_on
    names = {picture.dataset for picture in root.pictures}
    unseen = root.never_trained | (frozenset() if seen is None else names - seen)
    held = [
        conditions(picture, Measures(*found), unseen)
        for picture, found in zip(root.pictures, measures, strict=True)
    ]
    results = summarise(groups_of(root, held), counts, resamples, seed)
    for name, entry in results["datasets"].items():
        entry |= {"unseen": name in unseen, "loose_boundaries": name in root.loose}
    return Evaluation(root, list(methods), held, counts, results)


def groups_of(root: Root, held: Sequence[Sequence[str]]) -> list[Group]:
    """Data sets in the root's order, then conditions in theirs, as groups of picture numbers."""
    sets: dict[str, list[int]] = {}
    found: dict[str, list[int]] = {}
    for number, (picture, names) in enumerate(zip(root.pictures, held, strict=True)):
        sets.setdefault(picture.dataset, []).append(number)
        for name in names:
            found.setdefault(name, []).append(number)
    return [Group("datasets", name, numbers) for name, numbers in sets.items()] + [
        Group("conditions", name, found[name]) for name in in_order(found)
    ]


def write_pictures(path: Path, evaluation: Evaluation) -> None:
    """A CSV line a picture: set, stem, conditions, and each method's mIoU by reading, percent."""
    text = io.StringIO()
    columns = [(method.name, reading) for method in evaluation.methods for reading in READINGS]
    table = csv.writer(text, lineterminator="\n")
    head = ("dataset", "stem", "species", "conditions")
    table.writerow([*head, *(f"{method}: {reading} mIoU" for method, reading in columns)])
    values = [evaluation.picture_miou(*column) for column in columns]
    for number, picture in enumerate(evaluation.root.pictures):
        numbers = (column[number] for column in values)
        table.writerow(
            [
                picture.dataset,
                picture.pair.image.stem,
                picture.species,
                "; ".join(evaluation.conditions[number]),
                *("" if np.isnan(value) else f"{value:.2f}" for value in numbers),
            ]
        )
    write_atomically(path, text.getvalue().encode())


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """JSON with two spaces, whole or not at all."""
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")


def _measures(picture: Picture) -> list[float]:
    return list(measure(*read_pair(picture.pair), picture.pair.meaning))


def _counting(method: Method) -> Callable[[Picture], dict[str, list[int]]]:
    def count(picture: Picture) -> dict[str, list[int]]:
        image, mask = read_pair(picture.pair)
        found = picture_counts(method.segment(image), mask, picture.pair.meaning)
        return {reading: [int(n) for n in counts] for reading, counts in found.items()}

    return count


def _step(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: progress(name, done, total)) if progress else None
