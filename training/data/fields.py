"""Field photographs on disk: which files belong to a split, and what their masks may mean.

A root holds `NAME/images/STEM.*`, `NAME/masks/STEM.png`, `splits.csv` and `datasets.yaml`. A mask
value may leave classes open (0 in a crop-only set means background or weed), so labels are sets of
classes: one bit a class, 0 where nothing is known.
"""

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.image import IMAGE_SUFFIXES
from cropseg_edge.mask import CLASSES


@dataclass(frozen=True)
class FieldSet:
    """One data set of a root.

    Attributes:
        name: the set's name.
        licence: as `datasets.yaml` states it.
        stems: the pictures of the split.
        sets: uint8 [256], mask value to set of classes as bits (1 background, 2 crop, 4 weed).
    """

    name: str
    licence: str
    folder: Path
    stems: tuple[str, ...]
    sets: NDArray[np.uint8]

    def read(self, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture, uint8 [H, W, 3] BGR, and class sets, uint8 [H, W].

        Raises:
            FrameError: a file is missing, unreadable, or the sizes differ.
        """
        image_path = self._image_path(stem)
        image = cv2.imread(str(image_path), cv2.IMREAD_COLOR)
        mask_path = self.folder / "masks" / f"{stem}.png"
        mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
        if image is None or mask is None or mask.shape != image.shape[:2]:
            raise FrameError(f"{image_path} and {mask_path} must both be readable, of one size")
        return image.astype(np.uint8, copy=False), self.sets[mask]

    def _image_path(self, stem: str) -> Path:
        for suffix in IMAGE_SUFFIXES:
            path = self.folder / "images" / f"{stem}{suffix}"
            if path.exists():
                return path
        raise FrameError(
            f"no picture {stem} ({', '.join(IMAGE_SUFFIXES)}) in {self.folder / 'images'}"
        )


def class_sets(labels: dict[int, list[str]]) -> NDArray[np.uint8]:
    """Look-up table from mask value to bits, from the `labels` of `datasets.yaml`."""
    table = np.zeros(256, np.uint8)
    for value, names in labels.items():
        table[value] = sum(1 << CLASSES.index(name) for name in names)
    return table


def find_set(roots: list[Path], name: str, split: str) -> FieldSet:
    """The set called `name` in the first root that has it.

    Raises:
        FrameError: no root has it, it may not be trained on, or it has no picture in `split`.
    """
    for root in roots:
        if not (root / "datasets.yaml").exists():
            continue
        described = yaml.safe_load((root / "datasets.yaml").read_text(encoding="utf-8"))
        if name not in described:
            continue
        entry = described[name]
        if split == "train" and entry.get("train") is False:
            raise FrameError(f"{name} is for evaluation only ({entry['licence']}): do not train")
        with (root / "splits.csv").open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if r["dataset"] == name and r["split"] == split]
        if not rows:
            raise FrameError(f"{root / 'splits.csv'} has no {name} in split {split!r}")
        stems = tuple(sorted(r["stem"] for r in rows))
        return FieldSet(name, entry["licence"], root / name, stems, class_sets(entry["labels"]))
    raise FrameError(f"no root has a set {name!r}: looked in {', '.join(map(str, roots))}")


def held_out(stem: str, share: float) -> bool:
    """Whether a picture belongs to the validation share: by hash, the same in every run."""
    return zlib.crc32(stem.encode()) % 1000 < 1000 * share
