"""A random crop of a picture with its class sets: geometry in one warp, then light, blur, noise.

What is drawn (`draw_geometry`, `draw_light`) is apart from what it does to a picture, so that crops
can be made one by one here, or by the batch on a GPU (`training.data.resident`).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentationConfig

Image = NDArray[np.uint8]
GREY = (104, 116, 124)  # BGR, outside the picture
COARSE = 0.6  # below this scale a picture is smoothed before it is made smaller


@dataclass(frozen=True)
class Geometry:
    """From the picture to the crop.

    Attributes:
        matrix: float64 [2, 3], picture pixel (x, y, 1) to crop pixel.
        scale: crop pixels for a pixel of the picture.
    """

    matrix: NDArray[np.float64]
    scale: float


@dataclass(frozen=True)
class Shade:
    """Soft-edged polygon of shade, or of light in shade: its hull [n, 2] in pixels (x, y), the
    edge's blur in pixels, and the share of the light that is taken."""

    hull: NDArray[np.int32]
    blur: float
    depth: float
    inverted: bool


@dataclass(frozen=True)
class Dusk:
    """Little light: gain of each channel (BGR) after a gamma, and a lamp as (x, y, spread,
    strength) in pixels, strength relative to the ambient light."""

    gamma: float
    gain: NDArray[np.float32]
    lamp: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Light:
    """What happens to a crop's colours, in this order; colours are BGR, 0 to 1.

    Attributes:
        mix, shift: x @ mix + shift, clipped to 0 to 1 and raised to `gamma`; None for no change.
        kernel: float32 [k, k], k odd, of the blur; None for none.
        noise: its standard deviation, 0 for none.
    """

    mix: NDArray[np.float32] | None
    shift: float
    gamma: float
    shade: Shade | None
    dusk: Dusk | None
    kernel: NDArray[np.float32] | None
    noise: float


def random_crop(
    image: Image,
    sets: NDArray[np.uint8],
    size: int,
    frame: tuple[int, int],
    config: AugmentationConfig,
    rng: np.random.Generator,
    label_step: int = 1,
) -> tuple[Image, NDArray[np.uint8]]:
    """Crop [size, size] of a picture, at a random place, scale, rotation and mirroring, and its
    sets at the centres of squares of `label_step` pixels.

    Scale 1 is the picture fitted into `frame` (width, height), which is what the robot does with
    it. Outside the picture is grey, and its set 0 (unknown).
    """
    drawn = draw_geometry(image.shape[:2], size, frame, config, rng)
    matrix = drawn.matrix.copy()
    if drawn.scale < COARSE:  # warpAffine has no area filter
        blurred = cv2.GaussianBlur(image, (0, 0), 0.4 / drawn.scale)
        image = blurred.astype(np.uint8, copy=False)
    out = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=GREY)
    matrix[:, 2] -= (label_step - 1) / 2
    labels = (size // label_step, size // label_step)
    sets = cv2.warpAffine(sets, matrix / label_step, labels, flags=cv2.INTER_NEAREST, borderValue=0)
    return out.astype(np.uint8, copy=False), sets.astype(np.uint8, copy=False)


def draw_geometry(
    extent: tuple[int, ...],
    size: int,
    frame: tuple[int, int],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> Geometry:
    """A place, scale, rotation and mirroring for a picture of `extent` (height, width)."""
    h, w = extent
    low, high = np.log(config.scale)
    fit = min(frame[0] / w, frame[1] / h)
    scale = fit * math.exp(rng.uniform(low, high))
    angle = rng.uniform(-math.pi, math.pi) if rng.random() < config.rotate else 0.0
    flip_x, flip_y = (1 if rng.random() < 0.5 else -1), (1 if rng.random() < 0.5 else -1)

    margin_x, margin_y = (min(0.5 * size / scale, 0.5 * side) for side in (w, h))
    cx = rng.uniform(margin_x, w - margin_x)
    cy = rng.uniform(margin_y, h - margin_y)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[cos * flip_x, -sin * flip_y, 0], [sin * flip_x, cos * flip_y, 0]])
    matrix[:, 2] = size / 2 - matrix[:, :2] @ (cx, cy)
    return Geometry(matrix, scale)


def draw_light(
    extent: tuple[int, ...], config: AugmentationConfig, rng: np.random.Generator
) -> Light:
    """Colour, gamma, shadow, dusk, blur and the strength of noise for a crop of `extent` (height,
    width)."""
    mix, shift, gamma = None, 0.0, 1.0
    if rng.random() < config.colour:
        mix, shift = _draw_colour(rng)
        gamma = math.exp(rng.uniform(*np.log(config.gamma)))
    shade = _draw_shade(*extent, rng) if rng.random() < config.shadow else None
    dusk = _draw_dusk(*extent, rng) if rng.random() < config.dusk else None
    kernel = _draw_blur(rng) if rng.random() < config.blur else None
    noise = rng.uniform(0.005, 0.04) if rng.random() < config.noise else 0.0
    return Light(mix, shift, gamma, shade, dusk, kernel, noise)


