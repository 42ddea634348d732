"""Colours: how light falls on leaves and ground, and what lens and sensor make of it."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.leaf_textures import COLUMNS, ROWS
from cropseg_edge.simulator.library import Quads
from cropseg_edge.simulator.raster import Fragments
from cropseg_edge.simulator.rng import F32, hash01
from cropseg_edge.simulator.scene import Lens, Light


def hsv_to_linear(hsv: F32) -> F32:
    """Hue in degrees, saturation and value [P, 3] to linear BGR [P, 3]."""
    h = np.mod(hsv[:, :1] / np.float32(60) + np.array([1, 3, 5], np.float32), 6)
    # k = (n + h) mod 6 with n = 5, 3, 1 for red, green, blue.
    bgr = hsv[:, 2:] * (1 - hsv[:, 1:2] * np.clip(np.minimum(h, 4 - h), 0, 1))
    return np.asarray(bgr * bgr, np.float32)


def _dot(a: F32, b: F32) -> F32:
    """Dot product over a last axis of three."""
    total = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return np.asarray(total, np.float32)


def corner_light(quads: Quads, light: Light, eye: F32) -> tuple[F32, F32]:
    """Direct light on the corners, diffuse with what shines through, and the highlight: [N, 4].

    Args:
        quads: geometry in the local world.
        light: the light; a lamp's position is relative to `eye`.
        eye: float32 [3], the camera in the local world.
    """
    to_eye = eye - quads.vertices
    to_eye *= 1 / np.sqrt(_dot(to_eye, to_eye))[..., None]
    direction = np.asarray(light.direction, np.float32)
    if light.lamp:
        to_light = direction + eye - quads.vertices
        to_light *= 1 / np.sqrt(_dot(to_light, to_light))[..., None]
    else:
        to_light = np.broadcast_to(direction, quads.vertices.shape)
    n = quads.normals
    towards_eye = _dot(n, to_eye)
    towards_light = _dot(n, to_light)
    same_side = towards_eye * towards_light > 0
    diffuse = np.abs(towards_light) * np.where(same_side, np.float32(1), np.float32(0.6))
    half = to_eye + to_light
    across = _dot(n, half)
    shine = np.minimum(across * across / (_dot(half, half) + np.float32(1e-6)), 1) ** 7
    shine = np.where(same_side, shine, 0) * quads.gloss[:, None]
    return np.asarray(diffuse, np.float32), np.asarray(shine, np.float32)


def leaf_colour(
    quads: Quads, fragments: Fragments, values: F32, textures: F32, shadow: F32, light: Light
) -> tuple[F32, NDArray[np.bool_]]:
    """Linear BGR [M, 3] of the foliage and where it is not a hole [M].

    Args:
        quads: geometry and looks.
        fragments: the visible pixels.
        values: float32 [M, 5]: depth, u, t, diffuse, highlight.
        textures: the atlas [K, ROWS, COLUMNS, 4].
        shadow: float32 [M], 0 lit to 1 in shadow.
        light: colours of the light.
    """
    u, t = np.clip(values[:, 1], -1, 1), np.clip(values[:, 2], 0, 1)
    column = ((u + 1) * np.float32((COLUMNS - 1) / 2) + np.float32(0.5)).astype(np.int32)
    row = (t * np.float32(ROWS - 1) + np.float32(0.5)).astype(np.int32)
    quad = fragments.quad
    index = (quads.texture[quad] * ROWS + row) * COLUMNS + column
    surface = np.take(textures.reshape(-1, 4), index, axis=0)
    # A leaf folds at its midrib: one half faces the light, the other turns away.
    across = quads.vertices[:, 0] - quads.vertices[:, 1]
    across = across / (np.sqrt(_dot(across, across))[:, None] + np.float32(1e-9))
    tilt = across @ np.asarray(light.direction, np.float32) * np.float32(0.35)
    fold = 1 - tilt[quad] * np.clip(4 * u, -1, 1)
    open_sky = np.float32(0.45) + np.float32(0.55) * np.sqrt(quads.low)
    direct = np.clip(values[:, 3], 0, 1) * fold * (1 - shadow)
    lit = direct[:, None] * np.asarray(light.direct, np.float32)
    lit += (open_sky[quad] * (np.float32(0.6) + np.float32(0.4) * fold))[:, None] * np.asarray(
        light.ambient, np.float32
    )
    colour = np.take(quads.tint, quad, axis=0) * surface[:, :3] * lit
    shine = np.clip(values[:, 4], 0, 1) * (1 - shadow) * np.float32(0.45) * surface[:, 1]
    colour += shine[:, None] * np.asarray(light.direct, np.float32)
    colour += (0.04 * quads.gloss[quad])[:, None] * np.asarray(light.ambient, np.float32)
    return np.asarray(colour, np.float32), np.asarray(surface[:, 3] > 0.5, np.bool_)


_NOISE_SIZE = 512
_NOISE: F32 = (
    np.random.default_rng(7)
    .standard_normal((_NOISE_SIZE * 2, _NOISE_SIZE * 2, 3))
    .astype(np.float32)
)
"""Sensor noise, drawn once; a frame takes a window at an offset of its own."""


def _noise(height: int, width: int, seed: int, index: int) -> F32:
    top, left = (hash01(seed, index, np.arange(2, dtype=np.int64)) * _NOISE_SIZE).astype(int)
    window = _NOISE[top : top + _NOISE_SIZE, left : left + _NOISE_SIZE]
    repeats = (-(-height // _NOISE_SIZE), -(-width // _NOISE_SIZE), 1)
    return np.asarray(np.tile(window, repeats)[:height, :width], np.float32)


def _streak(lens: Lens) -> F32:
    """The path of a point during the exposure, as a kernel that sums to 1."""
    reach = int(np.ceil(lens.motion_blur / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half = lens.motion_blur / 2 * np.array([np.sin(lens.motion_angle), -np.cos(lens.motion_angle)])
    ends = [tuple(int(v) for v in np.rint((reach + s * half) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(kernel / kernel.sum(), np.float32)


_CURVE_STEPS = 2048


@lru_cache(maxsize=8)
def _tone_curve(contrast: float) -> F32:
    """Display value (0 to 1) for the root of linear light in steps of 1 / _CURVE_STEPS."""
    root = np.arange(2 * _CURVE_STEPS, dtype=np.float32) / _CURVE_STEPS
    # A shoulder keeps highlights from clipping flat.
    knee = 0.85
    shown = np.where(root > knee, knee + (1 - knee) * np.tanh((root - knee) / (1 - knee)), root)
    return np.asarray(0.45 + (shown - 0.45) * contrast, np.float32)


def expose(linear: F32, light: Light, lens: Lens, seed: int, index: int) -> NDArray[np.uint8]:
    """Linear BGR [H, W, 3] through lens, exposure, sensor and tone curve to uint8 [H, W, 3]."""
    height, width = linear.shape[:2]
    if lens.motion_blur > 1:
        linear = np.asarray(cv2.filter2D(linear, -1, _streak(lens)), np.float32)
    linear = np.asarray(cv2.GaussianBlur(linear, (0, 0), lens.blur), np.float32)
    mean = float(linear[::8, ::8].mean()) + 1e-6
    gains = np.array(lens.white_balance, np.float32) * np.float32(light.exposure / mean)
    if lens.vignette > 0:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        linear = linear * (1 - np.float32(lens.vignette / 2) * (x * x + y * y))[..., None]
    shown = np.sqrt(np.maximum(linear * gains, 0))  # close to the display curve, and fast
    steps = np.minimum(shown * np.float32(_CURVE_STEPS), 2 * _CURVE_STEPS - 1).astype(np.uint16)
    shown = np.take(_tone_curve(lens.contrast), steps)
    if lens.saturation != 1:
        grey = shown.mean(2, keepdims=True)
        shown = grey + (shown - grey) * np.float32(lens.saturation)
    shown = shown * 255 + _noise(height, width, seed, index) * np.float32(light.noise)
    image = np.clip(shown, 0, 255).astype(np.uint8)
    if lens.jpeg:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, lens.jpeg])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(image, np.uint8)
