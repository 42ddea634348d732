"""Quadrilaterals to pixels: which one each pixel sees, its depth there, and what shadows fall."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.rng import F32

_SHIFT = 4  # fractional bits of the polygon corners
SUPERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class Fragments:
    """The pixels that show foliage.

    Attributes:
        pixel: int64 [M], flat index into the image.
        quad: int64 [M], index of the quadrilateral in front.
        coverage: float32 [M], share of the pixel that foliage covers (0.25 to 1).
        dx, dy: float32 [M], pixels from the quadrilateral's centre.
    """

    pixel: NDArray[np.int64]
    quad: NDArray[np.int64]
    coverage: F32
    dx: F32
    dy: F32


def _slimmed(corners: F32) -> F32:
    """Corners [N, 4, 2] with each side moved in by what the polygon filler adds outside."""
    left, right = corners[:, [0, 3]], corners[:, [1, 2]]
    across = right - left
    width = np.sqrt((across**2).sum(-1, keepdims=True)) + np.float32(1e-6)
    step = across / width * np.minimum(np.float32(0.4), 0.45 * width)
    slim = np.empty_like(corners)
    slim[:, [0, 3]], slim[:, [1, 2]] = left + step, right - step
    return slim


def _fill(buffer: NDArray[np.int32] | F32, corners: F32, values: list[float]) -> None:
    """Draws quadrilaterals [N, 4, 2] (pixels of `buffer`) in the given order."""
    fixed = np.rint(np.clip(corners, -8000, 8000) * (1 << _SHIFT)).astype(np.int32)
    fill = cv2.fillConvexPoly
    for polygon, value in zip(fixed, values, strict=True):
        fill(buffer, polygon, value, 8, _SHIFT)


def visible(projected: F32, width: int, height: int) -> NDArray[np.bool_]:
    """bool [N]: quadrilaterals (pixel x, y and depth [N, 4, 3]) that touch the image."""
    x, y, z = projected[..., 0], projected[..., 1], projected[..., 2]
    inside = (x.max(1) >= 0) & (x.min(1) < width) & (y.max(1) >= 0) & (y.min(1) < height)
    return np.asarray(inside & (z.min(1) > 0.03), np.bool_)


def draw(projected: F32, width: int, height: int) -> Fragments:
    """Draws the quadrilaterals [N, 4, 3] (pixels, metres) far ones first."""
    order = np.argsort(-projected[..., 2].mean(1), kind="stable")
    corners = projected[order, :, :2]
    s = SUPERSAMPLING
    ids = np.zeros((height * s, width * s), np.int32)
    fine = corners * np.float32(s) + np.float32((s - 1) / 2)
    _fill(ids, _slimmed(fine), list(range(1, len(order) + 1)))
    quarters = [ids[a::s, b::s] for a in range(s) for b in range(s)]
    # Later means nearer, so the largest number is the one in front.
    front = quarters[0]
    count = (front > 0).astype(np.uint8)
    for quarter in quarters[1:]:
        front = np.maximum(front, quarter)
        count += quarter > 0
    pixel = np.flatnonzero(count)
    number = front.ravel()[pixel] - 1
    centre = corners.mean(1)
    middle = centre[number]
    return Fragments(
        pixel,
        order[number],
        count.ravel()[pixel].astype(np.float32) / np.float32(s * s),
        (pixel % width).astype(np.float32) - middle[:, 0],
        (pixel // width).astype(np.float32) - middle[:, 1],
    )


def planes(projected: F32, values: F32) -> F32:
    """Least-squares planes through corner values over the image.

    Args:
        projected: float32 [N, 4, 3], pixels and depth.
        values: float32 [N, 4, A].

    Returns:
        float32 [N, 3, A]: the mean, and the slopes per pixel in x and y. Slopes shrink to zero
        where a quadrilateral is seen edge-on.
    """
    d = projected[..., :2] - projected[..., :2].mean(1, keepdims=True)
    mean = values.mean(1)
    centred = values - mean[:, None]
    xx = (d[..., 0] ** 2).sum(1) + np.float32(0.3)
    yy = (d[..., 1] ** 2).sum(1) + np.float32(0.3)
    xy = (d[..., 0] * d[..., 1]).sum(1)
    bx, by = np.moveaxis(np.matmul(d.transpose(0, 2, 1), centred), 1, 0)
    scale = 1 / (xx * yy - xy * xy)
    gx = (yy[:, None] * bx - xy[:, None] * by) * scale[:, None]
    gy = (xx[:, None] * by - xy[:, None] * bx) * scale[:, None]
    return np.stack([mean, gx, gy], 1)


def heights_from_light(corners: F32, heights: F32, width: int, height: int) -> F32:
    """Shadow buffer: float32 [height, width], height in metres of the topmost quadrilateral whose
    shadow falls on the ground that a pixel shows; 0 where light reaches the ground.

    Args:
        corners: float32 [N, 4, 2], pixels of the shadows' corners.
        heights: float32 [N], metres.
        width, height: size of the buffer.
    """
    buffer = np.zeros((height, width), np.float32)
    x, y = corners[..., 0], corners[..., 1]
    keep = (x.max(1) >= 0) & (x.min(1) < width) & (y.max(1) >= 0) & (y.min(1) < height)
    keep &= np.isfinite(corners).all((1, 2))
    order = np.flatnonzero(keep)
    order = order[np.argsort(heights[order], kind="stable")]
    _fill(buffer, corners[order], heights[order].tolist())
    return buffer
