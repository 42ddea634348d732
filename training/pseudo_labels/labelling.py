"""Pictures in, a folder of pseudo labels out, and the data root around it; who labels is given."""

import csv
import io
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import read_image
from cropseg_edge.roots import OWN_SPLIT, set_at, trainable_entry, unlabelled_stems
from training.config import Section
from training.pseudo_labels.label import PseudoLabel
from training.pseudo_labels.screen_run import SETTINGS
from training.pseudo_labels.worklist import Worklist, find_images

log = logging.getLogger(__name__)

TABLE = "scores.csv"


class LabellingConfig(Section):
    """What every labelling run is told."""

    images: Path
    licence: str | None = None  # of the pictures; None: what their data root says
    species: str | list[str] | None = None  # likewise


Config = TypeVar("Config", bound=LabellingConfig)


@dataclass(frozen=True)
class Labeller:
    """Who labels, and what the labels mean.

    Attributes:
        command: of `python -m training`; one data root holds labels of one command.
        parts: names of what a score is made of.
        meaning: classes that a mask value leaves open, as in datasets.yaml.
        label: from a picture, uint8 [H, W, 3] BGR, and its stem to its label; raises FrameError
            where the picture has none.
    """

    command: str
    parts: tuple[str, ...]
    meaning: dict[int, list[str]]
    label: Callable[[NDArray[np.uint8], str], PseudoLabel]


def labelling_config(
    kind: type[Config], values: dict[str, object], overrides: tuple[str, ...] = ()
) -> Config:
    """The configuration of that kind from values and `key=value` overrides. Raises ConfigError."""
    merged = dict(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set expects key=value, got {override!r}")
        merged[key] = text
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name}: {first['msg']} (got {first['input']!r})") from error


def label_pictures(
    config: LabellingConfig,
    labeller: Labeller,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]] | None:
    """Write `out/masks`, `out/images` (links), `out/scores.csv`, and the root in `out`'s parent.

    Of a set of a data root, only pictures of split `train` or `unlabelled` are labelled.
    A row's status is `ok`, or `refused` with a reason: without a mask where the picture or what
    labels it cannot be read, with one (not in splits.csv) where the label is in doubt. Resumes
    where an earlier run stopped, and tries refused pictures again; under torchrun each process
    takes its share.

    Returns:
        The table's rows; None if other processes are still at work.

    Raises:
        ConfigError: the settings or what mask values mean differ from those `out` began with, it
            holds other masks, or its parent is another root.
        FrameError: the folder has no pictures, or none that may be trained on.
        OSError: a file cannot be written.
    """
    out = out.resolve()
    images, config = _with_source(config)
    earlier = _described(out, labeller).get(out.name, {}).get("labels")
    if earlier not in (None, labeller.meaning):
        raise ConfigError(
            f"{out}: the labels there are of an earlier version ({earlier}, now "
            f"{labeller.meaning}); take another --out"
        )
    values = config.model_dump(mode="json") | {"labels": labeller.meaning}
    settings = yaml.safe_dump(values, sort_keys=False)
    columns = ("status", "reason", "score", *labeller.parts)
    if (out / "masks").exists() and not (out / "parts").exists():
        raise ConfigError(f"{out} holds masks that this command did not make; take another --out")
    work = Worklist(out, TABLE, columns, list(images), settings)
    for name in ("masks", "images"):
        (out / name).mkdir(exist_ok=True)
    pending = work.pending()
    for number, stem in enumerate(pending, 1):
        row = _one(labeller, images[stem], out)
        if row["status"] != "ok":
            log.info("%s: %s", stem, row["reason"])
        work.record(stem, row)
        if progress:
            progress(number, len(pending))
    rows = work.merge()
    if rows is not None:
        _write_root(out, config, labeller, [row["stem"] for row in rows if row["status"] == "ok"])
    return rows


def _with_source(config: Config) -> tuple[dict[str, Path], Config]:
    """The pictures that may be labelled; licence and species from their data root, if any."""
    images, about = find_images(config.images), {}
    if found := set_at(config.images):
        about = trainable_entry(*found)
        stems = unlabelled_stems(*found, "train")
        images = {stem: path for stem, path in images.items() if stem in stems}
        if not images:
            raise FrameError(
                f"{config.images}: splits.csv has none of its pictures in split train or "
                f"{OWN_SPLIT}; what is kept for evaluation is not labelled"
            )
    known = {
        key: getattr(config, key) or about.get(key) or "unknown" for key in ("licence", "species")
    }
    return images, config.model_copy(update=known)


def _one(labeller: Labeller, image: Path, out: Path) -> dict[str, object]:
    try:
        label = labeller.label(read_image(image), image.stem)
    except FrameError as error:
        return {"status": "refused", "reason": str(error), "score": "0"}
    _link(image.resolve(), out / "images" / image.name)
    png = bytes(cv2.imencode(".png", label.mask)[1])
    write_atomically(out / "masks" / f"{image.stem}.png", png, durable=False)
    figures = {key: f"{value:.4f}" for key, value in label.parts.items()}
    status = "refused" if label.reason else "ok"
    return {"status": status, "reason": label.reason, "score": f"{label.score:.4f}", **figures}


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        return
    try:
        os.symlink(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _described(out: Path, labeller: Labeller) -> dict[str, dict[str, object]]:
    """The parent's datasets.yaml, if it is one of ours. Raises ConfigError."""
    path = out.parent / "datasets.yaml"
    if (out.parent / SETTINGS).exists():
        raise ConfigError(f"{out.parent} is what `screen` chose; take an --out in another folder")
    if not path.exists():
        return {}
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(described, dict) or any(
        not isinstance(entry, dict) or entry.get("made_by") != labeller.command
        for entry in described.values()
    ):
        raise ConfigError(f"{path} is a root of other labels; take an --out in another folder")
    return described


def _write_root(out: Path, config: LabellingConfig, labeller: Labeller, stems: list[str]) -> None:
    """Enter the set in the parent's datasets.yaml and splits.csv; other sets stay."""
    described = _described(out, labeller)
    described[out.name] = {
        "species": config.species,
        "licence": config.licence,
        "made_by": labeller.command,
        "labels": labeller.meaning,
    }
    splits = out.parent / "splits.csv"
    others: list[list[str]] = []
    if splits.exists():
        with splits.open(newline="", encoding="utf-8") as file:
            others = [row for row in list(csv.reader(file))[1:] if row and row[0] != out.name]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["dataset", "stem", "split"])
    writer.writerows([*others, *([out.name, stem, "train"] for stem in stems)])
    write_atomically(out.parent / "datasets.yaml", yaml.safe_dump(described).encode())
    write_atomically(splits, table.getvalue().encode())
