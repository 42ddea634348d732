"""One view of the field: ground, shadows, foliage; as linear colour, labels and depth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.camera import Intrinsics, Pose, ground_homography, project
from cropseg_edge.simulator.library import Library, Quads
from cropseg_edge.simulator.mesh import coarser, spans
from cropseg_edge.simulator.raster import bounds4, draw, in_image, planes
from cropseg_edge.simulator.rng import F32
from cropseg_edge.simulator.scene import Scene
from cropseg_edge.simulator.shading import corner_light, leaf_colour
from cropseg_edge.simulator.shadows import (
    ground_light,
    lamp_cone,
    leaf_shadow,
    shadow_buffer,
    shadow_matrix,
)
from cropseg_edge.simulator.soil import RELIEF_RANGE, TO_LINEAR, Ground, view_ground

F64 = NDArray[np.float64]
_NEAR = 0.03  # metres; nothing nearer to the camera is drawn

_THREAD = 0.0022  # metres; thinner stalks throw no shadow worth drawing


@dataclass(slots=True)
class Canvas:
    """What is being painted: linear BGR [H, W, 3], labels uint8 [H, W], depth float32 [H, W]."""

    linear: F32
    labels: NDArray[np.uint8]
    depth: F32


def paint(
    scene: Scene, ground: Ground, library: Library, camera: Intrinsics, pose: Pose, origin: F64,
    quads: Quads,
) -> Canvas:  # fmt: skip
    """Paints the ground, its shadows and the plants.

    Args:
        scene, ground, library: what is seen.
        camera, pose: the camera, in the local world.
        origin: float64 [2], world position of the local world's origin.
        quads: the plants, in the local world.
    """
    width, height = camera.width, camera.height
    homography = ground_homography(camera, pose)
    matrix = shadow_matrix(scene.light, float(pose.position[2]), homography)
    # Shadows need no fine outlines, least of all those of many plants.
    divisor = 2 if len(quads.low) < 8_000 else 4
    casting = coarser(quads.vertices, quads.uv, divisor)
    casting = casting[spans(casting)[0] > _THREAD]
    buffer = shadow_buffer(casting, matrix, width, height)
    seen = view_ground(ground, homography, origin, width, height)
    back = np.linalg.inv(homography).astype(np.float32)
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    # A ground point's homogeneous weight is 1 / depth.
    depth = 1 / (back[2, 0] * x + back[2, 1] * y + back[2, 2])
    ground_x = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) * depth + np.float32(origin[0])
    ground_y = (back[1, 0] * x + back[1, 1] * y + back[1, 2]) * depth + np.float32(origin[1])
    lit = ground_light(scene.light, buffer, scene.seed, ground_x, ground_y)
    relief = seen[..., 3] * np.float32(RELIEF_RANGE / 255 / pose.position[2])
    canvas = Canvas(
        np.take(TO_LINEAR, seen[..., :3]) * lit,
        np.zeros((height, width), np.uint8),
        np.asarray(depth * (1 - relief), np.float32),
    )
    projected = project(camera, pose, quads.vertices)
    near, _ = bounds4(projected[..., 2])
    chosen = np.flatnonzero((near > _NEAR) & in_image(projected[..., :2], width, height))
    if len(chosen):
        leaves = quads.take(chosen)
        _paint_leaves(
            scene, library, camera, pose, leaves, projected[chosen], matrix, buffer, canvas
        )
    if scene.light.lamp:
        canvas.linear *= lamp_cone(scene.light, camera, scene.mount.height, canvas.depth)[..., None]
    return canvas


def _paint_leaves(
    scene: Scene, library: Library, camera: Intrinsics, pose: Pose, quads: Quads, projected: F32,
    matrix: F64, buffer: F32, canvas: Canvas,
) -> None:  # fmt: skip
    """Paints foliage over the canvas, in place."""
    light = scene.light
    diffuse, shine = corner_light(quads, light, pose.position.astype(np.float32))
    corner = np.concatenate(
        [projected[..., 2:], quads.uv, diffuse[..., None], shine[..., None]], -1
    )
    seen = draw(projected, camera.width, camera.height)
    fit = np.take(planes(projected, corner), seen.quad, axis=0)
    values = fit[:, 0] + fit[:, 1] * seen.x[:, None] + fit[:, 2] * seen.y[:, None]
    nearest, farthest = bounds4(projected[..., 2])
    z = np.clip(values[:, 0], nearest[seen.quad], farthest[seen.quad])
    dark = leaf_shadow(camera, pose, matrix, seen.x, seen.y, z, buffer)
    colour, solid = leaf_colour(quads, seen, values, library.atlas, dark, light)
    alpha = (seen.coverage * solid)[:, None]
    flat = canvas.linear.reshape(-1, 3)
    flat[seen.pixel] += alpha * (colour - flat[seen.pixel])
    most = np.flatnonzero(solid & (seen.coverage >= 0.5))
    canvas.labels.reshape(-1)[seen.pixel[most]] = quads.label[seen.quad[most]]
    canvas.depth.reshape(-1)[seen.pixel[most]] = z[most]
