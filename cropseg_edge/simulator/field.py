"""FieldSimulator: a seeded drive over an endless crop field, frame by frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator.camera import (
    Intrinsics,
    Pose,
    ground_corners,
    ground_homography,
    intrinsics,
    pose_at,
    project,
)
from cropseg_edge.simulator.frame import PlantTruth, RowLine, SimulatedFrame
from cropseg_edge.simulator.library import Quads, grow_library, stamp
from cropseg_edge.simulator.planting import Plants, crop_plants, join, weed_plants
from cropseg_edge.simulator.presets import named_scene, training_scene
from cropseg_edge.simulator.raster import draw, heights_from_light, planes, visible
from cropseg_edge.simulator.rng import F32, lattice_noise
from cropseg_edge.simulator.scene import Scene
from cropseg_edge.simulator.shading import corner_light, expose, hsv_to_linear, leaf_colour
from cropseg_edge.simulator.soil import RELIEF_RANGE, TO_LINEAR, make_ground, view_ground


_LEAF_VALUE = 0.6  # a leaf in full sun shows as bright as its colour says beside the soil


class FieldSimulator:
    """A crop field seen by a moving camera. `render(i)` depends on nothing but the arguments here.

    Args:
        species, condition, camera: names out of SPECIES, CONDITIONS, CAMERAS.
        seed: settles everything else; the same seed gives the same bytes.
        width, height: of the image in pixels, at least 16.
        rate_hz, speed_m_s: frame rate and speed of the drive.
        scene: a complete scene, used instead of the names.

    Raises:
        ConfigError: an unknown name, or a number out of range.
    """

    def __init__(
        self,
        species: str = "maize",
        condition: str = "sun",
        camera: str = "oblique",
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 10.0,
        speed_m_s: float = 0.5,
        scene: Scene | None = None,
    ) -> None:
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ConfigError(f"width and height must be 16 to 8192 pixels; got {width}x{height}")
        if not rate_hz > 0:
            raise ConfigError(f"rate_hz must be above 0; got {rate_hz}")
        self.scene = scene or named_scene(species, condition, camera, seed)
        self.camera = intrinsics(self.scene.mount, width, height)
        self.rate_hz, self.speed_m_s = rate_hz, speed_m_s
        self._library = grow_library(self.scene)
        rng = np.random.default_rng((self.scene.seed, 3))
        # One texel per pixel straight below, so that the ground is as sharp as the camera.
        texel = self.scene.mount.height / self.camera.fy
        size = 512 if max(width, height) <= 512 else 1024
        self._ground = make_ground(rng, self.scene.soil, self.scene.light, size, texel)

    def render(self, index: int) -> SimulatedFrame:
        """The frame at time `index / rate_hz` of the drive."""
        time_s = index / self.rate_hz
        pose = pose_at(self.scene.mount, self.scene.seed, time_s, self.speed_m_s)
        origin = pose.position[:2].copy()
        local = Pose(np.array([0, 0, pose.position[2]]), pose.rotation)
        plants = self._plants_near(ground_corners(self.camera, pose))
        linear, labels, depth = self._paint(local, origin, plants)
        image = expose(linear, self.scene.light, self.scene.lens, self.scene.seed, index)
        return SimulatedFrame(
            image, labels, depth, self._rows(pose), self._truth(pose, plants), pose, self.camera,
            round(time_s * 1e9), index,
        )  # fmt: skip

    def _plants_near(self, corners: NDArray[np.float64]) -> Plants:
        """The plants that may touch the image or throw a shadow into it."""
        library, plan, seed = self._library, self.scene.planting, self.scene.seed
        margin = float(library.radius.max()) * 1.4 + float(library.height.max()) * 0.6
        low, high = corners.min(0) - margin, corners.max(0) + margin
        crop = crop_plants(plan, seed, low, high, library.crops)
        if plan.weed_density <= 0:
            return crop
        return join(crop, weed_plants(plan, seed, low, high, library.crops, library.weeds))

    def _in_view(self, local: Pose, origin: NDArray[np.float64], plants: Plants) -> Plants:
        """Drops plants that are far outside the image."""
        foot = np.zeros((len(plants.yaw), 3))
        foot[:, :2] = plants.position - origin
        seen = project(self.camera, local, foot)
        reach = self._library.radius[plants.variant] + self._library.height[plants.variant]
        size = self.camera.fx * 1.8 * reach * plants.scale / np.maximum(seen[:, 2] * 0.7, 0.1)
        inside = (seen[:, 2] > 0.05) & (size > 1.5)
        inside &= (seen[:, 0] > -size) & (seen[:, 0] < self.camera.width + size)
        inside &= (seen[:, 1] > -size) & (seen[:, 1] < self.camera.height + size)
        return plants.keep(inside)

    def _colours(self, plants: Plants) -> F32:
        """Linear BGR [P, 3] of each plant."""
        plan = self.scene.planting
        mean = np.where((plants.label == 1)[:, None], plan.crop_hsv, plan.weed_hsv)
        hsv = np.asarray(mean, np.float32)
        kinds = np.maximum(plants.variant - self._library.crops, 0) // 4
        weed = (plants.label == 2).astype(np.float32)
        spread = plants.dice * 2 - 1
        hsv[:, 0] += 5 * spread + weed * (kinds % 3 - 1) * 9
        hsv[:, 1] *= 1 + 0.08 * np.sin(40 * plants.dice) + weed * 0.12 * (kinds % 2)
        hsv[:, 2] *= 1 + 0.08 * np.cos(70 * plants.dice)
        hsv[:, 1:] = np.clip(hsv[:, 1:], 0.08, 0.9)
        return np.asarray(hsv_to_linear(hsv) * np.float32(_LEAF_VALUE), np.float32)

    def _paint(
        self, local: Pose, origin: NDArray[np.float64], plants: Plants
    ) -> tuple[F32, NDArray[np.uint8], F32]:
        """Linear image [H, W, 3], labels [H, W] and depth [H, W]."""
        camera, light = self.camera, self.scene.light
        homography = ground_homography(camera, local)
        ground = view_ground(self._ground, homography, origin, camera.width, camera.height)
        ys, xs = np.mgrid[: camera.height, : camera.width].astype(np.float32)
        back = np.linalg.inv(homography).astype(np.float32)
        # A ground point's homogeneous weight is 1 / depth.
        depth = 1 / (back[2, 0] * xs + back[2, 1] * ys + back[2, 2])
        ground_depth = depth * (
            1 - ground[..., 3] * np.float32(RELIEF_RANGE / 255 / local.position[2])
        )
        plants = self._in_view(local, origin, plants)
        quads = stamp(self._library, plants, origin, self._colours(plants))
        shadow, cover = self._shadows(local, homography, quads)
        lit = self._ground_light(shadow, cover, back, xs, ys, depth, origin)
        linear = TO_LINEAR[ground[..., :3]] * lit
        labels = np.zeros((camera.height, camera.width), np.uint8)
        projected = project(camera, local, quads.vertices)
        chosen = np.flatnonzero(visible(projected, camera.width, camera.height))
        if len(chosen):
            quads = _take(quads, chosen)
            self._paint_leaves(
                local, homography, quads, projected[chosen], shadow, linear, labels, ground_depth
            )
        if light.lamp:
            self._lamp(linear, ground_depth, xs, ys)
        return linear, labels, ground_depth

    def _paint_leaves(
        self, local: Pose, homography: NDArray[np.float64], quads: Quads, projected: F32,
        shadow: F32, linear: F32, labels: NDArray[np.uint8], depth: F32,
    ) -> None:  # fmt: skip
        """Draws foliage over `linear`, `labels` and `depth`, in place."""
        camera, light = self.camera, self.scene.light
        diffuse, shine = corner_light(quads, light, local.position.astype(np.float32))
        corner = np.concatenate(
            [projected[..., 2:], quads.uv, diffuse[..., None], shine[..., None]], -1
        )
        plane = planes(projected, corner)
        seen = draw(projected, camera.width, camera.height)
        fit = plane[seen.quad]
        values = fit[:, 0] + fit[:, 1] * seen.dx[:, None] + fit[:, 2] * seen.dy[:, None]
        nearest, farthest = projected[..., 2].min(1), projected[..., 2].max(1)
        z = np.clip(values[:, 0], nearest[seen.quad], farthest[seen.quad])
        dark = self._leaf_shadow(local, homography, seen.pixel, z, shadow)
        colour, solid = leaf_colour(quads, seen, values, self._library.atlas, dark, light)
        alpha = (seen.coverage * solid)[:, None]
        flat = linear.reshape(-1, 3)
        flat[seen.pixel] += alpha * (colour - flat[seen.pixel])
        most = solid & (seen.coverage >= 0.5)
        labels.reshape(-1)[seen.pixel[most]] = quads.label[seen.quad[most]]
        depth.reshape(-1)[seen.pixel[most]] = z[most]

    def _shadow_points(self, points: F32, eye_height: float) -> F32:
        """Where the shadows of `points` [..., 3] fall on the ground: [..., 2], metres."""
        light = self.scene.light
        lx, ly, lz = light.direction
        z = points[..., 2:]
        if light.lamp:
            lamp = np.array([lx, ly], np.float32)
            height = np.float32(eye_height + lz)
            share = z / np.maximum(height - z, 0.05)
            return np.asarray(points[..., :2] + (points[..., :2] - lamp) * share, np.float32)
        return np.asarray(
            points[..., :2] - z * np.array([lx / lz, ly / lz], np.float32), np.float32
        )

    def _shadows(
        self, local: Pose, homography: NDArray[np.float64], quads: Quads
    ) -> tuple[F32, F32]:
        """Heights of the leaves that shade the ground [H, W], and soft shade [H, W] 0 to 1."""
        camera = self.camera
        h = homography.astype(np.float32)
        ground = self._shadow_points(quads.vertices, float(local.position[2]))
        flat = ground @ h[:, :2].T + h[:, 2]
        # Behind the camera counts as outside.
        depth = np.where(flat[..., 2:] > 0.05, flat[..., 2:], np.float32(np.nan))
        corners = flat[..., :2] / depth
        heights = quads.vertices[..., 2].mean(1)
        shadow = heights_from_light(corners, heights, camera.width, camera.height)
        cover = (shadow > 0.004).astype(np.float32)
        small = cv2.resize(cover, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(small, (0, 0), camera.height / 480 * 3.5)
        return shadow, cv2.resize(soft, (camera.width, camera.height)).astype(np.float32)

    def _leaf_shadow(
        self,
        local: Pose,
        homography: NDArray[np.float64],
        pixel: NDArray[np.int64],
        z: F32,
        shadow: F32,
    ) -> F32:
        """How far each leaf pixel lies in the shadow of a leaf nearer to the light: [M], 0 to 1."""
        camera = self.camera
        x = ((pixel % camera.width) - np.float32(camera.cx)) / np.float32(camera.fx) * z
        y = ((pixel // camera.width) - np.float32(camera.cy)) / np.float32(camera.fy) * z
        points = np.stack([x, y, z], 1).astype(np.float32) @ local.rotation.T.astype(np.float32)
        points[:, 2] += np.float32(local.position[2])
        h = homography.astype(np.float32)
        flat = self._shadow_points(points, float(local.position[2])) @ h[:, :2].T + h[:, 2]
        away = np.maximum(flat[:, 2], 0.05)
        column = np.clip(flat[:, 0] / away + 0.5, 0, camera.width - 1).astype(np.int64)
        row = np.clip(flat[:, 1] / away + 0.5, 0, camera.height - 1).astype(np.int64)
        above = shadow[row, column] - points[:, 2]
        return np.asarray(np.clip((above - 0.012) / 0.02, 0, 1), np.float32)

    def _ground_light(
        self,
        shadow: F32,
        cover: F32,
        back: F32,
        xs: F32,
        ys: F32,
        depth: F32,
        origin: NDArray[np.float64],
    ) -> F32:
        """Light on the ground, linear BGR [H, W, 3]."""
        light = self.scene.light
        dark = cv2.GaussianBlur((shadow > 0.004).astype(np.float32), (0, 0), light.penumbra)
        if light.shade:
            x = (back[0, 0] * xs + back[0, 1] * ys + back[0, 2]) * depth + np.float32(
                origin[0] % 1000
            )
            y = (back[1, 0] * xs + back[1, 1] * ys + back[1, 2]) * depth + np.float32(origin[1])
            big = lattice_noise(self.scene.seed + 9, x, y, 0.9)
            dark = np.maximum(dark, np.clip((big - 0.5) * 60, 0, 1))
        vertical = light.direction[2] if not light.lamp else 0.95
        direct = (1 - dark) * np.float32(vertical)
        sky = 1 - np.float32(0.75) * cover
        lit = direct[..., None] * np.asarray(light.direct, np.float32)
        lit += sky[..., None] * np.asarray(light.ambient, np.float32)
        return np.asarray(lit, np.float32)

    def _lamp(self, linear: F32, depth: F32, xs: F32, ys: F32) -> None:
        """A lamp's cone and its fall-off with distance, in place."""
        camera, light = self.camera, self.scene.light
        tilt = light.direction[1] * 0.3
        x = (xs - camera.cx) / camera.width - np.float32(tilt)
        y = (ys - camera.cy) / camera.width
        cone = 1 / (1 + (3.2 * (x * x + y * y)) ** 2 * 4)
        fall = np.square(np.float32(self.scene.mount.height) / np.maximum(depth, 0.1))
        linear *= (cone * fall)[..., None]

    def _rows(self, pose: Pose) -> tuple[RowLine, ...]:
        """The crop rows in the image."""
        spacing = self.scene.planting.row_spacing
        corners = ground_corners(self.camera, pose)
        low, high = corners.min(0), corners.max(0)
        rows = []
        for number in range(int(np.floor(low[1] / spacing)), int(np.ceil(high[1] / spacing)) + 1):
            line = np.zeros((200, 3))
            line[:, 0] = np.linspace(low[0], high[0], 200)
            line[:, 1] = number * spacing
            seen = project(self.camera, pose, line)
            inside = _inside(self.camera, seen)
            if inside.sum() >= 2:
                ends = np.flatnonzero(inside)[[0, -1]]
                rows.append(RowLine(number * spacing, seen[ends, :2]))
        return tuple(rows)

    def _truth(self, pose: Pose, plants: Plants) -> PlantTruth:
        world = np.zeros((len(plants.yaw), 3))
        world[:, :2] = plants.position
        seen = project(self.camera, pose, world)
        inside = _inside(self.camera, seen)
        return PlantTruth(world[inside], seen[inside, :2], plants.label[inside])


def _inside(camera: Intrinsics, seen: F32) -> NDArray[np.bool_]:
    x, y, z = seen[..., 0], seen[..., 1], seen[..., 2]
    inside = (z > 0) & (x >= -0.5) & (x < camera.width - 0.5)
    return np.asarray(inside & (y >= -0.5) & (y < camera.height - 0.5), np.bool_)


def _take(quads: Quads, chosen: NDArray[np.int64]) -> Quads:
    return Quads(
        quads.vertices[chosen], quads.normals[chosen], quads.uv[chosen], quads.texture[chosen],
        quads.tint[chosen], quads.gloss[chosen], quads.label[chosen], quads.plant[chosen],
        quads.low[chosen],
    )  # fmt: skip


def random_scene(rng: np.random.Generator, width: int = 640, height: int = 480) -> FieldSimulator:
    """A simulator with everything at random, far wider than any one field: for training."""
    seed = int(rng.integers(2**31))
    return FieldSimulator(width=width, height=height, scene=training_scene(rng, seed))


def sample_frame(seed: int, width: int = 640, height: int = 480) -> SimulatedFrame:
    """One frame of a random scene: for training."""
    return random_scene(np.random.default_rng((seed, 4)), width, height).render(0)
