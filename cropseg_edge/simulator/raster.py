"""Quadrilaterals to pixels: which one each pixel sees, and values in between the corners."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.rng import F32

_SHIFT = 4  # fractional bits of the polygon corners
_FINE = 2  # samples per pixel and axis


@dataclass(frozen=True, slots=True)
class Fragments:
    """The pixels that show foliage.

    Attributes:
        pixel: int64 [M], flat index into the image.
        x, y: float32 [M], the pixel's coordinates.
        quad: int64 [M], index of the quadrilateral in front.
        coverage: float32 [M], share of the pixel that foliage covers (0.25 to 1).
    """

    pixel: NDArray[np.int64]
    x: F32
    y: F32
    quad: NDArray[np.int64]
    coverage: F32


def mean4(corners: F32) -> F32:
    """Mean over the four corners, axis 1; much faster than `.mean(1)` on so short an axis."""
    total = corners[:, 0] + corners[:, 1] + corners[:, 2] + corners[:, 3]
    return np.asarray(total * np.float32(0.25), np.float32)


def bounds4(corners: F32) -> tuple[F32, F32]:
    """Smallest and largest over the four corners, axis 1."""
    a, b, c, d = corners[:, 0], corners[:, 1], corners[:, 2], corners[:, 3]
    low = np.minimum(np.minimum(a, b), np.minimum(c, d))
    return low, np.maximum(np.maximum(a, b), np.maximum(c, d))


def _slimmed(corners: F32) -> F32:
    """Corners [N, 4, 2] with each side moved in by what the polygon filler adds outside."""
    slim = np.empty_like(corners)
    for left, right in ((0, 1), (3, 2)):
        across = corners[:, right] - corners[:, left]
        width = np.sqrt(across[:, :1] ** 2 + across[:, 1:] ** 2) + np.float32(1e-6)
        step = across * np.minimum(np.float32(0.4) / width, np.float32(0.45))
        slim[:, left], slim[:, right] = corners[:, left] + step, corners[:, right] - step
    return slim


def fill(buffer: NDArray[np.int32] | F32, corners: F32, values: list[float]) -> None:
    """Draws quadrilaterals [N, 4, 2] (pixels of `buffer`) in the given order."""
    fixed = np.rint(np.clip(corners, -8000, 8000) * (1 << _SHIFT)).astype(np.int32)
    draw_one = cv2.fillConvexPoly
    for polygon, value in zip(fixed, values, strict=True):
        draw_one(buffer, polygon, value, 8, _SHIFT)


def in_image(corners: F32, width: int, height: int) -> NDArray[np.bool_]:
    """bool [N]: quadrilaterals (pixels [N, 4, 2]) that may touch the image; NaN does not."""
    low, high = bounds4(corners)
    inside = (high[:, 0] >= 0) & (low[:, 0] < width) & (high[:, 1] >= 0) & (low[:, 1] < height)
    return np.asarray(inside, np.bool_)


def draw(projected: F32, width: int, height: int) -> Fragments:
    """Draws the quadrilaterals [N, 4, 3] (pixels, metres) far ones first."""
    order = np.argsort(-mean4(projected[..., 2]), kind="stable")
    s = _FINE
    ids = np.zeros((height * s, width * s), np.int32)
    fine = projected[order, :, :2] * np.float32(s) + np.float32((s - 1) / 2)
    fill(ids, _slimmed(fine), list(range(1, len(order) + 1)))
    quarters = [ids[a::s, b::s] for a in range(s) for b in range(s)]
    # Later means nearer, so the largest number is the one in front.
    front = quarters[0]
    count = (front > 0).astype(np.uint8)
    for quarter in quarters[1:]:
        front = np.maximum(front, quarter)
        count += quarter > 0
    y, x = np.nonzero(count)
    pixel = y * width + x
    return Fragments(
        pixel,
        x.astype(np.float32),
        y.astype(np.float32),
        order[front.reshape(-1)[pixel] - 1],
        count.reshape(-1)[pixel].astype(np.float32) * np.float32(1 / (s * s)),
    )


def planes(projected: F32, values: F32) -> F32:
    """Least-squares planes through corner values over the image.

    Args:
        projected: float32 [N, 4, 3], pixels and depth.
        values: float32 [N, 4, A].

    Returns:
        float32 [N, 3, A]: the value at pixel (0, 0), and the slopes per pixel in x and y. Slopes
        shrink to zero where a quadrilateral is seen edge-on.
    """
    centre, mean = mean4(projected[..., :2]), mean4(values)
    d = projected[..., :2] - centre[:, None]
    dx, dy = d[..., 0], d[..., 1]
    xx = 4 * mean4(dx * dx) + np.float32(0.3)
    yy = 4 * mean4(dy * dy) + np.float32(0.3)
    xy = 4 * mean4(dx * dy)
    scale = 1 / (xx * yy - xy * xy)
    centred = values - mean[:, None]
    bx, by = 4 * mean4(dx[..., None] * centred), 4 * mean4(dy[..., None] * centred)
    gx = (yy * scale)[:, None] * bx - (xy * scale)[:, None] * by
    gy = (xx * scale)[:, None] * by - (xy * scale)[:, None] * bx
    return np.stack([mean - gx * centre[:, :1] - gy * centre[:, 1:], gx, gy], 1)
