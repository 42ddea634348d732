"""Simulated frames as files: images, masks, depth and poses of a drive, or a training root."""

import csv
import functools
import io
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from cropseg_edge.simulator.field import FieldSimulator, sample_frame
from cropseg_edge.simulator.frame import SimulatedFrame
from cropseg_edge.simulator.presets import sample_scene

_JPEG_QUALITY = 95
DATASET = "simulator"
_DATASETS_YAML = """\
# What a mask value may mean: the classes that a pixel can belong to.
simulator:
  species: [maize, beet, cereal, soybean, peanut, cauliflower, carrot]
  licence: Apache-2.0
  labels: {0: [background], 1: [crop], 2: [weed]}
"""


def _replace(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data, durable=False)


def _encoded(
    suffix: str, image: NDArray[np.uint8] | NDArray[np.uint16], options: list[int]
) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


def write_frame(folder: Path, stem: str, frame: SimulatedFrame) -> None:
    """Writes `images/STEM.jpg` (BGR), `masks/STEM.png` (0, 1, 2) and `depth/STEM.png` (16 bit,
    millimetres) below `folder`; the image last, so that an image stands for a complete frame."""
    png = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    depth = np.clip(frame.depth_m * 1000 + 0.5, 0, 65535).astype(np.uint16)
    _replace(folder / "masks" / f"{stem}.png", _encoded(".png", frame.labels, png))
    _replace(folder / "depth" / f"{stem}.png", _encoded(".png", depth, png))
    jpeg = _encoded(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    _replace(folder / "images" / f"{stem}.jpg", jpeg)


def write_drive(out: Path, simulator: FieldSimulator, frames: int) -> Iterator[int]:
    """Writes frames 0 to `frames` - 1 of a drive below `out`, and `poses.csv` (camera in the world,
    metres and quaternion; optical axes) at the end. Yields the number of each frame written."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["stem", "stamp_ns", "x", "y", "z", "qx", "qy", "qz", "qw", "fx", "fy", "cx", "cy"]
    )
    for index in range(frames):
        frame, stem = simulator.render(index), f"{index:06d}"
        write_frame(out, stem, frame)
        numbers = (*frame.pose.position, *frame.pose.quaternion)
        camera = frame.camera
        lens = (camera.fx, camera.fy, camera.cx, camera.cy)
        writer.writerow([stem, frame.stamp_ns, *(f"{n:.6f}" for n in (*numbers, *lens))])
        yield index
    _replace(out / "poses.csv", table.getvalue().encode())


def write_training_root(
    out: Path, frames: int, seed: int, width: int = 640, height: int = 480, workers: int = 1
) -> Iterator[int]:
    """Writes `frames` frames of random scenes as a training root: `simulator/images` and so on,
    `splits.csv` (which also gives each frame's species and condition) and `datasets.yaml`. Frames
    that are there already are kept, so a run can be cut off and taken up again; they are the same
    whatever the number of `workers` (processes). Yields the number of each frame written or kept.

    Raises:
        ConfigError: `out` is a root of other pictures, whose tables would be lost.
    """
    tables = out / "datasets.yaml"
    if tables.exists() and tables.read_bytes() != _DATASETS_YAML.encode():
        raise ConfigError(f"{tables} is not the simulator's; choose another --out")
    table = ["dataset,stem,split,species,condition"]
    for index in range(frames):
        scene = sample_scene(_number(seed, index))
        table.append(f"{DATASET},{_stem(seed, index)},train,{scene.species},{scene.condition}")
    write = functools.partial(_write_sample, out / DATASET, seed, width, height)
    if workers > 1:
        with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
            yield from pool.imap(write, range(frames))
    else:
        yield from map(write, range(frames))
    _replace(out / "datasets.yaml", _DATASETS_YAML.encode())
    _replace(out / "splits.csv", ("\n".join(table) + "\n").encode())


def _number(seed: int, index: int) -> int:
    return seed * 1_000_003 + index


def _stem(seed: int, index: int) -> str:
    return f"{seed:04d}_{index:06d}"


def _write_sample(folder: Path, seed: int, width: int, height: int, index: int) -> int:
    stem = _stem(seed, index)
    if not (folder / "images" / f"{stem}.jpg").exists():
        write_frame(folder, stem, sample_frame(_number(seed, index), width, height))
    return index


def _one_thread() -> None:
    cv2.setNumThreads(1)


def check_image_name(path: Path) -> None:
    """Accepts .png and .jpg.

    Raises:
        ConfigError: the suffix names no image format.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"an image file ends in .png or .jpg; got '{path}'")


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an image uint8 BGR in the format of its suffix (.png or .jpg)."""
    check_image_name(path)
    _replace(path, _encoded(path.suffix.lower(), image, []))
