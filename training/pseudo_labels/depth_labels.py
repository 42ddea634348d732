"""`pseudo-label`: each picture is labelled by its depth."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from training.pseudo_labels.depth_files import check_depth, fit_to, read_depth
from training.pseudo_labels.label import (
    BACKGROUND,
    PARTS,
    VEGETATION,
    LabelConfig,
    PseudoLabel,
    pseudo_label,
)
from training.pseudo_labels.labelling import Labeller, LabellingConfig, label_pictures


class DepthLabelling(LabellingConfig, LabelConfig):
    """One run of `python -m training pseudo-label`."""

    depth: Path  # folder that `python -m training depth` wrote
    depth_settings: str = ""  # their fingerprint: a run goes on only with the same


def make_labels(
    config: DepthLabelling, out: Path, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, str]] | None:
    """Label pictures by their depth; see `label_pictures`."""
    if not config.depth.is_dir():
        raise ConfigError(f"--depth takes the folder that `depth` wrote, got {config.depth}")
    made = config.depth / "config.yaml"  # not there where the maps come from elsewhere
    key = hashlib.sha256(made.read_bytes()).hexdigest()[:16] if made.exists() else ""
    config = config.model_copy(update={"depth_settings": key})

    def label(image: NDArray[np.uint8], stem: str) -> PseudoLabel:
        depth = read_depth(_depth_file(config.depth, stem), "m")
        check_depth(depth, image.shape)
        return pseudo_label(image, fit_to(depth, image.shape), config)

    meaning = {BACKGROUND: ["background"], VEGETATION: ["crop", "weed"]}
    return label_pictures(config, Labeller("pseudo-label", PARTS, meaning, label), out, progress)


def _depth_file(folder: Path, stem: str) -> Path:
    path = folder / f"{stem}.tif"
    if path.is_file():
        return path
    raise FrameError(f"no depth: {path} is missing; depth.csv in {folder} may say why")
