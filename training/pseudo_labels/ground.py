"""The ground plane under a depth map, and each pixel's height above it.

A plane seen by a pinhole camera is linear in inverse depth: 1/z = a x + b y + c, at any tilt, and
stays so where inverse depth has an unknown scale and shift (a monocular network's output). So the
plane is fitted there. The ray's share beyond a point gives its height: h / H = 1 - z / z_ground,
with H the camera's height over the plane.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_POINTS = 6000  # the fit looks at about this many pixels
_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.5)  # share of the picture that may lie below a first guess
_BAND = 0.1  # what counts as on the plane, share of the spread of heights
_BELOW = 3.0  # nothing is under the ground: a point below costs up to this, squared


@dataclass(frozen=True)
class Ground:
    """The fitted plane.

    Attributes:
        height: float32 [H, W], height over the plane in camera heights (0 ground, 1 at the
            camera), NaN where depth is unknown or the ray does not meet the ground.
        support: share of the known pixels that lie on the plane.
    """

    height: F32
    support: float


def fit_ground(depth: F32) -> Ground:
    """Robust plane under the picture: the lowest one that many pixels lie on.

    Args:
        depth: float32 [H, W], metres or relative, larger is farther; NaN unknown. At least three
            pixels known.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1), np.nan).astype(np.float32)
    rows, columns = np.nonzero(known)
    chosen = np.random.default_rng(0).permutation(len(rows))[:_POINTS]
    design = _design(rows[chosen], columns[chosen], depth.shape)
    values = inverse[rows[chosen], columns[chosen]].astype(np.float64)

    guesses = [_quantile_plane(design, values, quantile) for quantile in _QUANTILES]
    low, high = np.percentile(values - design @ guesses[2], (5, 95))
    band = max(_BAND * float(high - low), 1e-6 * float(np.abs(values).max()))
    planes = [_refined(design, values, guess, band) for guess in guesses]
    plane = min(planes, key=lambda p: _cost(values - design @ p, band))

    support = float(np.mean(np.abs(values - design @ plane) < 2 * band))
    everywhere = np.indices(depth.shape).reshape(2, -1)
    under = (_design(everywhere[0], everywhere[1], depth.shape) @ plane).reshape(depth.shape)
    # Under the horizon only: elsewhere the ray does not meet the ground.
    seen = known & (under > 1e-3 * np.abs(under).max())
    height = np.where(seen, 1 - under / np.where(seen, inverse, 1), np.nan).astype(np.float32)
    return Ground(height, support)


def _design(rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, ...]) -> F64:
    """[N, 3] of (x, y, 1), x and y from -1 to 1."""
    x = columns / max(shape[1] - 1, 1) * 2 - 1
    y = rows / max(shape[0] - 1, 1) * 2 - 1
    return np.column_stack([x, y, np.ones(len(rows))])


def _quantile_plane(design: F64, values: F64, quantile: float, rounds: int = 30) -> F64:
    """Plane with a share `quantile` of the points below it, by reweighted least squares."""
    plane = np.linalg.lstsq(design, values, rcond=None)[0]
    tiny = 1e-3 * float(values.std()) + 1e-12
    for _ in range(rounds):
        residual = values - design @ plane
        weight = np.where(residual > 0, quantile, 1 - quantile) / np.maximum(abs(residual), tiny)
        plane = _weighted(design, values, weight)
    return plane


def _refined(design: F64, values: F64, plane: F64, band: float, rounds: int = 10) -> F64:
    """Least squares over what lies within two bands of the plane, again and again."""
    for _ in range(rounds):
        near = np.abs(values - design @ plane) < 2 * band
        if near.sum() < 20:
            break
        plane = _weighted(design, values, near.astype(np.float64))
    return plane


def _weighted(design: F64, values: F64, weight: F64) -> F64:
    left = (design * weight[:, None]).T @ design
    left += 1e-9 * np.trace(left) * np.eye(len(left))
    return np.asarray(np.linalg.solve(left, (design * weight[:, None]).T @ values))


def _cost(residual: F64, band: float) -> float:
    """Mean truncated square; MSAC with a longer side below the plane."""
    scaled = residual / band
    limit = np.where(scaled > 0, 4.0, (2 * _BELOW) ** 2)
    return float(np.minimum(scaled**2, limit).mean())
