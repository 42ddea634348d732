"""Pictures without labels, by number: sample i is the same in every run, as in `batches`.

Each comes as two views of one crop, a weak one for a teacher (geometry only) and a strong one for
the student (light, blur and noise on top): the teacher's labels lie on the student's pixels.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.image import IMAGE_SUFFIXES, read_image
from cropseg_edge.labelled import read_mask
from cropseg_edge.roots import OWN_SPLIT, describe, set_at, trainable_entry, unlabelled_stems
from training.config import AugmentationConfig, DataConfig, Section, TrainConfig
from training.data.augmentation import photometric, random_crop
from training.data.batches import normalise, step_loader
from training.data.fields import held_out
from training.data.shards import ShardSet, index_path, read_shards
from training.distributed import Workers


class StrongAugmentation(AugmentationConfig):
    """More of everything, for pictures that a teacher labels."""

    colour: float = Field(1.0, ge=0, le=1)
    dusk: float = Field(0.2, ge=0, le=1)
    shadow: float = Field(0.4, ge=0, le=1)
    blur: float = Field(0.5, ge=0, le=1)
    noise: float = Field(0.5, ge=0, le=1)


class UnlabelledConfig(Section):
    """Where pictures without labels come from; labels that they may have are not read.

    `weights` are relative and name a set of `data.roots`, or a folder: of images, or of a set in
    another root. `veto` gives, for some of them, the folder that `pseudo-label` wrote: what its
    masks call background (0) cannot be vegetation, where `scores.csv` calls the picture ok.
    """

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    batch: int = Field(8, ge=1)
    strong: StrongAugmentation = StrongAugmentation()
    veto: dict[str, Path] = Field({})


class UnlabelledDataset(Dataset):
    """Endless random crops of unlabelled pictures; the number of a sample decides it."""

    def __init__(self, config: UnlabelledConfig, data: DataConfig, seed: int, samples: int) -> None:
        self.data, self.augmentation, self.seed = data, config.strong, seed
        self.samples = samples
        if unknown := set(config.veto) - set(config.weights):
            raise ConfigError(f"unlabelled.veto names {sorted(unknown)}, which weights does not")
        self.sets = [find_pictures(data, name) for name in config.weights]
        self.stems = [list(found.pairs) for found in self.sets]
        for number, name in enumerate(config.weights):
            if {Path(name).name, Path(name).parent.name} & set(data.weights):
                kept = [s for s in self.stems[number] if not held_out(s, data.validation)]
                self.stems[number] = kept
            if not self.stems[number]:
                raise ConfigError(f"data.validation {data.validation} leaves {name} no picture")
        self.ground = [
            ground_masks(config.veto[name], stems) if name in config.veto else {}
            for name, stems in zip(config.weights, self.stems, strict=True)
        ]
        weights = np.array(list(config.weights.values()), float)
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """The weak and the strong view, float32 [3, size, size] RGB normalised, and where depth
        says bare ground, bool [n, n] with n = size / label_step."""
        rng = np.random.default_rng((self.seed, index, 1))  # 1: not the labelled stream's numbers
        chosen = int(rng.choice(len(self.sets), p=self.weights))
        stem = self.stems[chosen][rng.integers(len(self.stems[chosen]))]
        image = self.sets[chosen].picture(stem)
        ground = read_ground(self.ground[chosen].get(stem), image.shape[:2])
        data = self.data
        weak, ground = random_crop(
            image, ground, data.crop, data.frame, self.augmentation, rng, data.label_step
        )
        strong = photometric(weak, self.augmentation, rng)
        return normalise(weak), normalise(strong), torch.from_numpy(ground > 0)


def unlabelled_batches(
    config: UnlabelledConfig, train: TrainConfig, first_step: int, workers: Workers
) -> DataLoader:
    """This process's share of the batches of the steps `first_step` to `train.steps`: weak views,
    strong views, bare ground. Samples belong to steps as in `training.data.batches.batches`."""
    if config.batch % (workers.world * train.accumulate):
        raise ConfigError(
            f"unlabelled.batch {config.batch} cannot be shared by {workers.world} processes in "
            f"{train.accumulate} parts each; choose a multiple"
        )
    dataset = UnlabelledDataset(config, train.data, train.seed, train.steps * config.batch)
    return step_loader(dataset, config.batch, first_step, train.data.workers, workers)


@dataclass(frozen=True)
class Folder:
    """Images in a folder, by stem, sorted; with the licence that a data root states."""

    pairs: dict[str, Path]
    licence: str = "unknown"

    def picture(self, stem: str) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] BGR. Raises FrameError."""
        return read_image(self.pairs[stem])


