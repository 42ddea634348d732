"""Depth with the errors that it has in the field: blur, scale, shift, bending, noise, holes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Degradation:
    """How wrong depth is made; shares are of the range of inverse depth in the picture.

    The defaults are what a monocular network leaves: edges several pixels wide, an unknown scale
    and shift, a slow bend over the picture, a little noise, holes at depth edges and elsewhere.

    Attributes:
        blur: deviation of the Gaussian that rounds off edges and thin leaves, pixels at 640 wide.
        scale: inverse depth is multiplied by up to exp(+-scale).
        shift: inverse depth is shifted by up to this share of its range.
        bend: amplitude of a smooth error over the whole picture, share of the range.
        noise: deviation of the noise at each pixel, share of the range.
        grain: the same for noise that is correlated over a few pixels.
        missing: share of pixels without depth, in blobs.
        edges_missing: share of the strongest depth edges without depth, as stereo leaves them.
    """

    blur: float = 2.5
    scale: float = 0.5
    shift: float = 0.3
    bend: float = 0.02
    noise: float = 0.005
    grain: float = 0.01
    missing: float = 0.02
    edges_missing: float = 0.0

    def stronger(self, factor: float) -> "Degradation":
        """The same kinds of error, `factor` times as large (missing shares at most 0.9)."""
        return Degradation(
            *(factor * x for x in (self.blur, self.scale, self.shift, self.bend)),
            *(factor * x for x in (self.noise, self.grain)),
            *(min(0.9, factor * x) for x in (self.missing, self.edges_missing)),
        )


NONE = Degradation().stronger(0.0)
STEREO = Degradation(
    blur=1.0, scale=0.0, shift=0.0, bend=0.0, noise=0.01, missing=0.05, edges_missing=0.3
)


def degrade_depth(depth: F32, how: Degradation, rng: np.random.Generator) -> F32:
    """Depth with realistic errors, made on inverse depth, where cameras and networks make them.

    Args:
        depth: float32 [H, W], metres, larger is farther; NaN or 0 unknown.
        how: kinds and sizes of the errors.
        rng: settles every draw.

    Returns:
        float32 [H, W], larger is farther, NaN unknown; metres only if `how` leaves scale and shift
        alone.
    """
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.full(depth.shape, np.nan, np.float32)
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0).astype(np.float32)
    low, high = np.percentile(inverse[known], (0.5, 99.5))
    span = max(float(high - low), 1e-3 * float(high))
    height, width = depth.shape

    weight = known.astype(np.float32)
    if how.blur > 0:
        sigma = how.blur * width / 640
        inverse = cv2.GaussianBlur(inverse * weight, (0, 0), sigma)
        inverse = inverse / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
    edges = cv2.morphologyEx(inverse, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    inverse = inverse + span * (
        how.bend * _field(rng, (3, 4), depth.shape)
        + how.noise * rng.standard_normal(depth.shape, np.float32)
        + how.grain * _field(rng, (max(2, height // 6), max(2, width // 6)), depth.shape)
    )
    scale = float(np.exp(how.scale * rng.uniform(-1, 1)))
    inverse = scale * (inverse + span * how.shift * rng.uniform(-1, 1))
    # A shift may not push the farthest ground to infinity.
    inverse = np.maximum(inverse, 0.02 * scale * span)
    lost = ~known | _top(_field(rng, (height // 12 + 2, width // 12 + 2), depth.shape), how.missing)
    lost |= _top(edges, how.edges_missing * 0.2)
    return np.where(lost, np.nan, 1 / inverse).astype(np.float32)


def _field(rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, ...]) -> F32:
    """Smooth noise [H, W] of deviation 1 with about `cells` bumps down and across."""
    coarse = rng.standard_normal(cells, np.float32)
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _top(values: F32, share: float) -> NDArray[np.bool_]:
    """The `share` of pixels with the largest values."""
    if share <= 0:
        return np.zeros(values.shape, np.bool_)
    return np.asarray(values > np.quantile(values, 1 - share), np.bool_)
