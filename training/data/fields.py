"""Field photographs on disk: which files belong to a split, and what their masks may mean.

A root is what `cropseg eval` reads. A mask value may leave classes open (0 in a crop-only set
means background or weed), so labels are sets of classes: one bit a class, 0 where nothing is known.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.image import read_image
from cropseg_edge.labelled import Pair, label_meaning, read_mask, read_root
from cropseg_edge.roots import describe, trainable_entry
from training.data.labels import to_sets
from training.data.shards import index_path, read_shards


class LabelledSet(Protocol):
    """Pictures with labels, by stem, in folders or in shards."""

    name: str
    licence: str

    @property
    def pairs(self) -> Mapping[str, object]:
        """What is known of each picture, by stem, sorted."""
        ...

    def read(self, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture, uint8 [H, W, 3] BGR, and class sets, uint8 [H, W]: 1 background, 2 crop, 4 weed.

        Raises:
            FrameError: a file is missing or unreadable, the sizes differ, or the mask has a value
                that its set does not explain.
        """
        ...


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
        """See `LabelledSet`."""
        pair = self.pairs[stem]
        image, mask = read_image(pair.image), read_mask(pair.mask)
        return image, to_sets(mask, pair.meaning, image, str(pair.mask))


def find_set(roots: list[Path], name: str, split: str) -> LabelledSet:
    """The set to train on called `name` in the first root that has it, in folders or in shards.

    Raises:
        FrameError: no root has it, it may not be trained on, or it has no picture in `split`.
        ConfigError: a root's tables cannot be read.
    """
    for root in roots:
        described = describe(root)
        if name not in described:
            continue
        about = trainable_entry(root, name)
        if "licence" not in about:
            raise ConfigError(f"{root / 'datasets.yaml'}: {name} states no licence")
        licence = str(about["licence"])
        if index_path(root, name, split).exists():
            return read_shards(root, name, split, licence, label_meaning(described, name, root))
        pairs = read_root(root, split).get(name)
        if not pairs:
            raise FrameError(f"{root / 'splits.csv'} has no {name} in split {split!r}")
        ordered = sorted(pairs, key=lambda pair: pair.image.stem)
        return FieldSet(name, licence, {pair.image.stem: pair for pair in ordered})
    raise FrameError(f"no root has a set {name!r}: looked in {', '.join(map(str, roots))}")


def held_out(stem: str, share: float) -> bool:
    """Whether a picture belongs to the validation share: by hash, the same in every run."""
    return zlib.crc32(stem.encode()) % 1000 < 1000 * share
