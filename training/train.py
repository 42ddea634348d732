"""One training run: configuration in, checkpoint and log out; killed and started again, it goes on."""

import csv
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from training.checkpoint import Average, read_state, save_atomically, size_state
from training.config import OptimiserConfig, TrainConfig, dump_config
from training.data.batches import batches, normalise
from training.data.fields import FieldSet, find_set, held_out
from training.losses import partial_cross_entropy, set_dice
from training.models.fade import bilinear_like
from training.models.registry import SIZES, build

log = logging.getLogger("training")
LOG_FIELDS = ("step", "loss", "lr", "seconds", "vegetation_miou", "crop_miou")


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    cool = min(1.0, (steps - step) / max(config.decay * steps, 1))
    return config.lr * warm * cool


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; no decay on biases, norms and other vectors, nor on the position embedding."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        vector = parameter.dim() <= 1 or name.endswith(("pos_embed", "level_embed"))
        (plain if vector else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def train(config: TrainConfig, out: Path) -> Path:
    """Train, or go on where `out/last.pt` stands; returns the checkpoint's path.

    Raises:
        ConfigError: the checkpoint there belongs to another model size.
        FrameError: a data set is missing or unreadable.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "last.pt"
    size = SIZES[config.size]
    torch.manual_seed(config.seed)
    model = build(size).to(memory_format=torch.channels_last)
    average = Average.of(model, config.optimiser.ema)
    optimiser = make_optimiser(model, config.optimiser)
    first = 0
    if path.exists():
        state = read_state(path)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
        log.info("going on at step %d of %d", first, config.steps)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    validation = list(validation_pictures(config))
    drawn = [f.name for f in (find_set(config.data.roots, n, config.data.split)
                              for n in config.data.weights)]

    def save(step: int) -> None:
        save_atomically(
            path,
            {
                "size": size_state(size),
                "model": model.state_dict(),
                "ema": average.model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "config": dump_config(config),
                "datasets": drawn,
            },
        )

    with training_log(out / "log.csv", first) as write:
        started, recent = time.monotonic(), []
        for step, (image, sets) in enumerate(batches(config, first), first):
            loss = train_step(model, optimiser, average, image, sets, step, config)
            recent.append(loss)
            done = step + 1
            if done % config.save_every == 0 or done == config.steps:
                seconds = (time.monotonic() - started) / (done - first)
                mean = sum(recent) / len(recent)
                row = {"step": done, "loss": f"{mean:.4f}", "seconds": f"{seconds:.3f}"}
                row["lr"] = f"{learning_rate(step, config.steps, config.optimiser):.2e}"
                if validation and (done % config.validate_every == 0 or done == config.steps):
                    vegetation, crop = validate(average.model, validation)
                    row |= {"vegetation_miou": f"{vegetation:.2f}", "crop_miou": f"{crop:.2f}"}
                write(row)
                save(done)
                left = (config.steps - done) * seconds / 60
                log.info("step %d/%d  loss %.4f  %.2f s a step, %.0f min left  %s",
                         done, config.steps, mean, seconds, left,
                         f"validation vegetation {row['vegetation_miou']}, crop {row['crop_miou']}"
                         if "crop_miou" in row else "")
                recent = []
    return path


def train_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average,
    image: Tensor,
    sets: Tensor,
    step: int,
    config: TrainConfig,
) -> float:
    """One optimiser step on a batch; returns the loss. Steps whose loss is not finite are left out."""
    model.train()
    torch.manual_seed(config.seed * 1_000_003 + step)  # dropout is the same after a resume
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, config.steps, config.optimiser)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        logits = model(image.to(memory_format=torch.channels_last))
    logits = bilinear_like(logits.float(), image.shape[-2:])
    loss = partial_cross_entropy(logits, sets) + config.dice * set_dice(logits, sets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip)
    if torch.isfinite(norm):
        optimiser.step()
        average.update(model, step)
    else:
        log.warning("step %d: gradient is not finite, step left out", step)
    return loss.item()


def validation_pictures(config: TrainConfig) -> Iterator[tuple[FieldSet, str]]:
    """The held-out share of the training pictures, at most 16 a set."""
    for name in config.data.weights:
        field = find_set(config.data.roots, name, config.data.split)
        stems = [s for s in field.stems if held_out(s, config.data.validation)]
        yield from ((field, stem) for stem in stems[:16])


@torch.no_grad()
def validate(model: nn.Module, pictures: Iterable[tuple[FieldSet, str]]) -> tuple[float, float]:
    """Vegetation and crop mIoU in percent, pixels of all pictures pooled, at 640x480 letterboxed."""
    counts = np.zeros((2, 2, 2), np.int64)  # reading, truth, prediction
    for field, stem in pictures:
        image, sets = field.read(stem)
        scale = min(640 / image.shape[1], 480 / image.shape[0])
        size = (32 * round(image.shape[1] * scale / 32), 32 * round(image.shape[0] * scale / 32))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sets = cv2.resize(sets, size, interpolation=cv2.INTER_NEAREST)
        logits = bilinear_like(model(normalise(image)[None]), image.shape[:2])[0]
        labels = logits.argmax(0).numpy()
        plant, crop = sets & 1 == 0, sets == 2
        decided = (sets > 0) & (plant | (sets == 1)), (sets > 0) & (crop | (sets & 2 == 0))
        for i, (truth, predicted) in enumerate(((plant, labels > 0), (crop, labels == 1))):
            pairs = 2 * truth[decided[i]] + predicted[decided[i]]
            counts[i] += np.bincount(pairs, minlength=4).reshape(2, 2)
    return miou(counts[0]), miou(counts[1])


def miou(counts: np.ndarray) -> float:
    """Mean IoU of both classes in percent, from a 2 x 2 confusion matrix."""
    hit = np.diag(counts)
    return float(100 * np.mean(hit / np.maximum(counts.sum(0) + counts.sum(1) - hit, 1)))


@contextmanager
def training_log(path: Path, first_step: int):
    """A CSV that can be plotted; a resumed run goes on below the rows that still hold."""
    rows = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first_step]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_FIELDS)
        writer.writeheader()
        writer.writerows(rows)
        file.flush()

        def write(row: dict[str, object]) -> None:
            writer.writerow(row)
            file.flush()

        yield write
