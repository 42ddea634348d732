"""Hashed random numbers and periodic noise: the same keys give the same values, in any order."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def hash01(seed: int, *keys: NDArray[np.int64] | int) -> F32:
    """Uniform numbers in [0, 1) that depend on `seed` and integer keys alone (splitmix64).

    Args:
        seed: any integer.
        keys: integers or int64 arrays that broadcast against each other.

    Returns:
        float32 array of the broadcast shape.
    """
    state = np.asarray(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        for key in keys:
            word = np.asarray(key, np.int64).astype(np.uint64)
            state = state ^ (word * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019))
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(40)).astype(np.float32) / np.float32(2**24), np.float32)


def lattice_noise(seed: int, x: F32, y: F32, cell: float) -> F32:
    """Smooth noise in [0, 1) over the infinite plane, float32 like `x` and `y` (metres)."""
    gx, gy = np.asarray(x, np.float64) / cell, np.asarray(y, np.float64) / cell
    ix, iy = np.floor(gx).astype(np.int64), np.floor(gy).astype(np.int64)
    fx, fy = (gx - ix).astype(np.float32), (gy - iy).astype(np.float32)
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    low = hash01(seed, ix, iy) * (1 - fx) + hash01(seed, ix + 1, iy) * fx
    high = hash01(seed, ix, iy + 1) * (1 - fx) + hash01(seed, ix + 1, iy + 1) * fx
    return np.asarray(low * (1 - fy) + high * fy, np.float32)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> F32:
    """Periodic noise, float32 [size, size], zero mean and unit deviation, `cells` bumps a side."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    pad = 2
    scale = size / cells
    margin = round(pad * scale)
    big = cv2.resize(
        np.pad(grid, pad, mode="wrap"),
        (size + 2 * margin, size + 2 * margin),
        interpolation=cv2.INTER_CUBIC,
    )
    tile = big[margin : margin + size, margin : margin + size]
    return np.asarray((tile - tile.mean()) / (tile.std() + 1e-6), np.float32)


@lru_cache(maxsize=64)
def noise_layer(number: int, size: int, cells: int) -> F32:
    """A cached `smooth_noise`; callers roll and flip it, which is cheaper than drawing it anew."""
    return smooth_noise(np.random.default_rng((number, size, cells)), size, cells)


def rolled(rng: np.random.Generator, layer: F32) -> F32:
    """The periodic `layer` at a random offset and in one of its eight orientations."""
    turned = np.rot90(layer, int(rng.integers(4)))
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    dy, dx = rng.integers(layer.shape[0], size=2)
    return np.ascontiguousarray(np.roll(turned, (int(dy), int(dx)), (0, 1)))
