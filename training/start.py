"""Where a run's network comes from: its size and first weights, from what the configuration names.

The weights that a trunk starts from decide its positions, prefix tokens, LayerScale and norms; a
later stage takes those over from the earlier one's checkpoint.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cropseg_edge.errors import ConfigError
from training.checkpoint import finite, misfit, read_state, size_of
from training.config import TrainConfig
from training.models.growth import grow
from training.models.pretrained import read_trunk
from training.models.registry import build
from training.models.segmenter import CropSegmenter
from training.models.sizes import COMPARISONS, SIZES, ModelSize

log = logging.getLogger("training")
OF_TRUNK = ("position", "prefix", "layer_scale", "eps")


def start(config: TrainConfig, saved: Path | None = None) -> tuple[ModelSize, CropSegmenter]:
    """The configuration's size and a network of it on the CPU, its trunk from `trunk` if given.

    Args:
        saved: the checkpoint of this same run, whose weights will be loaded: `trunk` and `init`,
            which it started from, are not read again and need not be there.

    Raises:
        ConfigError: no such size; the trunk's, the earlier stage's or the saved file cannot be
            read, or the trunk's width, depth or heads are others.
    """
    known = SIZES | COMPARISONS
    if config.size not in known:
        raise ConfigError(f"size must be one of {', '.join(known)}; got {config.size!r}")
    size = known[config.size]
    if size.architecture != "adapter" and (
        config.trunk or config.checkpointing or config.parallel == "fsdp"
    ):
        raise ConfigError(f"trunk, checkpointing and parallel: fsdp do not go with {size.name}")
    chosen = {key: getattr(config, key) for key in ("drop_path", "last_step", "fine", "subpixel")}
    size = replace(size, **{key: value for key, value in chosen.items() if value is not None})
    if config.trunk is not None and saved is None:
        weights = read_trunk(config.trunk)
        size = weights.fit_size(size)
        model = build(size)
        log.info("%s", weights.load_into(model.backbone.vit))
        return size, model
    source = saved or config.init
    if source is not None and source.exists():
        try:
            earlier = size_of(read_state(source))
        except (KeyError, TypeError, ValueError) as error:
            message = f"{source}: its size is not understood: {misfit(error)}"
            raise ConfigError(message) from error
        size = replace(size, **{key: getattr(earlier, key) for key in OF_TRUNK})
    return size, build(size)


def stage_weights(state: dict[str, Any], size: ModelSize) -> dict[str, Tensor]:
    """The averaged weights of an earlier stage's checkpoint, grown where its size is smaller.

    Raises:
        ConfigError: they are not those of their own size, are not finite, or cannot grow to `size`.
    """
    old = _known_size(state)
    try:
        with torch.device("meta"):
            build(old).load_state_dict(state["ema"], assign=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"its weights do not fit its size ({misfit(error)}); train it again"
        ) from error
    check_finite(state["ema"])
    return grow(state["ema"], old, size)


def check_finite(weights: dict[str, Tensor]) -> None:
    """Raise ConfigError where a weight is NaN or infinite."""
    if not finite(weights):
        raise ConfigError("its weights are not finite: that run had diverged; take another one")


def check_size(state: dict[str, Any], size: ModelSize) -> None:
    """Raise ConfigError where a checkpoint is not of `size`, but for drop_path."""
    if replace(_known_size(state), drop_path=size.drop_path) != size:
        raise ConfigError(
            f"the checkpoint is of size {state['size']['name']} with other widths than {size.name} "
            "has here; choose another --out"
        )


def _known_size(state: dict[str, Any]) -> ModelSize:
    try:
        return size_of(state)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the checkpoint's size is not understood; is it newer?") from error
