"""The ground: a periodic tile of lit soil with its relief, and its view through the camera."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.litter import strew
from cropseg_edge.simulator.rng import F32, noise_layer, rolled
from cropseg_edge.simulator.scene import Light, Soil

U8 = NDArray[np.uint8]
RELIEF_RANGE = 0.05  # metres that 0 to 255 of the relief channel stand for


def to_display(linear: F32) -> F32:
    """Linear 0 to 1 to stored values 0 to 255 (the square root, not clipped)."""
    return np.asarray(np.sqrt(np.maximum(linear, 0)) * np.float32(255), np.float32)


TO_LINEAR: F32 = np.asarray((np.arange(256) / 255.0) ** 2, np.float32)


@dataclass(frozen=True, slots=True)
class Ground:
    """A periodic piece of ground.

    Attributes:
        levels: uint8 [S, S, 4] tiles, each next one half the size: BGR (display values of the
            ground in full direct light) and relief (0 to 255 for 0 to RELIEF_RANGE metres).
        texel: metres per pixel of the first level.
    """

    levels: tuple[U8, ...]
    texel: float


@lru_cache(maxsize=32)
def _lumps(size: int, spacing: int, number: int) -> F32:
    """Rounded lumps of all sizes, about `spacing` pixels apart: float32 [size, size], 0 to 1."""
    rng = np.random.default_rng((size, spacing, number))
    count = max(4, int((size / spacing) ** 2))
    pad = min(spacing * 3, size)
    seeds = np.full((size, size), 255, np.uint8)
    spots = rng.integers(size, size=(count, 2))
    seeds[spots[:, 0], spots[:, 1]] = 0
    wide = np.pad(seeds, pad, mode="wrap")
    distance, cell = cv2.distanceTransformWithLabels(
        wide, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Sizes come from where a lump's seed lies, so that the copies beyond the border are alike.
    y, x = np.nonzero(wide == 0)
    radius = np.empty(len(y) + 1, np.float32)
    sizes = np.exp(rng.normal(-0.75, 0.45, (size, size)).astype(np.float32))
    radius[cell[y, x]] = sizes[(y - pad) % size, (x - pad) % size] * spacing
    inner = (slice(pad, -pad), slice(pad, -pad))
    reach = radius[cell[inner]]
    ragged = distance[inner] * (1 + 0.12 * noise_layer(8, size, max(4, size // 6)))
    dome = np.sqrt(np.maximum(1 - np.square(ragged / reach), 0)) * reach
    return np.asarray(dome / np.float32(spacing), np.float32)


def _sunlit(relief: F32, slope: tuple[float, float]) -> F32:
    """Where relief (in texels) throws no shadow on itself: float32, 0 in shadow to 1.

    Args:
        relief: float32 [S, S], heights in texels.
        slope: horizontal part of the direction to the light over its vertical part.
    """
    steep = float(np.hypot(*slope))
    if steep < 0.2:
        return np.ones_like(relief)
    blocked = np.full_like(relief, -1e3)
    for step in (1.5, 3.0, 5.0, 8.0, 12.0):
        dx, dy = (round(-step * s / steep) for s in slope)
        ahead = np.roll(relief, (dy, dx), (0, 1)) - np.float32(step / steep)
        np.maximum(blocked, ahead, out=blocked)
    return np.asarray(np.clip(1 - (blocked - relief) * 0.8, 0, 1), np.float32)


def _cracks(rng: np.random.Generator, size: int, spacing: float) -> F32:
    """Dry cracks: float32 [size, size], 1 in a crack."""
    count = max(4, int((size / spacing) ** 2))
    half = size // 2
    seeds = np.full((half, half), 255, np.uint8)
    spots = rng.integers(half, size=(count, 2))
    seeds[spots[:, 0], spots[:, 1]] = 0
    wide = np.pad(seeds, half // 2, mode="wrap")
    _, cells = cv2.distanceTransformWithLabels(wide, cv2.DIST_L2, 3)
    cells = cells[half // 2 : -(half // 2), half // 2 : -(half // 2)]
    edge = (cells != np.roll(cells, 1, 0)) | (cells != np.roll(cells, 1, 1))
    line = cv2.resize(edge.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    ragged = rolled(rng, noise_layer(3, size, max(4, size // 40)))
    warp = (0.009 * size * ragged).astype(np.float32)
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    return np.asarray(
        cv2.remap(line, xs + warp, ys + warp.T, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP),
        np.float32,
    )


def make_ground(
    rng: np.random.Generator, soil: Soil, light: Light, size: int, texel: float
) -> Ground:
    """Builds a tile of `size` pixels (a power of two) with `texel` metres per pixel."""
    clod = max(4, int(2 ** round(np.log2(max(4.0, soil.clod_size / texel)))))
    relief = soil.clods * rolled(rng, _lumps(size, clod, 0))
    relief = relief + soil.clods * 0.5 * rolled(rng, _lumps(size, max(4, clod // 2), 1))
    relief = relief + soil.grain * 0.25 * rolled(rng, _lumps(size, max(4, clod // 4), 2))
    grain = 0.5 * rolled(rng, noise_layer(0, size, size // 2))
    grain = grain + 0.35 * rolled(rng, noise_layer(1, size, size // 4))
    relief = relief + soil.grain * 0.08 * grain
    relief = relief + 0.10 * rolled(rng, noise_layer(2, size, max(4, size // 32)))
    cracks = None
    if soil.cracks > 0:
        cracks = soil.cracks * _cracks(rng, size, size / 8)
        relief = relief - 0.5 * cracks
    texels = relief * np.float32(0.7 * clod)
    metres = texels * np.float32(texel)
    lx, ly, lz = (0.1, 0.1, 0.98) if light.lamp else light.direction
    # Tile rows run along world y and columns along world x.
    dx = (np.roll(texels, -1, 1) - np.roll(texels, 1, 1)) * np.float32(0.5)
    dy = (np.roll(texels, -1, 0) - np.roll(texels, 1, 0)) * np.float32(0.5)
    facing = (lz - lx * dx - ly * dy) / np.sqrt(1 + dx * dx + dy * dy)
    diffuse = np.clip(facing / max(lz, 0.25), 0, 2.0)
    soft = not light.lamp and light.penumbra > 8
    harsh = 0.3 if soft else 0.75
    if not soft:
        diffuse = diffuse * (0.15 + 0.85 * _sunlit(texels, (lx / lz, ly / lz)))
    lit = (1 - harsh) + harsh * diffuse
    pit = relief - cv2.blur(relief, (clod | 1, clod | 1), borderType=cv2.BORDER_REFLECT)
    lit = lit * np.clip(1 + 1.3 * pit, 0.15, 1.5)
    if cracks is not None:
        lit = lit * (1 - 0.75 * np.clip(cracks, 0, 1))
    broad = rolled(rng, noise_layer(4, size, 5))
    speckle = rolled(rng, noise_layer(9, size, size))
    tone = 1 + 0.10 * broad + soil.grain * (0.22 * grain + 0.22 * speckle)
    wet = np.clip(
        0.5 + broad + 0.5 * rolled(rng, noise_layer(5, size, 12)) - 1.2 * (1 - soil.moisture), 0, 1
    )
    tone = tone * (1 - 0.55 * wet * (soil.moisture > 0.1))
    bright = np.clip(lit * np.clip(tone, 0.2, 2.2), 0, 3).astype(np.float32)
    albedo = np.array(soil.colour, np.float32)
    hue = 1 + 0.03 * rolled(rng, noise_layer(6, size, max(4, size // 24)))
    colour = bright[..., None] * albedo
    colour[..., 2] *= hue
    if soil.moss > 0:
        moss = np.clip(rolled(rng, noise_layer(7, size, 10)) - 0.6, 0, 1)[..., None] * soil.moss
        colour *= 1 + moss * (np.array([0.75, 1.12, 0.85], np.float32) - 1)
    tile = np.empty((size, size, 4), np.uint8)
    tile[..., :3] = np.clip(to_display(colour), 0, 255)
    tile[..., 3] = np.clip((metres - metres.min()) * (255 / RELIEF_RANGE), 0, 255)
    tile[..., :3] = strew(rng, np.ascontiguousarray(tile[..., :3]), soil, light, texel)
    levels: list[U8] = [tile]
    while len(levels) < 4:
        half = cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return Ground(tuple(levels), texel)


def view_ground(
    ground: Ground,
    homography: NDArray[np.float64],
    origin: NDArray[np.float64],
    width: int,
    height: int,
) -> U8:
    """The ground as the camera sees it: uint8 [height, width, 4], BGR and relief.

    Args:
        ground: the periodic tile.
        homography: [3, 3] from ground metres relative to `origin` to pixels.
        origin: [2], world position of the local origin, in metres.
        width, height: size of the view.
    """
    inverse = np.linalg.inv(homography)
    view = np.empty((height, width, 4), np.uint8)
    # Metres per pixel at the middle of each row choose the level; rows of one level go together.
    x = (width - 1) / 2
    spots = np.array([[x, r, 1.0] for r in range(height + 1)]) @ inverse.T
    spots = spots[:, :2] / spots[:, 2:]
    pace = np.linalg.norm(np.diff(spots, axis=0), axis=1) / ground.texel
    wanted = np.clip(np.round(np.log2(np.maximum(pace, 1e-6)) - 0.3), 0, len(ground.levels) - 1)
    start = 0
    while start < height:
        level = int(wanted[start])
        stop = start + int(np.argmax(np.append(wanted[start:] != level, True)))
        tile = ground.levels[level]
        size, texel = tile.shape[0], ground.texel * 2**level
        shift = np.mod(origin / texel, size)
        to_tile = (
            np.array([[1 / texel, 0, shift[0]], [0, 1 / texel, shift[1]], [0, 0, 1]]) @ inverse
        )
        to_tile = to_tile @ np.array([[1, 0, 0], [0, 1, start], [0, 0, 1.0]])
        view[start:stop] = cv2.warpPerspective(
            tile, to_tile, (width, stop - start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        start = stop
    return view
