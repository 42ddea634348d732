"""An endless field: which plants stand inside a rectangle, the same ones whenever it is asked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.mask import CROP, WEED
from cropseg_edge.simulator.rng import F32, hash01, lattice_noise
from cropseg_edge.simulator.scene import Planting

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plants:
    """Plants in the world, one entry each.

    Attributes:
        position: float64 [P, 2], foot on the ground in metres.
        yaw: float32 [P], radians.
        scale: float32 [P], factor on the mesh.
        variant: int64 [P], which mesh.
        label: uint8 [P], 1 crop or 2 weed.
        dice: float32 [P], a uniform number for whatever else varies.
    """

    position: NDArray[np.float64]
    yaw: F32
    scale: F32
    variant: I64
    label: NDArray[np.uint8]
    dice: F32

    def keep(self, chosen: NDArray[np.bool_]) -> "Plants":
        """The plants where `chosen` [P] is true."""
        return Plants(
            self.position[chosen], self.yaw[chosen], self.scale[chosen],
            self.variant[chosen], self.label[chosen], self.dice[chosen],
        )  # fmt: skip


def _plants(
    seed: int, keys: tuple[I64, I64], x: F32 | NDArray[np.float64], y: F32 | NDArray[np.float64],
    label: int, variants: tuple[int, int], spread: float, kind: F32 | None = None,
) -> Plants:  # fmt: skip
    """Plants at `x`, `y` whose remaining traits are hashed from `keys`."""
    first, count = variants
    pick = hash01(seed, *keys, 3) if kind is None else kind
    return Plants(
        np.stack([x, y], 1).astype(np.float64),
        np.asarray(hash01(seed, *keys, 1) * np.float32(2 * np.pi), np.float32),
        np.asarray(1 + spread * (2 * hash01(seed, *keys, 2) - 1), np.float32),
        first + np.minimum((pick * count).astype(np.int64), count - 1),
        np.full(len(x), label, np.uint8),
        hash01(seed, *keys, 4),
    )


def crop_plants(
    planting: Planting,
    seed: int,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    variants: int,
) -> Plants:
    """The crop between the corners `low` and `high` [2]; meshes 0 to `variants` - 1."""
    rows = np.arange(
        np.floor(low[1] / planting.row_spacing), np.ceil(high[1] / planting.row_spacing) + 1
    ).astype(np.int64)
    spots = np.arange(
        np.floor(low[0] / planting.plant_spacing), np.ceil(high[0] / planting.plant_spacing) + 1
    ).astype(np.int64)
    row, spot = (a.ravel() for a in np.meshgrid(rows, spots, indexing="ij"))
    stands = hash01(seed, row, spot, 10) >= planting.gaps
    row, spot = row[stands], spot[stands]
    x = (
        spot + 0.7 * (hash01(seed, row, spot, 11).astype(np.float64) - 0.5)
    ) * planting.plant_spacing
    # The sum of uniform numbers is close enough to normal, and bounded.
    off = sum(hash01(seed, row, spot, 12 + i) for i in range(4)) - np.float32(2)
    y = row * planting.row_spacing + 1.7 * planting.wander * off
    return _plants(seed, (row, spot), x, y, CROP, (0, variants), 0.25)


def weed_plants(
    planting: Planting,
    seed: int,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    first: int,
    count: int,
) -> Plants:
    """The weeds between the corners `low` and `high` [2]; meshes `first` to `first + count` - 1."""
    chance = 0.5
    density = max(planting.weed_density, 1e-3)
    cell = float(np.sqrt(chance / density))
    a = np.arange(np.floor(low[0] / cell), np.ceil(high[0] / cell)).astype(np.int64)
    b = np.arange(np.floor(low[1] / cell), np.ceil(high[1] / cell)).astype(np.int64)
    i, j = (k.ravel() for k in np.meshgrid(a, b, indexing="ij"))
    x = (i + hash01(seed, i, j, 21).astype(np.float64)) * cell
    y = (j + hash01(seed, i, j, 22).astype(np.float64)) * cell
    patch = lattice_noise(seed + 5, np.float32(x), np.float32(y), 0.35)
    lush = np.clip(1 + planting.patchiness * 2.4 * (patch - 0.5), 0, 2)
    stands = hash01(seed, i, j, 20) < chance * lush
    i, j, x, y = i[stands], j[stands], x[stands], y[stands]
    # Kinds come in clumps: mostly the local kind, sometimes any.
    local = np.clip(
        lattice_noise(seed + 6, np.float32(x), np.float32(y), 0.25) * 1.6 - 0.3, 0, 0.999
    )
    other = hash01(seed, i, j, 23)
    kind = np.where(hash01(seed, i, j, 24) < 0.5, local, other).astype(np.float32)
    plants = _plants(seed, (i, j), x, y, WEED, (first, count), 0.55, kind)
    return plants


def join(a: Plants, b: Plants) -> Plants:
    """The plants of `a` and `b`."""
    return Plants(
        np.concatenate([a.position, b.position]), np.concatenate([a.yaw, b.yaw]),
        np.concatenate([a.scale, b.scale]), np.concatenate([a.variant, b.variant]),
        np.concatenate([a.label, b.label]), np.concatenate([a.dice, b.dice]),
    )  # fmt: skip
