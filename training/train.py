"""One training run: configuration in, checkpoint and log out; killed and restarted, it goes on."""

import csv
import io
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cropseg_edge.errors import ConfigError, CropSegError, FrameError, StorageError
from cropseg_edge.files import write_atomically
from training.checkpoint import read_state, save_atomically
from training.config import TrainConfig, dump_config
from training.data.batches import gist
from training.optimiser import learning_rate
from training.provenance import own_sets
from training.run import Run
from training.validation import validate, validation_pictures

log = logging.getLogger("training")
LOG_FIELDS = ("step", "loss", "lr", "seconds", "vegetation_miou", "crop_miou")
Kind = Callable[[TrainConfig, Path | None], Run]


def train(config: TrainConfig, out: Path, kind: Kind = Run) -> Path:
    """Train to the end; returns the checkpoint's path. See `training_steps`."""
    for _ in training_steps(config, out, kind):
        pass
    return out / "last.pt"


def training_steps(config: TrainConfig, out: Path, kind: Kind = Run) -> Iterator[Run]:
    """Train, or go on where `out/last.pt` stands; yields the run before the first step and after
    each one, so that several runs can go on side by side.

    `kind` says how: the run is `kind(config, saved)`, `saved` being `out/last.pt` if it is there.

    `out` gets `last.pt`, `log.csv` (a line every `save_every` steps) and `config.yaml`.

    Raises:
        ConfigError: the checkpoint there cannot be read, is of another size, or has seen other
            samples than this configuration gives.
        FrameError: a data set is missing or unreadable; what was learnt before is saved.
    """
    validation = list(validation_pictures(config))
    checkpoint = out / "last.pt"
    run = kind(config, checkpoint if checkpoint.exists() else None)
    if run.workers.first:
        out.mkdir(parents=True, exist_ok=True)
        if unused := sorted(set(config.data.loose) - set(config.data.weights)):
            log.warning("data.loose names %s, which data.weights does not", ", ".join(unused))
    begin(run, checkpoint)
    rows = logged(out / "log.csv", run.step)
    if run.workers.first:
        write_atomically(out / "config.yaml", dump_config(config).encode())
    yield run
    first, started, stream = run.step, time.monotonic(), iter(run.batches())
    while run.step < config.steps:
        run.losses.append(run.train_step(next_batch(run, stream, checkpoint)))
        if run.step % config.save_every and run.step != config.steps:
            yield run
            continue
        seconds = (time.monotonic() - started) / (run.step - first)
        row: dict[str, object] = {
            "step": run.step,
            "loss": f"{float(sum(run.losses)) / len(run.losses):.4f}",
            "lr": f"{learning_rate(run.step - 1, config.steps, config.optimiser):.2e}",
            "seconds": f"{seconds:.3f}",
        } | run.figures()
        run.losses = []
        rows.append(row)
        write_log(run, out / "log.csv", rows)
        save(run, checkpoint)
        if validation and (run.step % config.validate_every == 0 or run.step == config.steps):
            try:
                figures = validate(run.average.model, validation, config.data.frame)
            except CropSegError as error:
                raise after_save(run, error) from error
            row |= {key: f"{value:.2f}" for key, value in figures.items()}
            write_log(run, out / "log.csv", rows)
        figures_text = " ".join(f"{key} {value}" for key, value in row.items())
        minutes = (config.steps - run.step) * seconds / 60
        log.info("%s: %s of %d, %.0f min left", run.size.name, figures_text, config.steps, minutes)
        yield run


def next_batch(run: Run, stream: Iterator[Any], checkpoint: Path) -> Any:
    """The next item of the run's batches. Where one of the processes cannot read its share, all of
    them save what was learnt and raise."""
    batch, wrong = None, None
    try:
        batch = next(stream)
    except CropSegError as error:
        wrong = error
    if not run.workers.any(wrong is not None):
        return batch
    save(run, checkpoint)
    other = FrameError("another process cannot read a picture, which its own message names")
    raise after_save(run, wrong or other) from wrong


def after_save(run: Run, error: CropSegError) -> CropSegError:
    """The same error, with what to do about it now that the run is saved."""
    return type(error)(
        f"{gist(error)}; step {run.step} is saved: repair or remove it and start the same command "
        "again"
    )


def begin(run: Run, checkpoint: Path) -> None:
    """Go on from the checkpoint, or take the weights that the configuration starts from."""
    config, source = run.config, checkpoint
    try:
        if checkpoint.exists():
            run.load_state(read_state(checkpoint))
            log.info("going on at step %d of %d", run.step, config.steps)
        elif config.init is not None:
            source = config.init
            run.start_from(read_state(source))
            log.info("starting from %s, after %d steps", source, run.steps_before)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(source) in message else f"{source}: {message}") from error
    run.sets |= own_sets(config)


def save(run: Run, checkpoint: Path) -> None:
    """Write the run's state; every process must call this, the first one writes.

    No process returns before it is written: torchrun ends them all once one of them fails.
    """
    state = run.state()
    if run.workers.first:
        save_atomically(checkpoint, state)
    run.workers.any(False)


def logged(path: Path, step: int) -> list[dict[str, object]]:
    """The lines of a CSV log up to `step`; later ones are of a run that was killed."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file) if int(row["step"]) <= step]


def write_log(run: Run, path: Path, rows: list[dict[str, object]]) -> None:
    """Write the log's lines if this is the first process; columns in the order in which they first
    came."""
    if not run.workers.first:
        return
    text = io.StringIO(newline="")
    fields = dict.fromkeys((*LOG_FIELDS, *(key for row in rows for key in row)))
    writer = csv.DictWriter(text, list(fields))
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_atomically(path, text.getvalue().encode(), durable=False)
    except OSError as error:
        raise StorageError(f"{path}: the log cannot be written: {error.strerror}") from error
