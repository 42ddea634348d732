"""One training run: configuration in, checkpoint and log out; killed and restarted, it goes on."""

import csv
import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import yaml

from cropseg_edge.errors import ConfigError, CropSegError, FrameError, StorageError
from cropseg_edge.files import write_atomically
from training.checkpoint import finite, read_state, save_atomically
from training.config import TrainConfig, changes, dump_config
from training.data.batches import gist
from training.data.fields import FieldSet
from training.interrupt import Held, watched_readers
from training.optimiser import learning_rate
from training.provenance import own_sets
from training.run import Run
from training.validation import validate, validation_pictures

log = logging.getLogger("training")
PATIENCE = 50  # steps left out in a row; the scale of fp16 finds its place in fewer
HELD_OUT = ("vegetation_miou", "crop_miou")
LOG_FIELDS = ("step", "loss", "lr", "seconds", *HELD_OUT)
Row = dict[str, object]
Kind = Callable[[TrainConfig, Path | None], Run]


def train(config: TrainConfig, out: Path, kind: Kind = Run) -> Path:
    """Train to the end; returns the checkpoint's path. See `training_steps` and `take`."""
    return take(training_steps(config, out, kind), out / "last.pt")


def take(steps: Iterator[Run], checkpoint: Path) -> Path:
    """Take the steps to their end; returns the checkpoint's path.

    Raises:
        KeyboardInterrupt, SystemExit: on SIGINT and SIGTERM, once the step at work is done and, by
            a run of one process, saved.
    """
    with Held() as held, watched_readers(held):
        for run in steps:
            if held.number and run.step < run.config.steps:
                stop([(run, checkpoint)], held)
    return checkpoint


def stop(runs: Iterable[tuple[Run, Path]], held: Held) -> NoReturn:
    """Save the runs, each to its checkpoint, and do what the signal asks for."""
    for run, checkpoint in runs:
        if run.step > (run.saved or 0):
            save(run, checkpoint)
        goes = "goes on from there" if run.saved else "begins anew"
        log.info("%s: %s; the same command %s", run.size.name, saved(run), goes)
    held.act()


def training_steps(config: TrainConfig, out: Path, kind: Kind = Run) -> Iterator[Run]:
    """Train, or go on where `out/last.pt` stands; yields the run before the first step and after
    each one, so that several runs can go on side by side.

    `kind` says how: the run is `kind(config, saved)`, `saved` being `out/last.pt` if it is there.

    `out` gets `last.pt`, `log.csv` (a line every `save_every` steps) and `config.yaml`.

    Raises:
        ConfigError: the checkpoint there cannot be read, is of another size, has seen other samples
            than this configuration gives or more steps; or the loss stays NaN or infinite.
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
    if run.workers.first and run.step < config.steps:
        write_atomically(out / "config.yaml", dump_config(config).encode())
    # A run that was stopped in a validation has a line without its figures.
    last = rows[-1] if rows else {}
    unchecked = last.get("step") == str(run.step) and not any(map(last.get, HELD_OUT))
    if run.workers.any(unchecked):
        check(run, validation, rows, out / "log.csv")
    yield run
    first, started, stream = run.step, time.monotonic(), iter(run.batches())
    while run.step < config.steps:
        run.last_loss = run.train_step(next_batch(run, stream, checkpoint))
        run.losses.append(run.last_loss)
        if run.left_out >= PATIENCE:
            raise diverged(run)
        if run.step % config.save_every and run.step != config.steps:
            yield run
            continue
        seconds = (time.monotonic() - started) / (run.step - first)
        row: Row = {
            "step": run.step,
            "loss": f"{float(sum(run.losses)) / len(run.losses):.4f}",
            "lr": f"{learning_rate(run.step - 1, config.steps, config.optimiser):.2e}",
            "seconds": f"{seconds:.3f}",
        } | run.figures()
        run.losses = []
        rows.append(row)
        write_log(run, out / "log.csv", rows)
        save(run, checkpoint)
        if run.saved != run.step and (
            run.step == config.steps
            or isfinite(run.last_loss)
            or run.step - max(run.saved or 0, first) >= PATIENCE
        ):
            raise diverged(run)
        check(run, validation, rows, out / "log.csv")
        figures_text = " ".join(f"{key} {value}" for key, value in row.items())
        minutes = (config.steps - run.step) * seconds / 60
        log.info("%s: %s of %d, %.0f min left", run.size.name, figures_text, config.steps, minutes)
        yield run


def check(run: Run, validation: list[tuple[FieldSet, str]], rows: list[Row], path: Path) -> None:
    """Add the figures of held-out pictures to the log's last line, where they are due."""
    if not validation or (run.step % run.config.validate_every and run.step != run.config.steps):
        return
    try:
        figures = validate(run.average.model, validation, run.config.data.frame)
    except CropSegError as error:
        raise after_save(run, error) from error
    if rows:
        rows[-1] |= {key: f"{value:.2f}" for key, value in figures.items()}
        write_log(run, path, rows)


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
        f"{gist(error)}; {saved(run)}: repair or remove it and start the same command again"
    )


