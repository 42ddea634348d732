"""What lies on the ground and is not a plant: stones, straw, dry leaves, a drip hose."""

import colorsys
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.rng import noise_layer, rolled
from cropseg_edge.simulator.scene import Light, Soil

U8 = NDArray[np.uint8]
_SUBPIXEL = 4


def _hsv(hue_deg: float, saturation: float, value: float) -> tuple[float, float, float]:
    """BGR display values of a colour."""
    red, green, blue = colorsys.hsv_to_rgb(hue_deg / 360 % 1, saturation, min(value, 1.0))
    return (255 * blue, 255 * green, 255 * red)


def _copies(centre: tuple[float, float], reach: float, size: int) -> list[tuple[float, float]]:
    """Where something must be drawn so that the tile stays periodic."""
    spots = [centre]
    for axis in range(2):
        for spot in list(spots):
            for shift, hits in ((size, spot[axis] < reach), (-size, spot[axis] > size - reach)):
                if hits:
                    moved = [spot[0], spot[1]]
                    moved[axis] += shift
                    spots.append((moved[0], moved[1]))
    return spots


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SUBPIXEL)).astype(np.int32)


def _polygon(tile: U8, points: NDArray[np.float64], colour: tuple[float, float, float]) -> None:
    cv2.fillPoly(tile, [_fixed(points)], colour, cv2.LINE_AA, _SUBPIXEL)


def _stone(rng: np.random.Generator, tile: U8, radius: float, sun: NDArray[np.float64]) -> None:
    size = tile.shape[0]
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    reach = radius * rng.uniform(0.8, 1.1, 9)
    squash = rng.uniform(0.6, 1.0)
    outline = np.stack([reach * np.cos(angles), squash * reach * np.sin(angles)], 1)
    turn = rng.uniform(0, np.pi)
    c, s = np.cos(turn), np.sin(turn)
    outline = outline @ np.array([[c, s], [-s, c]])
    grey = rng.uniform(0.28, 0.75)
    tone = (float(rng.uniform(20, 45)), float(rng.uniform(0.02, 0.3)))
    spot = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
    for centre in _copies(spot, 3 * radius, size):
        _polygon(tile, outline * 1.05 + centre - sun * radius * 0.6, _hsv(*tone, grey * 0.22))
        for step in range(4):
            shrunk = outline * (1 - 0.2 * step) + centre + sun * radius * 0.12 * step
            _polygon(tile, shrunk, _hsv(*tone, grey * (0.72 + 0.13 * step)))


def _straw(
    rng: np.random.Generator, tile: U8, length: float, texel: float, sun: NDArray[np.float64]
) -> None:
    size = tile.shape[0]
    heading = rng.uniform(0, np.pi)
    reach = length * rng.uniform(0.2, 1.0) / 2 / texel
    half = reach * np.array([np.cos(heading), np.sin(heading)])
    bow = rng.normal(0, 0.06) * reach * np.array([-np.sin(heading), np.cos(heading)])
    width = max(1, int(rng.uniform(0.001, 0.005) / texel))
    value = rng.uniform(0.35, 0.95)
    colour = _hsv(float(rng.uniform(24, 52)), float(rng.uniform(0.12, 0.5)), value)
    spot = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
    for centre in _copies(spot, reach + 4, size):
        path = np.array([centre - half, np.asarray(centre) + bow, centre + half])
        shade = _fixed(path - sun * (width * 0.7 + 0.7))
        cv2.polylines(tile, [shade], False, (18, 20, 24), width, cv2.LINE_AA, _SUBPIXEL)
        cv2.polylines(tile, [_fixed(path)], False, colour, width, cv2.LINE_AA, _SUBPIXEL)


def _dry_leaf(rng: np.random.Generator, tile: U8, texel: float, sun: NDArray[np.float64]) -> None:
    size = tile.shape[0]
    length, slim = rng.uniform(0.02, 0.09) / texel, rng.uniform(0.15, 0.35)
    t = np.linspace(0, 1, 9)
    side = slim * length * np.sin(np.pi * t**0.9) * (1 + 0.15 * rng.standard_normal(9))
    bow = rng.normal(0, 0.2) * length * np.sin(np.pi * t)
    along = (t - 0.5) * length
    heading = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, s], [-s, c]])
    upper, lower = np.stack([along, bow + side], 1) @ turn, np.stack([along, bow - side], 1) @ turn
    rib = np.stack([along, bow], 1) @ turn
    hue, saturation, value = rng.uniform(5, 55), rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.8)
    spot = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
    for centre in _copies(spot, length, size):
        outline = np.concatenate([upper, lower[::-1]]) + centre
        _polygon(tile, outline - sun * 0.08 * length, (14, 16, 20))
        _polygon(tile, outline, _hsv(hue, saturation, value))
        _polygon(
            tile, np.concatenate([upper, rib[::-1]]) + centre, _hsv(hue, saturation, 0.8 * value)
        )
        line = [_fixed(rib + centre)]
        cv2.polylines(
            tile, line, False, _hsv(hue, saturation * 0.6, value * 1.2), 1, cv2.LINE_AA, _SUBPIXEL
        )