def find_pictures(data: DataConfig, name: str) -> Folder | ShardSet:
    """The pictures called `name`: a set of `data.roots`, or a folder, which may be a set of
    another data root.

    Of a set, what `splits.csv` puts into `data.split` or `unlabelled`, or the shards of these.

    Raises:
        FrameError: no such set or folder, nothing in it, or it may not be trained on.
        ConfigError: a root's tables cannot be read.
    """
    named = next(((root, name) for root in data.roots if name in describe(root)), None)
    if found := named or set_at(Path(name)):
        root, of_set = found
        licence = str(trainable_entry(root, of_set).get("licence", "unknown"))
        shards = [
            read_shards(root, of_set, split, licence, {})
            for split in dict.fromkeys((data.split, OWN_SPLIT))
            if index_path(root, of_set, split).exists()
        ]
        if shards:
            pairs = {stem: entry for part in shards for stem, entry in part.pairs.items()}
            return replace(shards[0], pairs=dict(sorted(pairs.items())))
        stems = unlabelled_stems(root, of_set, data.split)
        return _images(root / of_set / "images", stems, licence)
    if not Path(name).is_dir():
        looked = ", ".join(map(str, data.roots))
        raise FrameError(f"unlabelled: {name} is no folder of images, nor a set in {looked}")
    return _images(Path(name), None)


def ground_masks(folder: Path, stems: list[str]) -> dict[str, Path]:
    """The masks of a label folder of `pseudo-label`, by stem, whose picture `scores.csv` calls ok:
    a closed canopy, which has no ground to fit, is refused there but keeps its mask.

    Raises:
        ConfigError: none of the pictures has one, or `scores.csv` cannot be read.
    """
    path = folder / "scores.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            trusted = {row["stem"] for row in csv.DictReader(file) if row["status"] == "ok"}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise ConfigError(
            f"unlabelled.veto: {path} cannot be read ({error}); give the folder that pseudo-label "
            "wrote (--out)"
        ) from error
    masks = {stem: folder / "masks" / f"{stem}.png" for stem in stems if stem in trusted}
    if not masks:
        raise ConfigError(
            f"unlabelled.veto: {path} calls none of the pictures ok ({stems[0]} and so on); "
            "were they labelled under other names?"
        )
    return masks


def read_ground(mask_path: Path | None, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Where a mask of `pseudo-label` says background, uint8 [H, W] of 0 and 1; all 0 without one.

    Raises:
        FrameError: the mask cannot be read or is of another size.
    """
    if mask_path is None:
        return np.zeros(size, np.uint8)
    mask = read_mask(mask_path)
    if mask.shape != size:
        raise FrameError(
            f"{mask_path}: the mask is {mask.shape[1]}x{mask.shape[0]}, its image "
            f"{size[1]}x{size[0]}; they must be of one size"
        )
    return (mask == 0).astype(np.uint8)


def _images(folder: Path, stems: set[str] | None, licence: str = "unknown") -> Folder:
    found = {
        path.stem: path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES and (stems is None or path.stem in stems)
    }
    if not found:
        raise FrameError(f"unlabelled: {folder} has no image that may be trained on")
    return Folder(found, licence)
