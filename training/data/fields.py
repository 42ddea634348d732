"""Field photographs on disk: which files belong to a split, and what their masks may mean.

A root is what `cropseg eval` reads. A mask value may leave classes open (0 in a crop-only set
means background or weed), so labels are sets of classes: one bit a class, 0 where nothing is known.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.evaluation import Meaning, Pair, read_mask, read_root
from cropseg_edge.frames.image import read_image
from cropseg_edge.mask import UNKNOWN


@dataclass(frozen=True)
class FieldSet:
    """One data set of a root, the pictures of one split.

    Attributes:
        name: the set's name.
        licence: as `datasets.yaml` states it.
        pairs: its pictures and masks by stem, sorted.
    """

    name: str
    licence: str
    pairs: dict[str, Pair]

    def read(self, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture, uint8 [H, W, 3] BGR, and class sets, uint8 [H, W]: 1 background, 2 crop, 4 weed.

        Raises:
            FrameError: a file is missing, unreadable, or the sizes differ.
        """
        pair = self.pairs[stem]
        image, mask = read_image(pair.image), read_mask(pair.mask)
        if mask.shape != image.shape[:2]:
            raise FrameError(
                f"{pair.mask}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image "
                f"{image.shape[1]}x{image.shape[0]}; they must be of one size"
            )
        return image, to_sets(mask, pair.meaning, str(pair.mask))


def to_sets(mask: NDArray[np.uint8], meaning: Meaning, name: str) -> NDArray[np.uint8]:
    """Class sets of a mask, uint8 [H, W]; 255 is unknown.

    Raises:
        FrameError: the mask called `name` holds a value that `meaning` does not explain.
    """
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    if unknown := set(present.tolist()) - set(meaning) - {UNKNOWN}:
        raise FrameError(
            f"{name}: mask values {sorted(unknown)[:8]} are not among the labels of its set in "
            f"datasets.yaml, {sorted(meaning)}, nor 255 (unknown)"
        )
    return class_sets(meaning)[mask]


def class_sets(meaning: Meaning) -> NDArray[np.uint8]:
    """Look-up table uint8 [256] from mask value to set of classes as bits."""
    table = np.zeros(256, np.uint8)
    for value, classes in meaning.items():
        table[value] = sum(1 << c for c in classes)
    return table


def find_set(roots: list[Path], name: str, split: str) -> FieldSet:
    """The set called `name` in the first root that has it.

    Raises:
        FrameError: no root has it, it may not be trained on, or it has no picture in `split`.
        ConfigError: a root's tables cannot be read.
    """
    for root in roots:
        if not (root / "datasets.yaml").exists():
            continue
        try:
            described = yaml.safe_load((root / "datasets.yaml").read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{root / 'datasets.yaml'} cannot be read: {reason}") from error
        if name not in described:
            continue
        if not isinstance(described[name], dict) or "licence" not in described[name]:
            raise ConfigError(f"{root / 'datasets.yaml'}: {name} states no licence")
        licence = str(described[name]["licence"])
        if split == "train" and described[name].get("train") is False:
            raise FrameError(f"{name} is for evaluation only ({licence}): do not train on it")
        pairs = read_root(root, split).get(name)
        if not pairs:
            raise FrameError(f"{root / 'splits.csv'} has no {name} in split {split!r}")
        ordered = sorted(pairs, key=lambda pair: pair.image.stem)
        return FieldSet(name, licence, {pair.image.stem: pair for pair in ordered})
    raise FrameError(f"no root has a set {name!r}: looked in {', '.join(map(str, roots))}")


def held_out(stem: str, share: float) -> bool:
    """Whether a picture belongs to the validation share: by hash, the same in every run."""
    return zlib.crc32(stem.encode()) % 1000 < 1000 * share
