"""Training samples by number: sample i is the same in every run, so a run resumes exactly."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cropseg_edge.errors import ConfigError
from training.config import TrainConfig
from training.data.augmentation import photometric, random_crop
from training.data.fields import FieldSet, find_set, held_out
from training.data.labels import loosened
from training.distributed import ALONE, Workers
from training.interrupt import leave_group

MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255 (ImageNet)
STD = (58.395, 57.12, 57.375)


def normalise(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] BGR to float32 [3, H, W] RGB, as the bundle's manifest says."""
    rgb = image[..., ::-1].astype(np.float32)
    return torch.from_numpy((rgb - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)


class CropDataset(Dataset):
    """Endless random crops, drawn by the sets' weights; the number of a sample decides it."""

    def __init__(self, config: TrainConfig, samples: int) -> None:
        data = config.data
        self.config, self.samples = config, samples
        self.sets: list[FieldSet] = [find_set(data.roots, n, data.split) for n in data.weights]
        self.stems = [
            [s for s in field.pairs if not held_out(s, data.validation)] for field in self.sets
        ]
        for name, stems in zip(data.weights, self.stems, strict=True):
            if not stems:
                raise ConfigError(f"data.validation {data.validation} leaves {name} no picture")
        weights = np.array(list(data.weights.values()), float)
        self.weights = weights / weights.sum()
        self._cache: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}
        self._cached = 0  # bytes

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Crop float32 [3, size, size] RGB normalised, and class sets uint8 [n, n] with
        n = size / label_step."""
        rng = np.random.default_rng((self.config.seed, index))
        chosen = int(rng.choice(len(self.sets), p=self.weights))
        stem = self.stems[chosen][rng.integers(len(self.stems[chosen]))]
        key = (chosen, stem)
        data, augmentation = self.config.data, self.config.augmentation
        picture = self._cache.get(key) or self.read(chosen, stem)
        if key not in self._cache and self._cached < data.cache * 1e9:
            self._cache[key] = picture
            self._cached += sum(part.nbytes for part in picture)
        image, sets = random_crop(
            *picture, data.crop, data.frame, augmentation, rng, data.label_step
        )
        return normalise(photometric(image, augmentation, rng)), torch.from_numpy(sets)

    def read(self, chosen: int, stem: str) -> tuple[np.ndarray, np.ndarray]:
        """A whole picture of set number `chosen` and its class sets, loose outlines left open."""
        field = self.sets[chosen]
        image, sets = field.read(stem)
        band = self.config.data.loose.get(field.name)
        return image, sets if band is None else loosened(sets, band)


def batches(config: TrainConfig, first_step: int, workers: Workers = ALONE) -> DataLoader:
    """This process's share of the batches of the steps `first_step` to `config.steps`."""
    dataset = CropDataset(config, config.steps * config.batch)
    return step_loader(dataset, config.batch, first_step, config.data.workers, workers)


def step_loader(
    dataset: Dataset, batch: int, first_step: int, reading: int, workers: Workers = ALONE
) -> DataLoader:
    """This process's share of each batch of a numbered data set, from step `first_step` on.

    Step s sees the samples s * batch to (s + 1) * batch, however many processes share them.

    Args:
        reading: reading processes.
    """
    share = batch // workers.world
    starts = range(first_step * batch + workers.rank * share, len(dataset), batch)
    return DataLoader(
        dataset,
        batch_sampler=[range(start, start + share) for start in starts],
        num_workers=reading,
        prefetch_factor=4 if reading else None,
        pin_memory=workers.device.type == "cuda",
        worker_init_fn=leave_group,
    )


def gist(error: Exception) -> str:
    """The message of an error; of one that came from a reading process, without its traceback."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text
