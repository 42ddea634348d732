"""One training run: configuration in, checkpoint and log out; killed and restarted, it goes on."""

import csv
import logging
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TextIO

from training.checkpoint import read_state, save_atomically
from training.config import TrainConfig, dump_config
from training.optimiser import learning_rate
from training.run import Run
from training.validation import validate, validation_pictures

log = logging.getLogger("training")
LOG_FIELDS = ("step", "loss", "lr", "seconds", "vegetation_miou", "crop_miou")


def train(config: TrainConfig, out: Path, kind: Callable[[TrainConfig], Run] = Run) -> Path:
    """Train to the end; returns the checkpoint's path. See `training_steps`."""
    for _ in training_steps(config, out, kind):
        pass
    return out / "last.pt"


def training_steps(
    config: TrainConfig, out: Path, kind: Callable[[TrainConfig], Run] = Run
) -> Iterator[Run]:
    """Train, or go on where `out/last.pt` stands; yields the run before the first step and after
    each one, so that several runs can go on side by side.

    `kind` says how: the run is `kind(config)`.

    `out` gets `last.pt`, `log.csv` (a line every `save_every` steps) and `config.yaml`.

    Raises:
        ConfigError: the checkpoint there cannot be read, is of another size, or has seen other
            samples than this configuration gives.
        FrameError: a data set is missing or unreadable.
    """
    validation = list(validation_pictures(config))
    out.mkdir(parents=True, exist_ok=True)
    run = kind(config)
    checkpoint = out / "last.pt"
    if checkpoint.exists():
        run.load_state(read_state(checkpoint))
        log.info("going on at step %d of %d", run.step, config.steps)
    elif config.init is not None:
        run.start_from(read_state(config.init))
        log.info("starting from %s, after %d steps", config.init, run.steps_before)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")

    yield run
    first, started, losses = run.step, time.monotonic(), []
    with (out / "log.csv").open("a+", newline="", encoding="utf-8") as file:
        writer = resume_log(file, run.step, (*LOG_FIELDS, *run.figures()))
        for batch in run.batches():
            losses.append(run.train_step(batch))
            if run.step % config.save_every and run.step != config.steps:
                yield run
                continue
            seconds = (time.monotonic() - started) / (run.step - first)
            row: dict[str, object] = {
                "step": run.step,
                "loss": f"{sum(losses) / len(losses):.4f}",
                "lr": f"{learning_rate(run.step - 1, config.steps, config.optimiser):.2e}",
                "seconds": f"{seconds:.3f}",
            } | run.figures()
            losses = []
            if validation and (run.step % config.validate_every == 0 or run.step == config.steps):
                figures = validate(run.average.model, validation, config.data.frame)
                row |= {"vegetation_miou": f"{figures[0]:.2f}", "crop_miou": f"{figures[1]:.2f}"}
            writer.writerow(row)
            file.flush()
            save_atomically(checkpoint, run.state())
            minutes = (config.steps - run.step) * seconds / 60
            figures_text = " ".join(f"{key} {value}" for key, value in row.items())
            log.info("%s of %d, %.0f min left", figures_text, config.steps, minutes)
            yield run


def resume_log(
    file: TextIO, step: int, fields: Collection[str] = LOG_FIELDS
) -> "csv.DictWriter[str]":
    """A writer at the end of a CSV log, after rows past `step` (of a killed run) are dropped."""
    file.seek(0)
    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    file.seek(0)
    file.truncate()
    writer = csv.DictWriter(file, fields)
    writer.writeheader()
    writer.writerows(rows)
    return writer
