"""The arms of the experiment, each a chain of this package's own commands; cut off, it goes on.

fields -> depth with errors -> pseudo labels -> screening -> stage 1 -> stage 2, beside the same
network trained on the truth of the same pictures.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import yaml
from pydantic import Field

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from training.commands.depth import depth
from training.commands.evaluate import evaluate
from training.commands.pseudo_label import pseudo_label
from training.commands.screen import screen
from training.commands.self_train import self_train
from training.commands.train import train
from training.config import Pixels, Section, configured
from training.experiment.fields import TESTS, draw_fields
from training.logfile import log_to

log = logging.getLogger("training")
COMMANDS: dict[str, click.Command] = {
    "depth": depth,
    "pseudo-label": pseudo_label,
    "screen": screen,
    "train": train,
    "self-train": self_train,
    "evaluate": evaluate,
}
ARMS = ("stage 1", "stage 1, as long", "stage 2", "truth", "truth, bilinear")


class ExperimentConfig(Section):
    """Sizes of the experiment."""

    frames: int = Field(2000, ge=2)
    size: tuple[Pixels, Pixels] = (320, 240)  # width, height
    network: str = "nano"
    first_steps: int = Field(300, ge=1)  # stage 1
    second_steps: int = Field(400, ge=1)  # stage 2; the other arms get as many
    batch: int = Field(8, ge=1)
    crop: int = Field(160, ge=64, multiple_of=32)
    keep: float = Field(0.25, gt=0, le=1)  # share of the pool that screening keeps at most
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    threads: int = Field(1, ge=1)


def experiment_config(overrides: tuple[str, ...]) -> ExperimentConfig:
    """The defaults with `key=value` overrides; ConfigError if one is unknown or out of range."""
    return configured({}, overrides, ExperimentConfig, "--set")


@dataclass(frozen=True)
class Folders:
    """Where each step of the experiment leaves its result."""

    out: Path

    @property
    def fields(self) -> Path:
        return self.out / "fields"

    @property
    def depth(self) -> Path:
        return self.out / "depth"

    @property
    def labels(self) -> Path:
        return self.out / "labels" / "pool"

    @property
    def screened(self) -> Path:
        return self.out / "screened"

    def run(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / f"{arm.replace(', ', '_').replace(' ', '_')}_{seed}"


def run_experiment(config: ExperimentConfig, out: Path) -> Path:
    """Run every step that is not done yet; returns `out/results.json`.

    `out` also gets experiment.yaml, the effective configuration, and experiment.log.

    Raises:
        CropSegError: a step failed, or `out` holds an experiment of another configuration.
    """
    where = Folders(out)
    _settle(config, out)
    with log_to(out / "experiment.log"):
        for done, total in draw_fields(where.fields, config.frames, *config.size):
            if done % 500 == 0 or done == total:
                log.info("fields: %d of %d", done, total)
        _make_labels(config, where)
        for seed in config.seeds:
            for arm, command, values in arms(config, where, seed):
                _train(config, where, arm, command, values, seed)
    results = {
        arm: [_figures(where, arm, seed) for seed in config.seeds]
        for arm in ARMS
    }  # fmt: skip
    text = json.dumps({"config": config.model_dump(mode="json"), "arms": results}, indent=1)
    write_atomically(out / "results.json", text.encode())
    return out / "results.json"


def arms(
    config: ExperimentConfig, where: Folders, seed: int
) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Name, command and configuration of every run of a seed, in the order that they need."""
    first, second = config.first_steps, config.second_steps
    common: dict[str, object] = {
        "size": config.network,
        "fine": 1,  # the fields are drawn at the size that the trunk sees
        "subpixel": 1,  # FADE and bilinear on grids of one size
        "batch": config.batch,
        "seed": seed,
        "save_every": 50,
        "dice": 0.5,
        "optimiser": {"warmup": 30, "decay": 0.5, "ema": 0.98},
    }
    crops = {"crop": config.crop, "frame": list(config.size), "validation": 0}

    def on(root: Path) -> dict[str, object]:
        return {"data": {"roots": [str(root)], "weights": {"pool": 1}, **crops}}

    stage_1 = str(where.run("stage 1", seed) / "last.pt")
    truth, labels = on(where.fields), on(where.screened)
    yield "truth", "train", {**common, **truth, "steps": first + second}
    bilinear = {"last_step": "bilinear", "steps": first + second}
    yield "truth, bilinear", "train", {**common, **truth, **bilinear}
    yield "stage 1", "train", {**common, **labels, "steps": first}
    yield "stage 1, as long", "train", {**common, **labels, "steps": second, "init": stage_1}
    unlabelled = {
        "weights": {str(where.fields / "pool" / "images"): 1},
        "batch": config.batch,
        "veto": {str(where.fields / "pool" / "images"): str(where.labels)},
    }
    yield "stage 2", "self-train", {
        **common, **labels, "steps": second, "init": stage_1, "teacher": stage_1,
        "burn_in": second // 2, "unlabelled": unlabelled, "selection": {"open_plants": True},
    }  # fmt: skip


def _settle(config: ExperimentConfig, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "experiment.yaml"
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    if path.exists():
        there, now = yaml.safe_load(path.read_text()), yaml.safe_load(text)
        changed = [k for k in now if k not in ("seeds", "threads") and there.get(k) != now[k]]
        if changed:
            raise ConfigError(f"{path} has another {', '.join(changed)}; choose another --out")
    write_atomically(path, text.encode())


def _make_labels(config: ExperimentConfig, where: Folders) -> None:
    if (where.screened / "splits.csv").exists():
        return
    pool = where.fields / "pool"
    _command("depth", str(pool), "--out", str(where.depth), "--degrade", "1", "--seed", "7")
    _command("pseudo-label", str(pool), "--depth", str(where.depth), "--out", str(where.labels))
    _command(
        "screen", str(where.labels), "--out", str(where.screened), "--keep", str(config.keep),
        "--page-images", "200",
    )  # fmt: skip


def _train(
    config: ExperimentConfig,
    where: Folders,
    arm: str,
    command: str,
    values: dict[str, object],
    seed: int,
) -> None:
    folder = where.run(arm, seed)
    if (folder / "figures" / "metrics.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "given.yaml"
    write_atomically(path, yaml.safe_dump(values, sort_keys=False).encode())
    log.info("%s, seed %d", arm, seed)
    threads = str(config.threads)
    _command(command, "--config", str(path), "--out", str(folder), "--threads", threads)
    _command(
        "evaluate", str(where.fields), "--split", "test", "--model", str(folder / "last.pt"),
        "--out", str(folder / "figures"),
    )  # fmt: skip


def _command(name: str, *arguments: str) -> None:
    COMMANDS[name].main([*arguments], prog_name=f"python -m training {name}", standalone_mode=False)


def _figures(where: Folders, arm: str, seed: int) -> dict[str, dict[str, float]]:
    """Vegetation mIoU and boundary IoU in percent, by set."""
    text = (where.run(arm, seed) / "figures" / "metrics.json").read_text(encoding="utf-8")
    metrics = json.loads(text)["datasets"]
    keys = ("miou", "boundary_iou")
    return {test: {key: metrics[test][f"vegetation.{key}"] for key in keys} for test in TESTS}
