"""One teacher, one or more students at once: what it sees and how it upsamples goes to them.

Student and teacher see the same view of a picture, hard light included, and the student matches
what the teacher makes of just that (Beyer et al.: Knowledge Distillation: A Good Teacher Is
Patient and Consistent, CVPR 2022). Labels, where pictures have them, are learnt beside it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.files import write_atomically
from training.config import TrainConfig, dump_config
from training.data.unlabelled import UnlabelledConfig, UnlabelledDataset, unlabelled_batches
from training.distributed import replicate
from training.interrupt import Held, watched_readers
from training.matching import Outputs, Projections, divergence, mismatch, outputs
from training.models.fade import FadeInputs, bilinear_like
from training.models.segmenter import CropSegmenter
from training.run import Run
from training.teacher import Teacher, as_seen_by, autocast, check_lessons, lessons
from training.train import save, stop, training_steps


class DistillConfig(TrainConfig):
    """One run of `python -m training distill`.

    `students` gives for each size the checkpoint to start from, or null; it stands for `size` and
    `init`.
    """

    teacher: Path
    students: dict[str, Path | None] = Field(min_length=1)
    unlabelled: UnlabelledConfig | None = None
    temperature: float = Field(2.0, gt=0)
    logits: float = Field(1.0, ge=0)  # weight of the logits' divergence
    fade: float = Field(1.0, ge=0)  # weight of the maps' mismatch, FADE's inputs and the decoder's
    supervised: float = Field(1.0, ge=0)  # weight of the labels

    @model_validator(mode="after")
    def _students_alone_name_sizes(self) -> "DistillConfig":
        fields = type(self).model_fields
        if any(getattr(self, key) != fields[key].default for key in ("size", "init")):
            raise ValueError("students: {SIZE: CHECKPOINT or null} stands for size and init")
        return self


def distill(config: DistillConfig, out: Path) -> dict[str, Path]:
    """Train all students, or go on where they stand; returns each size's checkpoint.

    `out/SIZE` gets what `train` writes, `out` config.yaml and the teacher's held-out figures.
    Students take steps in turn, and one that was saved later than another waits for it.

    Raises:
        ConfigError: as `train`; the teacher is no checkpoint.
        FrameError: as `train`; unlabelled pictures are missing, or kept for evaluation. What every
            student has learnt is saved.
    """
    if config.unlabelled:  # its names, before the rest
        UnlabelledDataset(config.unlabelled, config.data, config.seed, 0)
    teacher = Teacher(config.teacher)
    lesson = Lesson(teacher)
    runs = {}
    for size, init in config.students.items():
        own = config.model_copy(update={"size": size, "init": init})
        steps = training_steps(own, out / size, lambda c, saved: DistillRun(c, lesson, saved))
        runs[size] = next(steps), steps
    paths = {size: out / size / "last.pt" for size in runs}
    if all(run.workers.first for run, _ in runs.values()):
        if any(run.step < config.steps for run, _ in runs.values()):
            write_atomically(out / "config.yaml", dump_config(config).encode())
        teacher.record(config, out)
    waiting = dict(runs)
    with Held() as held, watched_readers(held):
        while waiting:
            size = min(waiting, key=lambda name: waiting[name][0].step)
            try:
                if next(waiting[size][1], None) is None:
                    del waiting[size]
            except (ConfigError, FrameError):  # this student is saved as far as it is good
                for other, (run, _) in waiting.items():
                    if other != size:
                        save(run, paths[other])
                raise
            if held.number:
                stop([(run, paths[size]) for size, (run, _) in waiting.items()], held)
    return paths


class Lesson:
    """What the teacher makes of a step's pictures, once for all students of one `fine`."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.forget()

    def forget(self) -> None:
        """Let go of what was seen."""
        self._step = -1
        self._parts: dict[tuple[int, int], Outputs] = {}

    @torch.no_grad()
    def of(self, step: int, part: int, image: Tensor, run: Run) -> Outputs:
        """The teacher's outputs for `image` [B, 3, H, W], which is part `part` of step `step` for
        every student."""
        if step != self._step:
            self._step, self._parts = step, {}
        key = part, run.model.fine
        if key not in self._parts:
            with autocast(run):
                model = self.teacher.model
                seen = as_seen_by(model, image, run.model.fine)
                self._parts[key] = watch(model, model.predict, seen)
        return self._parts[key]


