"""A data root in, its labelled pictures out, each with what its tables say of it."""

import csv
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.labelled import Pair, read_root


@dataclass(frozen=True)
class Picture:
    """A picture with its mask.

    Attributes:
        dataset: name of its set.
        pair: the files, and what the mask's values mean.
        species, condition: as the root's tables state them; empty where they do not.
    """

    dataset: str
    pair: Pair
    species: str = ""
    condition: str = ""

    @property
    def name(self) -> str:
        """SET/STEM."""
        return f"{self.dataset}/{self.pair.image.stem}"

    def version(self) -> str:
        """Changes whenever one of the files, or what the mask's values mean, does.

        Raises:
            FrameError: a file is missing.
        """
        try:
            stats = [path.stat() for path in (self.pair.image, self.pair.mask)]
        except OSError as error:
            raise FrameError(f"{error.filename} cannot be read: {error.strerror}") from error
        meaning = {value: sorted(classes) for value, classes in sorted(self.pair.meaning.items())}
        return json.dumps([[(s.st_size, s.st_mtime_ns) for s in stats], meaning])


@dataclass(frozen=True)
class Root:
    """The labelled pictures of a split.

    Attributes:
        pictures: in the order of `splits.csv`, set by set.
        never_trained: sets that the root marks `train: false`.
        loose: sets whose outlines the root calls loose: good for IoU, not for boundaries.
    """

    pictures: list[Picture]
    never_trained: frozenset[str]
    loose: frozenset[str]


def read_pictures(root: Path, split: str, sets: Collection[str] = ()) -> Root:
    """The labelled pictures of a root's split; of the named sets only, where any are named.

    Species and condition come from columns of that name in `splits.csv`, or from keys of that
    name in `datasets.yaml`, which then hold for a whole set. Sets without labels are left out.

    Raises:
        ConfigError: the root's tables are not understood, a named set has no picture there, or no
            picture of the split has labels.
    """
    found = {
        name: pairs
        for name, pairs in read_root(root, split).items()
        if pairs[0].meaning and (not sets or name in sets)
    }
    if absent := set(sets) - set(found):
        raise ConfigError(f"{root} has no labelled set {sorted(absent)} in split {split!r}")
    if not found:
        raise ConfigError(f"{root}: no set in split {split!r} has labels; there is nothing to do")
    tables = yaml.safe_load((root / "datasets.yaml").read_text(encoding="utf-8"))
    with (root / "splits.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["dataset"], row["stem"]): row for row in csv.DictReader(file)}

    def fact(name: str, stem: str, key: str) -> str:
        stated: Any = rows[name, stem].get(key) or tables[name].get(key)
        return stated.strip().lower() if isinstance(stated, str) else ""

    pictures = [
        Picture(name, p, fact(name, p.image.stem, "species"), fact(name, p.image.stem, "condition"))
        for name, pairs in found.items()
        for p in pairs
    ]
    return Root(
        pictures,
        frozenset(name for name in found if tables[name].get("train") is False),
        frozenset(name for name in found if tables[name].get("boundaries") == "loose"),
    )