def _hose(rng: np.random.Generator, tile: U8, texel: float) -> None:
    """A hose along world x (the tile's columns)."""
    size = tile.shape[0]
    centre = int(rng.uniform(0.1, 0.9) * size)
    width = max(2, int(rng.uniform(0.012, 0.03) / texel))
    x = np.linspace(0, size, 17)
    y = centre + 0.01 * size * np.sin(2 * np.pi * x / size + rng.uniform(0, 6))
    path = np.stack([x, y], 1)
    base = float(rng.choice([25, 40, 120]))
    for inset, tone in ((0, 0.45), (0.25, 1.0), (0.6, 1.7)):
        thickness = max(1, int(width * (1 - inset)))
        colour = (base * tone * 1.1, base * tone, base * tone)
        cv2.polylines(tile, [_fixed(path)], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL)


@lru_cache(maxsize=12)
def _mat(size: int, length: int, number: int) -> tuple[U8, U8]:
    """A dense cover of straw: its brightness and its opacity, uint8 [size, size], periodic."""
    rng = np.random.default_rng((size, length, number))
    bright, opacity = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    for _ in range(int(3.0 * size * size / length**1.5)):
        reach, heading = length * rng.uniform(0.15, 0.5), rng.uniform(0, np.pi)
        half = reach * np.array([np.cos(heading), np.sin(heading)])
        bow = rng.normal(0, 0.1) * reach * np.array([-np.sin(heading), np.cos(heading)])
        width = max(1, round(length * rng.uniform(0.01, 0.045)))
        value = int(255 * rng.uniform(0.35, 1))
        spot = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
        for centre in _copies(spot, reach + 4, size):
            path = [_fixed(np.array([centre - half, np.asarray(centre) + bow, centre + half]))]
            for picture, tone, more in ((bright, 25, 2), (bright, value, 0), (opacity, 255, 1)):
                cv2.polylines(picture, path, False, tone, width + more, cv2.LINE_AA, _SUBPIXEL)
    return bright, opacity


def _lay_mat(rng: np.random.Generator, tile: U8, soil: Soil, texel: float) -> None:
    """Covers patches of the tile with dense straw, in place."""
    size = tile.shape[0]
    length = int(np.clip(2 ** round(np.log2(soil.straw_length / texel)), 32, 128))
    share = np.clip(soil.straw / 1500, 0.2, 1)
    for number in rng.permutation(3)[: 1 + int(rng.integers(2))]:
        shift = (int(rng.integers(size)), int(rng.integers(size)))
        bright, opacity = (np.roll(a, shift, (0, 1)) for a in _mat(size, length, int(number)))
        patch = rolled(rng, noise_layer(10, size, 6)) < 3 * share - 0.9
        colour = np.array(_hsv(float(rng.uniform(24, 46)), float(rng.uniform(0.1, 0.4)), 0.95))
        where = np.flatnonzero((opacity > 127) & patch)
        flat = tile.reshape(-1, 3)
        flat[where] = np.take(bright, where)[:, None] * (colour / 255).astype(np.float32)


def _thing(rng: np.random.Generator, tile: U8, texel: float, sun: NDArray[np.float64]) -> None:
    """A stake, a string or a plate: straight edges and one colour, green ones included."""
    size = tile.shape[0]
    length = rng.uniform(0.05, 0.4) / texel
    width = max(1.5, length * float(rng.choice([0.01, 0.05, 0.3, 0.8])))
    heading = rng.uniform(0, np.pi)
    along = np.array([np.cos(heading), np.sin(heading)]) * length / 2
    across = np.array([-np.sin(heading), np.cos(heading)]) * width / 2
    outline = np.array([along + across, along - across, -along - across, across - along])
    colour = _hsv(
        float(rng.uniform(0, 360)), float(rng.choice([0.0, 0.2, 0.8])), float(rng.uniform(0.05, 1))
    )
    spot = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
    for centre in _copies(spot, length, size):
        _polygon(tile, outline + centre - sun * min(width, 0.02 / texel), (14, 14, 14))
        _polygon(tile, outline + centre, colour)


def strew(rng: np.random.Generator, tile: U8, soil: Soil, light: Light, texel: float) -> U8:
    """Draws stones, hose, dry leaves and straw onto a periodic tile uint8 [S, S, 3], in place."""
    area = (tile.shape[0] * texel) ** 2
    sun = np.array([0.1, 0.1]) if light.lamp else np.array(light.direction[:2])
    if light.penumbra > 8:
        sun = sun * 0.3
    for _ in range(min(600, int(soil.stones * area))):
        radius = float(0.004 + 0.02 * rng.random() ** 3) / texel
        if radius > 1:
            _stone(rng, tile, radius, sun)
    if soil.hose:
        _hose(rng, tile, texel)
    for _ in range(min(200, int(soil.leaves * area))):
        _dry_leaf(rng, tile, texel, sun)
    for _ in range(min(40, int(soil.things * area))):
        _thing(rng, tile, texel, sun)
    if soil.straw > 200:
        _lay_mat(rng, tile, soil, texel)
    for _ in range(min(250, int(soil.straw * area))):
        _straw(rng, tile, soil.straw_length, texel, sun)
    return tile