class DistillRun(Run):
    """A run that learns from a teacher's outputs, and from labels where there are some."""

    def __init__(self, config: DistillConfig, lesson: Lesson, saved: Path | None = None) -> None:
        super().__init__(config, saved)
        self.settings, self.lesson = config, lesson
        lesson.teacher.to(self.device)
        blank = torch.zeros(1, 3, *2 * (2 * self.model.multiple,), device=self.device)
        with torch.no_grad():
            model, teacher = self.model.eval(), lesson.teacher.model
            seen = as_seen_by(teacher, blank, model.fine)
            shapes = [watch(m, m.predict, x).maps for m, x in ((model, blank), (teacher, seen))]
        self.projections = Projections(*shapes).to(self.device)
        self._project: nn.Module | None = None
        if parameters := list(self.projections.parameters()):
            self._project = replicate(self.projections, self.workers)
            self.optimiser.add_param_group({"params": parameters, "weight_decay": 0.0})
        self._place = (0, -1)  # step, and the part of it that was seen last
        self._losses: list[Tensor] = []

    def batches(self) -> Iterable[Any]:
        unlabelled = self.settings.unlabelled
        if unlabelled is None:
            return ((labelled,) for labelled in super().batches())
        more = unlabelled_batches(unlabelled, self.config, self.step, self.workers)
        return zip(super().batches(), more, strict=True)

    def loss(self, batch: Any) -> Tensor:
        (image, sets), *unlabelled = batch
        labelled = len(image)
        image = torch.cat([image, *(strong for _, strong, _ in unlabelled)])
        step, part = self._place
        self._place = self.step, part + 1 if step == self.step else 0
        taught = self.lesson.of(*self._place, image, self)
        own = watch(self.model, partial(self.call, "predict"), image)
        maps = self._project("forward", own.maps) if self._project else own.maps
        logits = bilinear_like(own.logits[:labelled], sets.shape[-2:])
        losses = torch.stack(
            [
                divergence(own.logits, taught.logits, self.settings.temperature),
                mismatch(maps, taught.maps),
                self.labelled_loss(logits, sets),
            ]
        )
        self._losses.append(losses.detach())
        weights = (self.settings.logits, self.settings.fade, self.settings.supervised)
        return (losses * losses.new_tensor(weights)).sum()

    def figures(self) -> dict[str, object]:
        """The parts of the loss, unweighted, since the last line of the log."""
        means = torch.stack(self._losses).mean(0).tolist() if self._losses else [torch.nan] * 3
        self._losses = []
        names = ("logits", "fade", "supervised")
        return {f"loss_{name}": f"{value:.4f}" for name, value in zip(names, means, strict=True)}

    def extra_state(self) -> dict[str, Any]:
        known = lessons(self.lesson.teacher, self.settings.unlabelled)
        return {**known, "projections": self.projections.state_dict(), "losses": self._losses}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        check_lessons(extra, lessons(self.lesson.teacher, self.settings.unlabelled))
        self.projections.load_state_dict(extra["projections"])
        self._losses = list(extra["losses"])


def watch(model: CropSegmenter, predict: Callable[[Tensor], FadeInputs], image: Tensor) -> Outputs:
    """The outputs of `predict`, with the map of the model's decoder among them."""
    decoded: list[Tensor] = []
    hook = model.decoder.register_forward_hook(lambda _, __, output: decoded.append(output))
    try:
        logits, maps = outputs(predict(image))
    finally:
        hook.remove()
    return Outputs(logits, {"decoder": decoded[0].float(), **maps})
