"""Labelled pictures on disk: which there are, what their mask values mean, and both read.

A data root is a folder with `splits.csv` (dataset, stem, split), `datasets.yaml` (what each mask
value of a set may mean: a class, or several where the labels leave it open) and NAME/images,
NAME/masks. A mask is an 8-bit grey PNG of its picture's size; 255 is unknown in every set, and a
value that a set does not list is refused.
"""

import csv
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.image import IMAGE_SUFFIXES, read_image
from cropseg_edge.mask import CLASSES, UNKNOWN

Labels = NDArray[np.uint8]
Meaning = Mapping[int, Collection[int]]  # mask value -> classes that it may be

COMPLETE: Meaning = {value: {value} for value in range(len(CLASSES))}


class Pair(NamedTuple):
    """A picture and its mask, with what the mask's values mean."""

    image: Path
    mask: Path
    meaning: Meaning


def read_root(root: Path, split: str, sets: Collection[str] | None = None) -> dict[str, list[Pair]]:
    """The pictures of a split by set, with the meaning of each set's labels.

    Args:
        root: folder with `splits.csv`, `datasets.yaml` and NAME/images, NAME/masks.
        split: as in `splits.csv`.
        sets: names of sets; None takes all.

    Raises:
        ConfigError: the files are missing or not understood, or nothing is in the split or a set.
    """
    try:
        with (root / "splits.csv").open(newline="") as file:
            rows = [
                (row["dataset"] or "", row["stem"] or "")
                for row in csv.DictReader(file)
                if row["split"] == split
            ]
        datasets = yaml.safe_load((root / "datasets.yaml").read_text())
    except (OSError, yaml.YAMLError, csv.Error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{root} needs a readable splits.csv and datasets.yaml: {reason}"
        ) from error
    except KeyError as error:
        raise ConfigError(f"{root / 'splits.csv'} has no column {error}") from error
    pairs: dict[str, list[Pair]] = {}
    for name, stem in rows:
        folder = root / name
        image = next(
            (p for s in IMAGE_SUFFIXES if (p := folder / "images" / f"{stem}{s}").is_file()), None
        )
        if image is None:
            raise ConfigError(f"{folder / 'images' / stem}.* is in splits.csv but not there")
        meaning = label_meaning(datasets, name, root)
        pairs.setdefault(name, []).append(Pair(image, folder / "masks" / f"{stem}.png", meaning))
    if not pairs:
        raise ConfigError(f"{root / 'splits.csv'} has nothing in split {split!r}")
    if unknown := set(sets or ()) - set(pairs):
        raise ConfigError(f"{root} has no set {sorted(unknown)} in split {split!r}")
    return {name: found for name, found in pairs.items() if sets is None or name in sets}


def read_folders(images: Path, masks: Path) -> list[Pair]:
    """Pictures and masks of one stem in two folders (or two files). Raises FrameError."""
    found = list(_matches(images, masks))
    if not found:
        raise FrameError(
            f"no image in {images} has a mask STEM.png in {masks}; names must be the same"
        )
    return found


def read_pair(pair: Pair) -> tuple[Labels, Labels]:
    """Picture, uint8 [H, W, 3] BGR, and mask, uint8 [H, W].

    Raises:
        FrameError: a file cannot be read, the two are not of one size, or the mask has a value that
            its set does not explain.
    """
    image, mask = read_image(pair.image), read_mask(pair.mask)
    check_mask(mask, pair.meaning, image, str(pair.mask))
    return image, mask


def check_mask(mask: Labels, meaning: Meaning, image: Labels, name: str) -> None:
    """Raise FrameError where the mask called `name` is of another size than its image, or has a
    value that `meaning` does not explain; 255 is always one."""
    if mask.shape != image.shape[:2]:
        raise FrameError(
            f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image "
            f"{image.shape[1]}x{image.shape[0]}; they must be of one size"
        )
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    if unknown := set(present.tolist()) - set(meaning) - {UNKNOWN}:
        raise FrameError(
            f"{name}: mask values {sorted(unknown)[:8]} are not among the labels of its set, "
            f"{sorted(meaning)}, nor {UNKNOWN} (unknown)"
        )


def read_mask(path: Path) -> Labels:
    """A mask file as uint8 [H, W]. Raises FrameError where it is not an 8-bit grey PNG."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_mask(data, str(path))


def decode_mask(data: bytes, name: str) -> Labels:
    """The bytes of the mask called `name` as uint8 [H, W]; FrameError as `read_mask`."""
    pixels = np.frombuffer(data, np.uint8)
    mask = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED) if pixels.size else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise FrameError(f"{name}: a mask must be an 8-bit PNG of one channel with label values")
    return np.asarray(mask, np.uint8)


def label_meaning(datasets: object, name: str, root: Path) -> Meaning:
    """What a set's mask values may mean, from a root's `datasets.yaml`. Raises ConfigError."""
    try:
        labels = datasets[name]["labels"]  # type: ignore[index]
        meaning = {int(v): {CLASSES.index(c) for c in classes} for v, classes in labels.items()}
        if not all(0 <= value <= 255 and classes for value, classes in meaning.items()):
            raise ValueError("a value outside of 0 to 255, or without a class")
        return meaning
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{root / 'datasets.yaml'}: {name} needs labels: {{value: [classes of {CLASSES}]}}, "
            f"got {error!r}"
        ) from error


def _matches(images: Path, masks: Path) -> Iterator[Pair]:
    if images.is_file():
        yield Pair(images, masks, COMPLETE)
        return
    for folder in (images, masks):
        if not folder.is_dir():
            raise FrameError(f"{folder} is not a folder")
    for image in sorted(images.iterdir()):
        mask = masks / f"{image.stem}.png"
        if image.suffix.lower() in IMAGE_SUFFIXES and mask.is_file():
            yield Pair(image, mask, COMPLETE)
