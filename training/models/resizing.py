"""Stored positions and patch embeddings in, those for another grid or another patch out."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cropseg_edge.errors import ConfigError


def resize_table(table: Tensor, size: tuple[int, int]) -> Tensor:
    """A bias table [heads, 2h - 1, 2w - 1] for a grid of `size`.

    The offsets near zero keep their meaning: to a smaller grid the table is cut, to a larger one
    it is stretched towards its ends by a geometric sequence, as BEiT's fine-tuning does.
    """
    height, width = 2 * size[0] - 1, 2 * size[1] - 1
    if table.shape[1:] == (height, width):
        return table
    vertical = torch.from_numpy(stretch(table.shape[1], height)).to(table)
    horizontal = torch.from_numpy(stretch(table.shape[2], width)).to(table)
    return vertical @ table @ horizontal.T


@lru_cache(maxsize=32)
def stretch(source: int, target: int) -> NDArray[np.float64]:
    """Cubic spline interpolation as a matrix, float64 [target, source]; both lengths odd."""
    from scipy.interpolate import CubicSpline

    half, wanted = source // 2, target // 2
    if half == 0:
        return np.ones((target, 1))
    if wanted <= half:
        return np.eye(source)[half - wanted : half + wanted + 1]
    low, high = 1.0, float(wanted)  # the ratio whose sequence of `half` steps sums to `wanted`
    for _ in range(100):
        ratio = (low + high) / 2
        low, high = (ratio, high) if (ratio ** np.arange(half)).sum() < wanted else (low, ratio)
    steps = np.cumsum(ratio ** np.arange(half))
    positions = np.concatenate([-steps[::-1], [0.0], steps])
    offsets = np.clip(np.arange(-wanted, wanted + 1), positions[0], positions[-1])
    return CubicSpline(positions, np.eye(source))(offsets)


def split_positions(
    positions: Tensor, tokens: int, image_size: Any
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Position embeddings [T, d] as those of the class tokens, of the patches, and the grid."""
    for own in (tokens, 0):
        patches = positions[own:]
        if grid := grid_of(len(patches), image_size):
            return positions[:own], patches, grid
    raise ConfigError(f"{len(positions)} position embeddings are not those of a square picture")


def split_table(
    table: Tensor, image_size: Any, patch: int
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """BEiT's table [(2h - 1)(2w - 1) + 3, heads] as [heads, 2h - 1, 2w - 1], [heads, 3], (h, w)."""
    offsets, cls = table[:-3].T, table[-3:].T
    if isinstance(image_size, (list, tuple)):
        rows, columns = (2 * (side // patch) - 1 for side in image_size)
    else:
        rows = columns = round(offsets.shape[1] ** 0.5)
    if rows * columns != offsets.shape[1]:
        raise ConfigError(f"{len(table)} relative positions are not those of a square picture")
    return offsets.unflatten(1, (rows, columns)), cls, ((rows + 1) // 2, (columns + 1) // 2)


def grid_of(patches: int, image_size: Any) -> tuple[int, int] | None:
    """(rows, columns) of so many patches; None if they fill neither a square nor the picture."""
    if isinstance(image_size, (list, tuple)):
        rows = round((patches * image_size[0] / image_size[1]) ** 0.5)
        return (rows, patches // rows) if rows and patches % rows == 0 else None
    side = round(patches**0.5)
    return (side, side) if side and side * side == patches else None


def resize_patches(kernel: Tensor, side: int) -> Tensor:
    """A patch embedding [d, 3, p, p] for patches of another side, so that a resized patch gives
    the same token: the pseudo-inverse of the resize (Beyer et al.: "FlexiViT", CVPR 2023)."""
    p = kernel.shape[-1]
    pixels = torch.eye(p * p, dtype=torch.float64).view(p * p, 1, p, p)
    resize = F.interpolate(pixels, size=(side, side), mode="bicubic").flatten(1)  # [p*p, side*side]
    resized = kernel.double().flatten(2) @ torch.linalg.pinv(resize).T
    return resized.unflatten(2, (side, side)).to(kernel.dtype)
