"""Shadows of leaves on the ground and on each other, and the light that is left.

The shadow buffer is the camera's view of the bare ground: each pixel holds the height of the
topmost leaf whose shadow falls on that piece of ground. A leaf lies in shadow where the buffer, at
the place of its own shadow, holds something higher.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.camera import Intrinsics, Pose
from cropseg_edge.simulator.raster import fill, in_image, mean4
from cropseg_edge.simulator.rng import F32, lattice_noise
from cropseg_edge.simulator.scene import Light

F64 = NDArray[np.float64]


def shadow_matrix(light: Light, eye_height: float, homography: F64) -> F64:
    """float64 [3, 4] from a local world point (x, y, z, 1) to the pixel of its shadow."""
    lx, ly, lz = light.direction
    if light.lamp:
        lz += eye_height
        to_ground = np.array([[lz, 0, -lx, 0], [0, lz, -ly, 0], [0, 0, -1, lz]])
    else:
        to_ground = np.array([[lz, 0, -lx, 0], [0, lz, -ly, 0], [0, 0, 0, lz]])
    return np.asarray(homography @ to_ground / lz, np.float64)


def shadow_buffer(vertices: F32, matrix: F64, width: int, height: int) -> F32:
    """float32 [height, width], metres: see the module; 0 where light reaches the ground.

    Args:
        vertices: float32 [N, 4, 3], quadrilaterals in the local world.
        matrix: of `shadow_matrix`.
        width, height: of the image.
    """
    m = matrix.astype(np.float32)
    flat = vertices @ m[:, :3].T + m[:, 3]
    # What falls behind the camera (or stands above the lamp) throws no shadow into the image.
    flat[..., 2][flat[..., 2] < 0.03] = np.nan
    corners = flat[..., :2] / flat[..., 2:]
    heights = mean4(vertices[..., 2])
    keep = np.flatnonzero(in_image(corners, width, height))
    keep = keep[np.argsort(heights[keep], kind="stable")]
    buffer = np.zeros((height, width), np.float32)
    fill(buffer, corners[keep], heights[keep].tolist())
    return buffer


def leaf_shadow(
    camera: Intrinsics, pose: Pose, matrix: F64, x: F32, y: F32, z: F32, buffer: F32
) -> F32:
    """How far each leaf pixel lies in another leaf's shadow: float32 [M], 0 to 1.

    Args:
        camera, pose: the view, in the local world.
        matrix: of `shadow_matrix`.
        x, y, z: float32 [M], pixel coordinates and depth of the leaf.
        buffer: of `shadow_buffer`.
    """
    # A world point is eye + z * (rays @ pixel), so its shadow is linear in z too.
    rays = pose.rotation @ np.linalg.inv(camera.matrix)
    a = (matrix[:, :3] @ rays).astype(np.float32)
    b = (matrix @ np.append(pose.position, 1)).astype(np.float32)
    u, v, w = (z * (a[i, 0] * x + a[i, 1] * y + a[i, 2]) + b[i] for i in range(3))
    away = 1 / np.maximum(w, np.float32(0.03))
    column = np.clip(u * away + np.float32(0.5), 0, camera.width - 1).astype(np.int32)
    row = np.clip(v * away + np.float32(0.5), 0, camera.height - 1).astype(np.int32)
    r = rays[2].astype(np.float32)
    own = z * (r[0] * x + r[1] * y + r[2]) + np.float32(pose.position[2])
    above = buffer.reshape(-1)[row * np.int32(camera.width) + column] - own
    return np.asarray(np.clip((above - np.float32(0.012)) * 50, 0, 1), np.float32)


def ground_light(light: Light, buffer: F32, seed: int, ground_x: F32, ground_y: F32) -> F32:
    """Light on the ground, linear BGR [H, W, 3].

    Args:
        light: the light.
        buffer: of `shadow_buffer`.
        seed: places the large shadow.
        ground_x, ground_y: float32 [H, W], world metres that the pixels show.
    """
    height, width = buffer.shape
    under = (buffer > 0.004).astype(np.float32)
    dark = cv2.GaussianBlur(under, (0, 0), light.penumbra)
    small = cv2.resize(under, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), height / 480 * 3.5)
    sky = 1 - np.float32(0.75) * cv2.resize(small, (width, height))
    if light.shade:
        big = lattice_noise(seed + 9, ground_x[::4, ::4], ground_y[::4, ::4], 0.9)
        big = np.asarray(cv2.resize(big, (width, height)), np.float32)
        dark = np.maximum(dark, np.clip((big - np.float32(0.5)) * 60, 0, 1))
    upright = np.float32(0.95 if light.lamp else light.direction[2])
    direct = (1 - dark) * upright
    lit = direct[..., None] * np.asarray(light.direct, np.float32)
    lit += sky[..., None] * np.asarray(light.ambient, np.float32)
    return np.asarray(lit, np.float32)


def lamp_cone(light: Light, camera: Intrinsics, reach: float, depth: F32) -> F32:
    """A lamp's cone and its fall-off with distance: float32 [H, W], about 1 at `reach` metres."""
    x = np.arange(camera.width, dtype=np.float32)[None] - np.float32(camera.cx)
    y = np.arange(camera.height, dtype=np.float32)[:, None] - np.float32(camera.cy)
    x = x / np.float32(camera.width) - np.float32(light.direction[1] * 0.3)
    y = y / np.float32(camera.width)
    cone = 1 / (1 + (np.float32(3.2) * (x * x + y * y)) ** 2 * 4)
    fall = np.square(np.float32(reach) / np.maximum(depth, np.float32(0.1)))
    return np.asarray(cone * fall, np.float32)
