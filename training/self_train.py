"""Stage 2: a teacher labels pictures that have no labels, and a student learns from both.

The guided distillation of Berrada et al.: Guided Distillation for Semi-Supervised Instance
Segmentation (WACV 2024), with class sets for labels: the student learns from a fixed teacher until
burn-in ends, and from then on from the average of its own weights.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from training.config import Section, TrainConfig
from training.data.unlabelled import UnlabelledConfig, UnlabelledDataset, unlabelled_batches
from training.models.fade import bilinear_like
from training.run import Run
from training.selection import (
    READINGS,
    balanced_thresholds,
    move_thresholds,
    pseudo_labels,
    veto,
)
from training.teacher import Teacher, as_seen_by, autocast, check_lessons, lessons
from training.train import take, training_steps

Share = Annotated[float, Field(ge=0, le=1)]


class SelectionConfig(Section):
    """Which predictions of the teacher become labels; see `training.selection`."""

    keep: Share = 0.8  # share of each class's predictions
    bounds: tuple[Share, Share] = (0.6, 0.95)  # of the thresholds: never trusted, always trusted
    momentum: float = Field(0.99, ge=0, lt=1)
    open_plants: bool = False  # the teacher was never told crop from weed


class SelfTrainConfig(TrainConfig):
    """One run of `python -m training self-train`. `init` gives the student's first weights."""

    teacher: Path
    unlabelled: UnlabelledConfig
    burn_in: int = Field(ge=0)  # steps with the fixed teacher
    weight: float = Field(1.0, ge=0)  # of the loss on the teacher's labels
    selection: SelectionConfig = SelectionConfig()


def self_train(config: SelfTrainConfig, out: Path) -> Path:
    """Train a student, or go on where `out/last.pt` stands; returns the checkpoint's path.

    `out` gets what `train` writes, and `teacher.json` with the teacher's held-out figures.

    Raises:
        ConfigError: as `train`; the teacher is no checkpoint.
        FrameError: as `train`; unlabelled pictures are missing, or kept for evaluation.
    """
    UnlabelledDataset(config.unlabelled, config.data, config.seed, 0)  # its names, before the rest
    teacher = Teacher(config.teacher)
    steps = training_steps(config, out, lambda _, saved: SelfTrainRun(config, teacher, saved))
    if next(steps).workers.first:
        teacher.record(config, out)
    return take(steps, out / "last.pt")


class SelfTrainRun(Run):
    """A run whose batches have an unlabelled half that a teacher labels."""

    def __init__(
        self, config: SelfTrainConfig, teacher: Teacher, saved: Path | None = None
    ) -> None:
        super().__init__(config, saved)
        self.settings, self.fixed = config, teacher.to(self.device)
        self.thresholds = torch.full(
            (len(READINGS),), config.selection.bounds[1], device=self.device
        )
        self._shares: list[Tensor] = []

    @property
    def teacher(self) -> nn.Module:
        """Who labels at this step."""
        return self.fixed.model if self.step < self.settings.burn_in else self.average.model

    def batches(self) -> Iterable[Any]:
        config = self.settings
        unlabelled = unlabelled_batches(config.unlabelled, config, self.step, self.workers)
        return zip(super().batches(), unlabelled, strict=True)

    @torch.no_grad()
    def labels(self, weak: Tensor, ground: Tensor) -> Tensor:
        """The teacher's class sets uint8 [B, h, w] of weak views [B, 3, H, W], thresholds moved,
        vegetation taken out where depth says bare ground (bool [B, h, w])."""
        selection = self.settings.selection
        with autocast(self):
            logits = self.teacher(as_seen_by(self.teacher, weak, self.model.fine))
        probability = bilinear_like(logits.float(), ground.shape[-2:]).softmax(1)
        momentum = min(selection.momentum, (1 + self.step) / (10 + self.step))
        target = self._over_processes(balanced_thresholds(probability, selection.keep))
        self.thresholds = move_thresholds(self.thresholds, target, momentum, selection.bounds)
        taught = pseudo_labels(probability, self.thresholds, open_plants=selection.open_plants)
        allowed = veto(taught, ground)
        self._shares.append(
            torch.stack([(allowed > 0), (taught != allowed)]).float().mean((1, 2, 3))
        )
        return allowed

    def _over_processes(self, target: Tensor) -> Tensor:
        """The mean over the processes that have the class."""
        has = self.workers.mean((~target.isnan()).float())
        return self.workers.mean(target.nan_to_num(0.0)) / has  # 0 / 0: NaN where none has it

    def loss(self, batch: Any) -> Tensor:
        (image, sets), (weak, strong, ground) = batch
        labels = self.labels(weak, ground)
        logits = self.predict(torch.cat([image, strong]), sets)
        known, taught = logits.split([len(image), len(strong)])
        seen, guessed = self.labelled_loss(known, sets), self.labelled_loss(taught, labels)
        return seen + self.settings.weight * guessed

    def figures(self) -> dict[str, object]:
        """Shares of the unlabelled pixels that got a label and that depth vetoed, since the last
        line of the log, and the thresholds."""
        kept, vetoed = torch.stack(self._shares).mean(0) if self._shares else (torch.nan,) * 2
        self._shares = []
        named = zip(READINGS, self.thresholds.tolist(), strict=True)
        return {
            "kept": f"{kept:.3f}",
            "vetoed": f"{vetoed:.4f}",
            **{f"sure_{name}": f"{value:.3f}" for name, value in named},
        }

    def extra_state(self) -> dict[str, Any]:
        return {
            **lessons(self.fixed, self.settings.unlabelled),
            "thresholds": self.thresholds,
            "shares": self._shares,
        }

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        check_lessons(extra, lessons(self.fixed, self.settings.unlabelled))
        self.thresholds = extra["thresholds"].to(self.device)
        self._shares = list(extra["shares"])
