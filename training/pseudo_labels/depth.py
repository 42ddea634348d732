"""A folder of pictures in, a depth map for each out: from files, or from Depth Anything."""

import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.image import read_image
from training.config import Section
from training.pseudo_labels.degradation import Degradation, degrade_depth
from training.pseudo_labels.depth_anything import DEFAULT_MODEL, DepthAnything
from training.pseudo_labels.depth_files import (
    SUFFIXES,
    Unit,
    check_depth,
    fit_to,
    read_depth,
    write_depth,
)
from training.pseudo_labels.worklist import Worklist, find_images

F32 = NDArray[np.float32]
log = logging.getLogger(__name__)

TABLE = "depth.csv"
COLUMNS = ("status", "reason", "source", "unit", "licence", "known", "near", "far")


class DepthConfig(Section):
    """One run of `python -m training depth`."""

    images: Path
    files: Path | None = None  # folder of STEM.png|tif|tiff|npy; None asks the model
    unit: Unit = "auto"
    scale: float = Field(1.0, gt=0)  # focal length (pixels) x baseline (metres), for disparity
    model: str = DEFAULT_MODEL
    side: int = Field(518, ge=14)  # the model's shorter input side, pixels
    degrade: float = Field(0.0, ge=0)  # strength of simulated errors; 1 is realistic
    seed: int = 0


def make_depth(
    config: DepthConfig,
    out: Path,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]] | None:
    """Write `out/STEM.tif` (float32, larger is farther, NaN unknown) and `out/depth.csv`.

    Resumes where an earlier run stopped, and tries refused pictures again; under torchrun each
    process takes its share.

    Args:
        progress: called with (done, total) of this process after each picture.

    Returns:
        The table's rows; None if other processes are still at work.

    Raises:
        ConfigError: the settings differ from those `out` began with, `out` is the pictures' own
            folder, or the model cannot be loaded.
        FrameError: the folder has no pictures.
        OSError: a file cannot be written.
    """
    if out.resolve() == config.images.resolve():
        raise ConfigError(f"--out {out} holds the pictures themselves; take another folder")
    images = find_images(config.images)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    work = Worklist(out, TABLE, COLUMNS, list(images), settings)
    pending = work.pending()
    if pending:
        source = _Files(config) if config.files else _Model(config, device)
        for number, stem in enumerate(pending, 1):
            row = _one(source, config, images[stem], out / f"{stem}.tif")
            if row["status"] != "ok":
                log.warning("%s: %s", stem, row["reason"])
            work.record(stem, row)
            if progress:
                progress(number, len(pending))
    return work.merge()


class _Files:
    """Depth that a camera or the simulator left beside the pictures."""

    licence = ""

    def __init__(self, config: DepthConfig) -> None:
        self._config = config
        self._folder = config.files or Path()
        if not self._folder.is_dir():
            raise ConfigError(f"--files takes a folder of depth files, got {self._folder}")
        relative = config.unit == "disparity" and config.scale == 1
        self.unit = "relative" if relative else "m"

    def name(self, stem: str) -> str:
        return str(self._path(stem))

    def depth(self, stem: str, image: NDArray[np.uint8]) -> F32:
        return read_depth(self._path(stem), self._config.unit, self._config.scale)

    def _path(self, stem: str) -> Path:
        for path in self._candidates(stem):
            if path.is_file():
                return path
        raise FrameError(f"no depth file {self._folder / stem}.{{png,tif,tiff,npy}}")

    def _candidates(self, stem: str) -> Iterator[Path]:
        yield from (self._folder / f"{stem}{suffix}" for suffix in SUFFIXES)


class _Model:
    """Depth by Depth Anything."""

    def __init__(self, config: DepthConfig, device: str) -> None:
        self._network = DepthAnything(config.model, device, config.side)
        self._name = config.model
        self.licence = self._network.licence
        self.unit = "m" if self._network.metric else "relative"
        log.info("%s", self._network.terms)

    def name(self, stem: str) -> str:
        return self._name

    def depth(self, stem: str, image: NDArray[np.uint8]) -> F32:
        return self._network(image)


def _one(source: _Files | _Model, config: DepthConfig, image: Path, out: Path) -> dict[str, object]:
    """Make the depth of one picture; what is wrong with it becomes its row's reason."""
    row: dict[str, object] = {"unit": source.unit, "licence": source.licence}
    try:
        picture = read_image(image)
        row["source"] = source.name(image.stem)
        depth = source.depth(image.stem, picture)
        check_depth(depth, picture.shape)
        depth = fit_to(depth, picture.shape)
        if config.degrade > 0:
            rng = np.random.default_rng((config.seed, zlib.crc32(image.stem.encode())))
            depth = degrade_depth(depth, Degradation().stronger(config.degrade), rng)
            row["unit"] = "relative"
            check_depth(depth)
    except FrameError as error:
        return row | {"status": "refused", "reason": str(error)}
    write_depth(out, depth)
    known = np.isfinite(depth)
    near, far = np.percentile(depth[known], (1, 99))
    return row | {
        "status": "ok",
        "known": f"{known.mean():.4f}",
        "near": f"{near:.4g}",
        "far": f"{far:.4g}",
    }
