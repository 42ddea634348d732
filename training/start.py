"""Where a run's network comes from: its size and first weights, from what the configuration names.

The weights that a trunk starts from decide its positions, prefix tokens, LayerScale and norms; a
later stage takes those over from the earlier one's checkpoint.
"""

import logging
from dataclasses import replace

from cropseg_edge.errors import ConfigError
from training.checkpoint import misfit, read_state, size_of
from training.config import TrainConfig
from training.models.pretrained import read_trunk
from training.models.registry import COMPARISONS, SIZES, ModelSize, build
from training.models.segmenter import CropSegmenter

log = logging.getLogger("training")
OF_TRUNK = ("position", "prefix", "layer_scale", "eps")


def start(config: TrainConfig) -> tuple[ModelSize, CropSegmenter]:
    """The configuration's size and a network of it on the CPU, its trunk from `trunk` if given.

    Raises:
        ConfigError: no such size; the trunk's or the earlier stage's file cannot be read, or its
            width, depth or heads are others.
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
    if config.trunk is not None:
        weights = read_trunk(config.trunk)
        size = weights.fit_size(size)
        model = build(size)
        log.info("%s", weights.load_into(model.backbone.vit))
        return size, model
    if config.init is not None and config.init.exists():  # a run that goes on needs it no more
        try:
            earlier = size_of(read_state(config.init))
        except (KeyError, TypeError, ValueError) as error:
            message = f"{config.init}: its size is not understood: {misfit(error)}"
            raise ConfigError(message) from error
        size = replace(size, **{key: getattr(earlier, key) for key in OF_TRUNK})
    return size, build(size)
