"""Which sets a checkpoint's weights have learnt from, over all stages and teachers."""

from pathlib import Path
from typing import Any, TypedDict

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.roots import OWN_SPLIT
from training.checkpoint import config_of, read_state
from training.config import TrainConfig
from training.data.fields import find_set, held_out
from training.data.unlabelled import find_pictures


class SetRecord(TypedDict):
    """What is kept of a set: its licence, the split, and how many pictures were used."""

    licence: str
    split: str
    images: int


def own_sets(config: TrainConfig) -> dict[str, SetRecord]:
    """The sets of a run's configuration by name, and those that its teacher has learnt from.

    Raises:
        FrameError, ConfigError: a set or the teacher cannot be read.
    """
    data = config.data
    teacher = getattr(config, "teacher", None)
    found = {} if teacher is None else sets_of(read_state(teacher))
    unlabelled = getattr(config, "unlabelled", None)
    for name in unlabelled.weights if unlabelled else ():
        pictures = find_pictures(data, name)
        licence = getattr(pictures, "licence", "unknown")
        found[Path(name).name] = SetRecord(
            licence=licence, split=OWN_SPLIT, images=len(pictures.pairs)
        )
    for name in data.weights:
        field = find_set(data.roots, name, data.split)
        images = sum(not held_out(stem, data.validation) for stem in field.pairs)
        found[name] = SetRecord(licence=field.licence, split=data.split, images=images)
    return found


def sets_of(state: dict[str, Any]) -> dict[str, SetRecord]:
    """The sets of a checkpoint; of an older one, which did not keep them, those of its last stage,
    with an unknown licence where its data are not here."""
    if "sets" in state:
        return dict(state["sets"])
    config = config_of(state)
    try:
        return own_sets(config)
    except (ConfigError, FrameError):
        unknown = SetRecord(licence="unknown", split=config.data.split, images=0)
        return dict.fromkeys(config.data.weights, unknown)