def photometric(image: Image, config: AugmentationConfig, rng: np.random.Generator) -> Image:
    """A drawn light on uint8 [H, W, 3] BGR."""
    h, w = image.shape[:2]
    light = draw_light((h, w), config, rng)
    x = image.astype(np.float32) / 255
    if light.mix is not None:
        x = np.power(np.clip(x @ light.mix + np.float32(light.shift), 0, 1), light.gamma)
    if light.shade is not None:
        x *= _shadow(h, w, light.shade)[..., None]
    if light.dusk is not None:
        x = _darkened(x, light.dusk)
    if light.kernel is not None:
        x = cv2.filter2D(x, -1, light.kernel).astype(np.float32, copy=False)
    if light.noise:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(light.noise)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def _draw_colour(rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """Gains per channel (white balance), contrast, brightness, saturation and a small hue turn: all
    of them linear."""
    gains = np.exp(rng.normal(0, 0.08, 3))
    contrast, brightness = rng.uniform(0.7, 1.35), rng.uniform(-0.12, 0.12)
    saturation = rng.uniform(0.5, 1.5)
    grey = np.array([[0.114], [0.587], [0.299]]) @ np.ones((1, 3))
    mix = np.diag(gains * contrast) @ (grey + saturation * (np.eye(3) - grey))
    if rng.random() < 0.5:
        mix = mix @ _hue_matrix(math.radians(rng.uniform(-12, 12)))
    # What is the same in all channels passes saturation and hue unchanged.
    return mix.astype(np.float32), 0.5 + brightness - 0.5 * contrast


def _hue_matrix(turn: float) -> NDArray[np.float64]:
    """Rotation about the grey axis (Rodrigues)."""
    c, s, k = math.cos(turn), math.sin(turn), 1 / math.sqrt(3)
    cross = np.array([[0, -k, k], [k, 0, -k], [-k, k, 0]])
    return c * np.eye(3) + s * cross + (1 - c) / 3


def _draw_shade(h: int, w: int, rng: np.random.Generator) -> Shade:
    corners = rng.uniform(-0.3, 1.3, (rng.integers(3, 7), 2)) * (w, h)
    hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)[:, 0]
    blur = rng.uniform(0.7, 0.05 * w)
    inverted = bool(rng.random() < 0.3)
    return Shade(hull, blur, rng.uniform(0.3, 0.75), inverted)


def _shadow(h: int, w: int, shade: Shade) -> NDArray[np.float32]:
    """Gain map of a shade, [h, w] in (0, 1]."""
    inside = cv2.fillConvexPoly(np.zeros((h, w), np.float32), shade.hull, 1.0)
    inside = cv2.GaussianBlur(inside, (0, 0), shade.blur)
    if shade.inverted:
        inside = 1 - inside
    return (1 - np.float32(shade.depth) * inside).astype(np.float32)


def _draw_dusk(h: int, w: int, rng: np.random.Generator) -> Dusk:
    """A colour cast, and in half of the cases a lamp that falls off."""
    ambient = np.exp(rng.uniform(np.log(0.12), np.log(0.5)))
    cast = np.array([rng.uniform(0.7, 1.3), 1.0, rng.uniform(0.7, 1.3)], np.float32)
    gamma, lamp = rng.uniform(1.0, 1.5), None
    if rng.random() < 0.5:
        cy, cx = rng.uniform(0, h), rng.uniform(0, w)
        spread = rng.uniform(0.3, 0.9) * w
        lamp = (cx, cy, spread, rng.uniform(0.3, 1.0) / ambient)
    return Dusk(gamma, cast * np.float32(ambient), lamp)


def _darkened(x: NDArray[np.float32], dusk: Dusk) -> NDArray[np.float32]:
    x = np.power(np.clip(x, 0, 1), np.float32(dusk.gamma)) * dusk.gain
    if dusk.lamp is not None:
        cx, cy, spread, strength = dusk.lamp
        yy, xx = np.ogrid[: x.shape[0], : x.shape[1]]
        lamp = np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * spread**2)).astype(np.float32)
        x = x * (0.4 + lamp * np.float32(strength))[..., None]
    return x.astype(np.float32)


def _draw_blur(rng: np.random.Generator) -> NDArray[np.float32]:
    """Out of focus, or a straight motion of up to 9 pixels."""
    if rng.random() < 0.5:
        sigma = rng.uniform(0.4, 1.8)
        line = cv2.getGaussianKernel(2 * math.ceil(3 * sigma) + 1, sigma)
        return (line @ line.T).astype(np.float32)
    length = int(rng.integers(3, 10))
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2, :length] = 1
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (side, side)).astype(np.float32, copy=False)
    return (kernel / kernel.sum()).astype(np.float32)
