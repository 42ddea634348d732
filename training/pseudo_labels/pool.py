"""Pseudo labels on disk in, candidates with their measures out: what screening decides on.

A label folder holds images/STEM.*, masks/STEM.png (0 background, 1 crop, 2 weed, 3 crop or
weed, 255 unsure) and scores.csv (stem, status, reason, score, parts of the score).
Measuring is done once: measures.csv in the output folder keeps each picture's figures, and holds
for as long as its label is the same.
"""

import csv
import hashlib
import io
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from cropseg_edge.errors import ConfigError, FrameError, StorageError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import IMAGE_SUFFIXES, read_image
from cropseg_edge.labelled import read_mask
from training.pseudo_labels import traits

log = logging.getLogger(__name__)

_PLANTS = (1, 2, 3)
_KNOWN_COLUMNS = {"stem", "status", "reason", "score"}


@dataclass(frozen=True)
class Candidate:
    """A picture of the pool with its pseudo label.

    Attributes:
        stem: name of picture and mask without suffix.
        image: the picture's file.
        mask: the label's file.
        score: the labeller's own trust, 0 to 1.
        parts: what the score is made of, by name.
        refused: why the labeller does not trust its label, or made none; empty where it does.
    """

    stem: str
    image: Path
    mask: Path
    score: float
    parts: dict[str, float] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class Measures:
    """What screening needs to know of a picture and its label.

    Attributes:
        stem: the picture.
        label: fingerprint of the mask's file, so that a decision holds for this label only.
        cover: share of vegetation among the labelled pixels, 0 to 1.
        unsure: share of the pixels without a label, 0 to 1.
        agreement: of label and colour, 0 to 1; see `traits.agreement`.
        hash: perceptual hash of the picture.
        light: rough class of its light.
        failed: why it could not be measured; the figures are 0 then.
    """

    stem: str
    label: str
    cover: float = 0.0
    unsure: float = 0.0
    agreement: float = 0.0
    hash: int = 0
    light: str = ""
    failed: str = ""


def read_pool(labels: Path) -> list[Candidate]:
    """The candidates of a label folder in the order of its scores.csv.

    Raises:
        ConfigError: scores.csv is missing or not understood; names line and column.
    """
    path = labels / "scores.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); `pseudo-label` and `row-label` write it"
        ) from error
    if not rows or not {"stem", "status", "score"} <= set(rows[0]):
        raise ConfigError(f"{path} needs the columns stem, status and score, and at least a row")
    images = {p.stem: p for p in _files(labels / "images")}
    pool: dict[str, Candidate] = {}
    for number, row in enumerate(rows, 2):
        candidate = _candidate(labels, images, row, f"{path}, line {number}")
        if candidate.stem in pool:
            raise ConfigError(f"{path}, line {number}: {candidate.stem} is there twice")
        pool[candidate.stem] = candidate
    return list(pool.values())


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed: {error.strerror}") from error


def _candidate(
    labels: Path, images: dict[str, Path], row: dict[str, str | None], where: str
) -> Candidate:
    stem = row["stem"] or ""
    if not stem or Path(stem).name != stem:
        raise ConfigError(f"{where}: a stem is a file's name without folder, got {stem!r}")
    refused = "" if row["status"] == "ok" else row.get("reason") or row["status"] or "no status"
    try:
        score = float(row["score"] or 0) if refused else float(row["score"] or "nan")
    except ValueError as error:
        raise ConfigError(f"{where}: score: {error}") from error
    if not refused and not 0 <= score <= 1:
        raise ConfigError(f"{where}: a score is a number from 0 to 1, got {row['score']!r}")
    parts = {name: _number(text) for name, text in row.items() if name not in _KNOWN_COLUMNS}
    return Candidate(
        stem,
        images.get(stem, labels / "images" / f"{stem}.jpg"),
        labels / "masks" / f"{stem}.png",
        score,
        {name: value for name, value in parts.items() if name and math.isfinite(value)},
        refused,
    )


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except (TypeError, ValueError):
        return math.nan


def measure(candidate: Candidate) -> Measures:
    """Measure a picture and its label; what cannot be read says so in `failed`."""
    try:
        digest = hashlib.sha256(candidate.mask.read_bytes()).hexdigest()[:16]
        image, mask = read_image(candidate.image), read_mask(candidate.mask)
    except OSError as error:
        return Measures(candidate.stem, "", failed=f"{candidate.mask.name}: {error.strerror}")
    except FrameError as error:
        return Measures(candidate.stem, "", failed=str(error))
    if mask.shape != image.shape[:2]:
        sizes = f"{mask.shape[1]}x{mask.shape[0]}, image {image.shape[1]}x{image.shape[0]}"
        return Measures(candidate.stem, digest, failed=f"label and image differ in size: {sizes}")
    if unknown := set(np.unique(mask)) - {0, *_PLANTS, 255}:
        values = ", ".join(map(str, sorted(unknown)))
        return Measures(candidate.stem, digest, failed=f"unknown mask values: {values}")
    mask[np.isin(mask, _PLANTS)] = 1
    small, small_mask = traits.shrink(image, mask)
    return Measures(
        stem=candidate.stem,
        label=digest,
        cover=round(float((mask == 1).sum() / max(1, (mask != 255).sum())), 4),
        unsure=round(float((mask == 255).mean()), 4),
        agreement=round(traits.agreement(small, small_mask), 4),
        hash=traits.perceptual_hash(small),
        light=traits.light(small),
    )


def measure_pool(
    pool: list[Candidate], table: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, Measures]:
    """Measures by stem of every candidate that has a label; `table` is where they are kept.

    A picture is measured again where its label's file has changed. A run that is cut off has lost
    the picture at work, no more.

    Raises:
        StorageError: the table cannot be written, e.g. because the disk is full.
    """
    wanted = [candidate for candidate in pool if not candidate.refused or candidate.mask.exists()]
    known = _read_table(table)
    measures: dict[str, Measures] = {}
    # Written anew first: a line that a killed run left half-written must not stay.
    write_atomically(table, _lines([asdict(m) for m in known.values()], header=True))
    for number, candidate in enumerate(wanted, 1):
        found = known.get(candidate.stem)
        if found is None or found.failed or found.label != _digest(candidate.mask):
            found = measure(candidate)
            _append(table, found)
        if found.failed:
            log.warning("%s: %s", candidate.stem, found.failed)
        measures[candidate.stem] = found
        if progress:
            progress(number, len(wanted))
    return measures


def _append(table: Path, measures: Measures) -> None:
    try:
        with table.open("ab") as file:
            file.write(_lines([asdict(measures)]))
    except OSError as error:
        raise StorageError(
            f"{table} cannot be written ({error.strerror}); make room and start the same command "
            "again"
        ) from error


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _lines(rows: list[dict[str, object]], header: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Measures)], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _read_table(path: Path) -> dict[str, Measures]:
    if not path.exists():
        return {}
    known: dict[str, Measures] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                kinds = {f.name: f.type for f in fields(Measures)}
                values = {k: kinds[k](v) for k, v in row.items()}  # type: ignore[operator]
                known[row["stem"]] = Measures(**values)
            except (KeyError, TypeError, ValueError):
                continue  # the half-written line of a killed run: measured again
    return known
