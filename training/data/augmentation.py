"""A random crop of a picture with its class sets: geometry in one warp, then light, blur, noise."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentationConfig

Image = NDArray[np.uint8]


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
    h, w = image.shape[:2]
    low, high = np.log(config.scale)
    fit = min(frame[0] / w, frame[1] / h)
    scale = fit * math.exp(rng.uniform(low, high))
    angle = rng.uniform(-math.pi, math.pi) if rng.random() < config.rotate else 0.0
    flip_x, flip_y = (1 if rng.random() < 0.5 else -1), (1 if rng.random() < 0.5 else -1)

    margin_x, margin_y = (min(0.5 * size / scale, 0.5 * extent) for extent in (w, h))
    cx = rng.uniform(margin_x, w - margin_x)
    cy = rng.uniform(margin_y, h - margin_y)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[cos * flip_x, -sin * flip_y, 0], [sin * flip_x, cos * flip_y, 0]])
    matrix[:, 2] = size / 2 - matrix[:, :2] @ (cx, cy)

    if scale < 0.6:  # warpAffine has no area filter
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale).astype(np.uint8, copy=False)
    out = cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(104, 116, 124)
    )
    matrix[:, 2] -= (label_step - 1) / 2
    labels = (size // label_step, size // label_step)
    sets = cv2.warpAffine(sets, matrix / label_step, labels, flags=cv2.INTER_NEAREST, borderValue=0)
    return out.astype(np.uint8, copy=False), sets.astype(np.uint8, copy=False)


def photometric(image: Image, config: AugmentationConfig, rng: np.random.Generator) -> Image:
    """Colour, gamma, dusk, shadow, blur and noise on uint8 [H, W, 3] BGR."""
    x = image.astype(np.float32) / 255
    if rng.random() < config.colour:
        x = _colour(x, rng)
        x = np.power(np.clip(x, 0, 1), math.exp(rng.uniform(*np.log(config.gamma))))
    if rng.random() < config.shadow:
        x *= _shadow(x.shape[0], x.shape[1], rng)[..., None]
    if rng.random() < config.dusk:
        x = _dusk(x, rng)
    if rng.random() < config.blur:
        x = _blur(x, rng)
    if rng.random() < config.noise:
        sigma = rng.uniform(0.005, 0.04)
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(sigma)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def _colour(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Gains per channel (white balance), contrast, brightness, saturation and a small hue turn."""
    gains = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    contrast, brightness = rng.uniform(0.7, 1.35), rng.uniform(-0.12, 0.12)
    x = (x * gains - 0.5) * np.float32(contrast) + np.float32(0.5 + brightness)
    grey = x @ np.array([0.114, 0.587, 0.299], np.float32)
    x = grey[..., None] + (x - grey[..., None]) * np.float32(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        turn = math.radians(rng.uniform(-12, 12))
        x = x @ _hue_matrix(turn)
    return x


def _hue_matrix(turn: float) -> NDArray[np.float32]:
    """Rotation about the grey axis (Rodrigues)."""
    c, s, k = math.cos(turn), math.sin(turn), 1 / math.sqrt(3)
    cross = np.array([[0, -k, k], [k, 0, -k], [-k, k, 0]])
    return (c * np.eye(3) + s * cross + (1 - c) / 3).astype(np.float32)


def _shadow(h: int, w: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain map of a soft-edged polygon of shade, [h, w] in (0, 1]."""
    corners = rng.uniform(-0.3, 1.3, (rng.integers(3, 7), 2)) * (w, h)
    hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
    shade = cv2.fillConvexPoly(np.zeros((h, w), np.float32), hull, 1.0)
    shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.7, 0.05 * w))
    if rng.random() < 0.3:
        shade = 1 - shade
    return (1 - np.float32(rng.uniform(0.3, 0.75)) * shade).astype(np.float32)


def _dusk(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Little light, a colour cast, and in half of the cases a lamp that falls off."""
    gain = np.exp(rng.uniform(np.log(0.12), np.log(0.5)))
    cast = np.array([rng.uniform(0.7, 1.3), 1.0, rng.uniform(0.7, 1.3)], np.float32)
    x = np.power(np.clip(x, 0, 1), np.float32(rng.uniform(1.0, 1.5))) * cast * np.float32(gain)
    if rng.random() < 0.5:
        h, w = x.shape[:2]
        cy, cx = rng.uniform(0, h), rng.uniform(0, w)
        yy, xx = np.ogrid[:h, :w]
        spread = rng.uniform(0.3, 0.9) * w
        lamp = np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * spread**2)).astype(np.float32)
        x = x * (0.4 + lamp / np.float32(gain) * np.float32(rng.uniform(0.3, 1.0)))[..., None]
    return x.astype(np.float32)


def _blur(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Out of focus, or a straight motion of up to 9 pixels."""
    if rng.random() < 0.5:
        return cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.8)).astype(np.float32, copy=False)
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(x, -1, kernel / kernel.sum()).astype(np.float32, copy=False)
