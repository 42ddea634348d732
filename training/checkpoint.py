"""Checkpoints: everything that a run needs to go on, in one file that is never half-written."""

import contextlib
import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from cropseg_edge.errors import ConfigError, StorageError
from training.config import TrainConfig, configured
from training.distributed import local
from training.models.registry import build
from training.models.segmenter import CropSegmenter
from training.models.sizes import ModelSize, describe

STATE_KEYS = {"size", "model", "ema", "optimiser", "step", "config"}


def save_atomically(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name, flush to disk, rename: `path` is the old state or the new one.

    Raises:
        StorageError: the disk is full or the folder not writable; what `path` held is still there.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns OSError into RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        kept = "the one saved before is intact" if path.exists() else "nothing was saved before"
        raise StorageError(
            f"{path}: the checkpoint of step {state.get('step')} cannot be written ({reason}); "
            f"{kept}; make room and start the same command again"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """The saved state; tensors and plain values only, so no code of the file's can run.

    Raises:
        ConfigError: missing, damaged, or something other than a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here, one for each kind of damage
        raise ConfigError(f"{path} is no checkpoint that can be read: {_why(error)}") from error
    missing = STATE_KEYS - set(state) if isinstance(state, dict) else STATE_KEYS
    if missing:
        lacks = ", ".join(sorted(missing))
        raise ConfigError(f"{path} is no checkpoint of this package: it lacks {lacks}")
    try:
        whole = type(state["step"]) is int and isinstance(yaml.safe_load(state["config"]), dict)
    except (AttributeError, yaml.YAMLError):
        whole = False
    if not whole:
        raise ConfigError(f"{path} is a damaged checkpoint: its step or its config is none")
    return state


def _why(error: Exception) -> str:
    """Why torch could not load a file, shorter than torch says it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if "Unsupported global" in str(error) or "Unsupported class" in str(error):
        return "it holds more than tensors and plain values, and its code is not run"
    return "it is empty, cut off or another kind of file"


def load_model(path: Path) -> tuple[CropSegmenter, dict[str, Any]]:
    """The averaged (EMA) network of a checkpoint, in eval mode, and the whole state.

    Raises:
        ConfigError: no checkpoint, or its weights are not those of its size.
    """
    state = read_state(path)
    try:
        model = build(size_of(state))
        model.load_state_dict(state["ema"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: its weights do not fit its size ({misfit(error)}); train it again"
        ) from error
    return model.eval(), state


def size_state(size: ModelSize) -> dict[str, object]:
    """The size as the checkpoint stores it."""
    return describe(size)


def size_of(state: dict[str, Any]) -> ModelSize:
    """The size that a checkpoint is of; TypeError, KeyError or ValueError if it is none."""
    size = dict(state["size"])
    size["groups"] = tuple(tuple(group) for group in size["groups"])
    size["grid"] = tuple(size["grid"])
    size["global_blocks"] = tuple(size.get("global_blocks", ()))
    return ModelSize(**size)


def config_of(state: dict[str, Any]) -> TrainConfig:
    """What a checkpoint's configuration, of whatever command, shares with those of `train`."""
    values = yaml.safe_load(state["config"])
    own = {key: value for key, value in values.items() if key in TrainConfig.model_fields}
    return configured(own, (), TrainConfig, "the checkpoint's configuration")


def images_seen(state: dict[str, Any]) -> int:
    """Pictures that the weights have seen, over all stages (of older checkpoints, which did not
    count them: as if every stage had had the last one's batch)."""
    batch = int(yaml.safe_load(state["config"])["batch"])
    before = state.get("images_before", state.get("steps_before", 0) * batch)
    return int(before) + int(state["step"]) * batch


def finite(weights: dict[str, Tensor]) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(weight.isfinite().all()) for weight in weights.values())


def misfit(error: Exception) -> str:
    """The gist of what torch says where weights do not fit: its second line names the keys."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return lines[min(1, len(lines) - 1)][:200]


@dataclass
class Average:
    """Exponential moving average of a network's weights and buffers.

    The decay ramps up as (1 + step) / (10 + step), so that the first steps are forgotten fast.
    """

    model: nn.Module
    decay: float

    @classmethod
    def of(cls, model: nn.Module, decay: float) -> "Average":
        """An average that starts at `model`'s present state."""
        return cls(copy.deepcopy(model).eval().requires_grad_(False), decay)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model`, after optimiser step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        source: dict[str, Tensor] = model.state_dict()
        pairs = [(local(a), local(source[name])) for name, a in self.model.state_dict().items()]
        moved = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([a for a, _ in moved], [value for _, value in moved], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
