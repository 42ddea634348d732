"""A checkpoint that teaches: its averaged network, and what of it a run keeps on record."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from training.checkpoint import load_model
from training.config import TrainConfig
from training.data.unlabelled import UnlabelledConfig
from training.models.segformer import SegFormer
from training.models.segmenter import CropSegmenter
from training.run import AUTOCAST, Run
from training.validation import validate, validation_pictures

log = logging.getLogger("training")


class Teacher:
    """The averaged network of a checkpoint, in eval mode and never trained.

    Raises:
        ConfigError: no checkpoint, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, state = load_model(path)
        self.model.requires_grad_(False)
        self.sha256 = fingerprint(state["ema"])

    def to(self, device: torch.device) -> "Teacher":
        """Itself, moved."""
        self.model.to(device)
        return self

    def record(self, config: TrainConfig, out: Path) -> None:
        """Its figures on the run's held-out pictures, once, as `out/teacher.json`."""
        path = out / "teacher.json"
        if path.exists() and self.sha256 in path.read_text(encoding="utf-8"):
            return
        if not (pictures := list(validation_pictures(config))):
            return
        found = validate(self.model, pictures, config.data.frame)
        figures = {key: round(value, 2) for key, value in found.items()}
        log.info("teacher: %s", " ".join(f"{key} {value:.2f}" for key, value in figures.items()))
        record = {"checkpoint": str(self.path), "sha256": self.sha256, **figures}
        write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")


def as_seen_by(teacher: CropSegmenter | SegFormer, image: Tensor, fine: int) -> Tensor:
    """Pictures [B, 3, H, W] for a student of this `fine`, averaged to the size that the teacher
    takes.

    Raises:
        ConfigError: the teacher wants finer pictures than the student.
    """
    if fine % teacher.fine:
        raise ConfigError(
            f"the teacher reads pictures {teacher.fine} times as fine as its strides, the student "
            f"{fine} times; the student's must be a multiple"
        )
    return image if fine == teacher.fine else F.avg_pool2d(image, fine // teacher.fine)


def fingerprint(weights: dict[str, Tensor]) -> str:
    """SHA-256 of the weights, wherever and in whatever file they lie."""
    digest = hashlib.sha256()
    for value in weights.values():
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def autocast(run: Run) -> torch.autocast:
    """The run's precision, for passes without gradients."""
    dtype = AUTOCAST.get(run.config.precision)
    return torch.autocast(run.device.type, dtype, enabled=dtype is not None)


def lessons(teacher: Teacher, unlabelled: UnlabelledConfig | None) -> dict[str, Any]:
    """What a checkpoint says of the lessons that its run learns from, beside the labelled ones."""
    seen = unlabelled and {"weights": unlabelled.weights, "batch": unlabelled.batch}
    return {"teacher": teacher.sha256, "unlabelled": seen}


def check_lessons(extra: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other lessons than a run began with.

    Raises:
        ConfigError: the checkpoint's `extra` state has another teacher or other pictures.
    """
    if changed := [key for key in now if key not in extra or extra[key] != now[key]]:
        raise ConfigError(
            f"the run there began with another {' and '.join(changed)} (see its config.yaml and "
            "teacher.json), or is no run of this command; choose another --out"
        )
