"""One training run: configuration in, checkpoint and log out; killed and restarted, it goes on."""

import csv
import logging
import time
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml
from torch import Tensor, nn

from cropseg_edge.errors import ConfigError
from training.checkpoint import Average, read_state, save_atomically, size_state
from training.config import OptimiserConfig, TrainConfig, dump_config
from training.data.batches import batches
from training.losses import partial_cross_entropy, set_dice
from training.models.fade import bilinear_like
from training.models.registry import SIZES, build
from training.validation import validate, validation_pictures

log = logging.getLogger("training")
LOG_FIELDS = ("step", "loss", "lr", "seconds", "vegetation_miou", "crop_miou")


def train(config: TrainConfig, out: Path) -> Path:
    """Train, or go on where `out/last.pt` stands; returns the checkpoint's path.

    `out` gets `last.pt`, `log.csv` (a line every `save_every` steps) and `config.yaml`.

    Raises:
        ConfigError: the checkpoint there cannot be read, is of another size, or has seen other
            samples than this configuration gives.
        FrameError: a data set is missing or unreadable.
    """
    validation = list(validation_pictures(config))
    out.mkdir(parents=True, exist_ok=True)
    run = Run(config)
    checkpoint = out / "last.pt"
    if checkpoint.exists():
        run.load_state(read_state(checkpoint))
        log.info("going on at step %d of %d", run.step, config.steps)
    elif config.init is not None:
        run.start_from(read_state(config.init))
        log.info("starting from %s, after %d steps", config.init, run.steps_before)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")

    first, started, losses = run.step, time.monotonic(), []
    with (out / "log.csv").open("a+", newline="", encoding="utf-8") as file:
        writer = resume_log(file, run.step)
        for image, sets in batches(config, first):
            losses.append(run.train_step(image, sets))
            if run.step % config.save_every and run.step != config.steps:
                continue
            seconds = (time.monotonic() - started) / (run.step - first)
            row: dict[str, object] = {
                "step": run.step,
                "loss": f"{sum(losses) / len(losses):.4f}",
                "lr": f"{learning_rate(run.step - 1, config.steps, config.optimiser):.2e}",
                "seconds": f"{seconds:.3f}",
            }
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
    return checkpoint


class Run:
    """What changes while a network is trained: weights, their average, optimiser, step."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        if config.size not in SIZES:
            raise ConfigError(f"size must be one of {', '.join(SIZES)}; got {config.size!r}")
        self.size = SIZES[config.size]
        self.model = build(self.size).to(memory_format=torch.channels_last)
        self.average = Average.of(self.model, config.optimiser.ema)
        self.optimiser = make_optimiser(self.model, config.optimiser)
        self.step = 0
        self.steps_before = 0  # of the stages that this run started from

    def state(self) -> dict[str, object]:
        """Everything that a resumed run needs."""
        return {
            "size": size_state(self.size),
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "steps_before": self.steps_before,
            "config": dump_config(self.config),
        }

    def start_from(self, state: dict) -> None:
        """Take over the averaged weights of an earlier stage; ConfigError if of another size."""
        self._check_size(state)
        self.model.load_state_dict(state["ema"])
        self.average = Average.of(self.model, self.config.optimiser.ema)
        self.steps_before = state.get("steps_before", 0) + state["step"]

    def load_state(self, state: dict) -> None:
        """Go on from `state()`; raises ConfigError if that is of another size or other data."""
        self._check_size(state)
        began, now = samples_of(yaml.safe_load(state["config"])), samples_of(self.config)
        if changed := [key for key in now if began.get(key) != now[key]]:
            raise ConfigError(
                f"the run there began with another {', '.join(changed)} (see its config.yaml), and "
                "what it has seen could no longer be told; choose another --out"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.average.model.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError("the checkpoint's weights do not fit its size") from error
        self.step = state["step"]
        self.steps_before = state.get("steps_before", 0)

    def _check_size(self, state: dict) -> None:
        if state["size"] != size_state(self.size):
            raise ConfigError(
                f"the checkpoint is of size {state['size']['name']} with other widths than "
                f"{self.size.name} has here; choose another --out"
            )

    def train_step(self, image: Tensor, sets: Tensor) -> float:
        """One optimiser step on a batch; returns the loss. A gradient that is not finite is
        left out with a warning."""
        config = self.config
        self.model.train()
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout survives a resume
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config.steps, config.optimiser)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            logits = self.model(image.to(memory_format=torch.channels_last))
        logits = bilinear_like(logits.float(), image.shape[-2:])
        loss = partial_cross_entropy(logits, sets) + config.dice * set_dice(logits, sets)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self.average.update(self.model, self.step)
        else:
            log.warning("step %d: gradient is not finite, step left out", self.step)
        self.step += 1
        return loss.item()


def samples_of(config: TrainConfig | dict[str, Any]) -> dict[str, object]:
    """What decides which pictures a run sees and which it holds out, by key."""
    values = config if isinstance(config, dict) else config.model_dump(mode="json")
    data = values["data"]
    own = {key: values.get(key) for key in ("seed", "batch")}
    return own | {f"data.{key}": data.get(key) for key in ("weights", "split", "validation")}


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    cool = min(1.0, (steps - step) / max(config.decay * steps, 1))
    return config.lr * warm * cool


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; no decay on biases, norms and other vectors, nor on the embeddings."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        vector = parameter.dim() <= 1 or name.endswith(("pos_embed", "level_embed"))
        (plain if vector else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def resume_log(file: TextIO, step: int) -> "csv.DictWriter[str]":
    """A writer at the end of a CSV log, after rows past `step` (of a killed run) are dropped."""
    file.seek(0)
    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    file.seek(0)
    file.truncate()
    writer = csv.DictWriter(file, LOG_FIELDS)
    writer.writeheader()
    writer.writerows(rows)
    return writer