def diverged(run: Run) -> ConfigError:
    """That nothing is learnt any more, and what to do about it."""
    return ConfigError(
        f"the run has diverged: at step {run.step} its loss, gradient or weights are not finite; "
        f"{saved(run)}; lower optimiser.lr ({run.config.optimiser.lr:g}) and start the same "
        "command again"
    )


def saved(run: Run) -> str:
    """Which step lies on disk, for a message."""
    return "nothing is saved" if run.saved is None else f"step {run.saved} is saved"


def begin(run: Run, checkpoint: Path) -> None:
    """Go on from the checkpoint, or take the weights that the configuration starts from."""
    config, source = run.config, checkpoint
    try:
        if checkpoint.exists():
            resume(run, read_state(checkpoint))
        elif config.init is not None:
            source = config.init
            run.start_from(read_state(source))
            log.info("starting from %s, after %d steps", source, run.steps_before)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(source) in message else f"{source}: {message}") from error
    run.sets |= own_sets(config)


def resume(run: Run, state: dict[str, Any]) -> None:
    """Go on from a saved state, and say with which other settings; ConfigError where it cannot."""
    steps = run.config.steps
    if state["step"] > steps:
        raise ConfigError(
            f"the run there has taken {state['step']} steps, and steps is {steps}; raise it, or "
            "choose another --out"
        )
    run.load_state(state)
    log.info("going on at step %d of %d", run.step, steps)
    began = yaml.safe_load(state["config"])
    for unread in ("init", "trunk"):
        began.pop(unread, None)
    for change in changes(began, run.config) if run.step < steps else ():
        log.info("going on with %s", change)


def save(run: Run, checkpoint: Path) -> None:
    """Write the run's state, unless it has diverged: a weight is not finite, or the last loss was
    not, but for a single step at the end. Every process must call this, the first one writes.

    No process returns before it is written: torchrun ends them all once one of them fails.
    """
    state = run.state()
    single = run.step == run.config.steps and run.left_out == 1
    learnt = isfinite(run.last_loss) or single
    good = learnt and finite(state["model"]) and finite(state["ema"])
    if run.workers.any(not good):
        log.warning("step %d is not saved: its loss or weights are not finite", run.step)
        return
    if run.workers.first:
        save_atomically(checkpoint, state)
    run.saved = run.step
    run.workers.any(False)


def logged(path: Path, step: int) -> list[Row]:
    """The lines of a CSV log up to `step`, without damaged ones; later ones are of a run that was
    killed."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[Row] = [dict(row) for row in csv.DictReader(file)]
    return [row for row in rows if (at := str(row.get("step"))).isdecimal() and int(at) <= step]


def write_log(run: Run, path: Path, rows: list[Row]) -> None:
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
