"""Guided filter: a map is smoothed so that its edges lie where the picture's edges lie.

He, Sun, Tang: Guided Image Filtering, PAMI 2013, section 3.4 (colour guide), on box filters.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def guided_filter(
    guide: NDArray[np.uint8], values: F32, radius: int, eps: float, weight: F32 | None = None
) -> F32:
    """Fit `values` as a linear function of colour in each window, and average the fits.

    Args:
        guide: uint8 [H, W, 3] picture.
        values: float32 [H, W]; where `weight` is 0 it may be anything finite.
        radius: of the window, pixels.
        eps: variance of colour (of 0 to 1, squared) below which a window counts as flat.
        weight: float32 [H, W] trust in each value, 0 to 1; None trusts all alike.

    Returns:
        float32 [H, W]; where no value in reach has any weight, 0.
    """
    size = (2 * radius + 1, 2 * radius + 1)
    trust = np.ones(values.shape, np.float32) if weight is None else weight

    def box(x: F32) -> F32:
        return np.asarray(cv2.blur(x, size, borderType=cv2.BORDER_REFLECT_101), np.float32)

    mass = np.maximum(box(trust), 1e-6)

    def mean(x: F32) -> F32:
        return np.asarray(box(trust * x) / mass, np.float32)

    b, g, r = (np.ascontiguousarray(guide[..., c]).astype(np.float32) / 255 for c in range(3))
    mean_b, mean_g, mean_r, mean_p = mean(b), mean(g), mean(r), mean(values)
    # The covariance of colour, symmetric 3x3 at each pixel, and its inverse by cofactors.
    bb, gg, rr = (mean(x * x) - m * m + eps for x, m in ((b, mean_b), (g, mean_g), (r, mean_r)))
    bg = mean(b * g) - mean_b * mean_g
    br = mean(b * r) - mean_b * mean_r
    gr = mean(g * r) - mean_g * mean_r
    i00, i01, i02 = gg * rr - gr * gr, br * gr - bg * rr, bg * gr - br * gg
    i11, i12, i22 = bb * rr - br * br, br * bg - bb * gr, bb * gg - bg * bg
    determinant = bb * i00 + bg * i01 + br * i02
    pb, pg, pr = (mean(x * values) - m * mean_p for x, m in ((b, mean_b), (g, mean_g), (r, mean_r)))
    a_b = (i00 * pb + i01 * pg + i02 * pr) / determinant
    a_g = (i01 * pb + i11 * pg + i12 * pr) / determinant
    a_r = (i02 * pb + i12 * pg + i22 * pr) / determinant
    offset = mean_p - a_b * mean_b - a_g * mean_g - a_r * mean_r
    # The fits are averaged by how much they rest on.
    spread = np.maximum(box(mass), 1e-6)
    a_b, a_g, a_r, offset = (box(mass * x) / spread for x in (a_b, a_g, a_r, offset))
    return np.asarray(a_b * b + a_g * g + a_r * r + offset, np.float32)
