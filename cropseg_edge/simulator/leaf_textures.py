"""Leaf textures: what the surface of a blade looks like, drawn once per simulator into an atlas."""

import cv2
import numpy as np

from cropseg_edge.simulator.rng import F32, smooth_noise

ROWS, COLUMNS = 96, 48  # along the leaf, across it
KINDS = ("blade", "pinnate", "palmate", "stem")


def leaf_texture(rng: np.random.Generator, kind: str) -> F32:
    """float32 [ROWS, COLUMNS, 4]: linear BGR factors around 1, and opacity (0 in insect holes)."""
    t = np.linspace(0, 1, ROWS, dtype=np.float32)[:, None]
    u = np.linspace(-1, 1, COLUMNS, dtype=np.float32)[None]
    side = np.abs(u)
    noise = smooth_noise(rng, ROWS, 12)[:, :COLUMNS]
    fine = smooth_noise(rng, ROWS, 40)[:, :COLUMNS]
    value = 1 + 0.07 * noise + 0.05 * fine + rng.uniform(-0.15, 0.2) * (t - 0.5)
    value = value + rng.uniform(-0.15, 0.1) * side
    yellow = np.zeros((ROWS, COLUMNS), np.float32)
    if kind == "stem":
        value = value + 0.15 * (1 - side)
    elif kind == "blade":
        veins = np.cos(np.pi * rng.integers(5, 9) * u + rng.uniform(-0.5, 0.5))
        value = value + rng.uniform(0.03, 0.08) * veins
        midrib = np.exp(-((u / rng.uniform(0.07, 0.14)) ** 2))
        value = value + rng.uniform(0.0, 0.45) * midrib * (1 - 0.6 * t)
    else:
        count = rng.uniform(4, 7) if kind == "pinnate" else rng.uniform(2, 3.5)
        phase = count * (t - rng.uniform(0.25, 0.6) * side) * 2 * np.pi
        vein = np.exp(3.5 * (np.cos(phase + rng.uniform(0, 0.5) * np.sign(u)) - 1))
        strength = rng.uniform(-0.1, 0.22)
        value = value + strength * vein * (1 - 0.5 * side)
        # The blade bulges between the veins: lit on one flank, dark on the other.
        value = value + rng.uniform(0.0, 0.1) * np.sin(phase) * np.sign(u)
        midrib = np.exp(-((u / (0.035 + 0.06 * (1 - t) * rng.random())) ** 2))
        value = value + rng.uniform(0.1, 0.6) * midrib
    patches = np.clip(smooth_noise(rng, ROWS, 5)[:, :COLUMNS] - rng.uniform(1.0, 3.0), 0, 1)
    edge = np.clip((side - rng.uniform(0.8, 1.6)) * 3 + (t - 0.8) * rng.uniform(0, 2), 0, 1)
    yellow = np.clip(rng.random() ** 2 * (patches + edge), 0, 0.9)
    factors = np.repeat(np.clip(value, 0.35, 1.9)[..., None], 4, 2)
    # Yellowing lifts red most, green a little, and takes blue away.
    factors[..., 2] *= 1 + 1.6 * yellow
    factors[..., 1] *= 1 + 0.15 * yellow
    factors[..., 0] *= 1 - 0.3 * yellow
    factors[..., 3] = 1
    if kind != "stem":
        _spots(rng, factors)
    return np.ascontiguousarray(factors, np.float32)


def _spots(rng: np.random.Generator, factors: F32) -> None:
    """Draws insect holes and dry spots into a texture, in place."""
    opacity = np.ones(factors.shape[:2], np.uint8)
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 7)):
            centre = (int(rng.integers(COLUMNS)), int(rng.integers(10, ROWS)))
            axes = (int(rng.integers(1, 5)), int(rng.integers(2, 8)))
            cv2.ellipse(opacity, centre, axes, int(rng.integers(180)), 0, 360, 0, -1)
    factors[..., 3] = opacity
    if rng.random() < 0.35:
        dry = np.zeros(factors.shape[:2], np.float32)
        for _ in range(rng.integers(1, 12)):
            centre = (int(rng.integers(COLUMNS)), int(rng.integers(ROWS)))
            cv2.circle(dry, centre, int(rng.integers(1, 4)), 1.0, -1)
        factors[..., :3] *= 1 + dry[..., None] * np.array([0.2, 0.1, 1.2], np.float32)


def atlas(rng: np.random.Generator, per_kind: int) -> F32:
    """float32 [len(KINDS) * per_kind, ROWS, COLUMNS, 4]; row = KINDS.index(kind) * per_kind + i."""
    return np.stack([leaf_texture(rng, kind) for kind in KINDS for _ in range(per_kind)])
