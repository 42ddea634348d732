"""FieldSimulator: a seeded drive over an endless crop field, frame by frame."""

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator.camera import (
    Intrinsics,
    Pose,
    ground_corners,
    intrinsics,
    pose_at,
    project,
)
from cropseg_edge.simulator.frame import PlantTruth, RowLine, SimulatedFrame
from cropseg_edge.simulator.library import VARIANTS_PER_WEED, grow_library, stamp
from cropseg_edge.simulator.paint import paint
from cropseg_edge.simulator.planting import Plants, crop_plants, join, weed_plants
from cropseg_edge.simulator.presets import named_scene, sample_scene, training_scene
from cropseg_edge.simulator.rng import F32
from cropseg_edge.simulator.scene import Scene
from cropseg_edge.simulator.shading import expose, hsv_to_linear
from cropseg_edge.simulator.soil import make_ground

_LEAF_VALUE = 0.5  # a leaf in full sun shows as bright as its colour says beside the soil

_TILES = (256, 512, 768, 1536)  # sizes of the ground's tile in pixels


class FieldSimulator:
    """A crop field seen by a moving camera. `render(i)` depends on nothing but the arguments here.

    Args:
        species, condition, camera: names out of SPECIES, CONDITIONS, CAMERAS.
        seed: settles everything else; the same seed gives the same bytes.
        width, height: of the image in pixels, at least 16.
        rate_hz, speed_m_s: frame rate and speed of the drive.
        scene: a complete scene, used instead of the names.
        budget: leaf pieces a frame; beyond it plants are drawn coarser, the distant ones first.

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
        budget: int = 16_000,
    ) -> None:
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ConfigError(f"width and height must be 16 to 8192 pixels; got {width}x{height}")
        if not 0.001 <= rate_hz <= 10_000:
            raise ConfigError(f"rate_hz must be above 0 (0.001 to 10000); got {rate_hz}")
        if not abs(speed_m_s) <= 100:
            raise ConfigError(f"the speed must be -100 to 100 m/s; got {speed_m_s}")
        self.scene = scene or named_scene(species, condition, camera, seed)
        self.camera = intrinsics(self.scene.mount, width, height)
        self.rate_hz, self.speed_m_s = rate_hz, speed_m_s
        self._budget = budget
        self._library = grow_library(self.scene)
        rng = np.random.default_rng((self.scene.seed, 3))
        # One texel per pixel straight below, so that the ground is as sharp as the camera.
        texel = self.scene.mount.height / self.camera.fy
        size = next((s for s in _TILES if s >= 1.2 * max(width, height)), _TILES[-1])
        self._ground = make_ground(rng, self.scene.soil, self.scene.light, size, texel)

    def render(self, index: int) -> SimulatedFrame:
        """The frame at time `index / rate_hz` of the drive."""
        time_s = index / self.rate_hz
        pose = pose_at(self.scene.mount, self.scene.seed, time_s, self.speed_m_s)
        origin = pose.position[:2].copy()
        local = Pose(np.array([0, 0, pose.position[2]]), pose.rotation)
        plants = self._plants_near(ground_corners(self.camera, pose))
        seen, pixels = self._in_view(local, origin, plants)
        quads = stamp(self._library, seen, origin, self._colours(seen), pixels, self._budget)
        canvas = paint(self.scene, self._ground, self._library, self.camera, local, origin, quads)
        image = expose(canvas.linear, self.scene.light, self.scene.lens, self.scene.seed, index)
        return SimulatedFrame(
            image,
            canvas.labels,
            canvas.depth,
            self._rows(pose),
            self._truth(pose, plants),
            pose,
            self.camera,
            round(time_s * 1e9),
            index,
        )

    def _plants_near(self, corners: NDArray[np.float64]) -> Plants:
        """The plants that may touch the image or throw a shadow into it."""
        library, plan, seed = self._library, self.scene.planting, self.scene.seed
        margin = float(library.radius.max()) * 1.4 + float(library.height.max()) * 0.6
        low, high = corners.min(0) - margin, corners.max(0) + margin
        crop = crop_plants(plan, seed, low, high, library.crops)
        if plan.weed_density <= 0:
            return crop
        return join(crop, weed_plants(plan, seed, low, high, library.crops, library.weeds))

    def _in_view(
        self, local: Pose, origin: NDArray[np.float64], plants: Plants
    ) -> tuple[Plants, F32]:
        """The plants that may touch the image, shadows included, and their width in pixels."""
        foot = np.zeros((len(plants.yaw), 3))
        foot[:, :2] = plants.position - origin
        seen = project(self.camera, local, foot)
        radius, height = self._library.radius, self._library.height
        scale = np.float32(self.camera.fx) * plants.scale / np.maximum(seen[:, 2] * 0.8, 0.1)
        radius, height = radius[plants.variant] * scale, height[plants.variant] * scale
        reach = radius + 2 * height
        inside = (seen[:, 2] > 0.05) & (radius > 0.7)
        inside &= (seen[:, 0] > -reach) & (seen[:, 0] < self.camera.width + reach)
        inside &= (seen[:, 1] > -reach) & (seen[:, 1] < self.camera.height + reach)
        return plants.keep(inside), np.asarray(2 * radius[inside], np.float32)

    def _colours(self, plants: Plants) -> F32:
        """Linear BGR [P, 3] of each plant."""
        plan = self.scene.planting
        mean = np.where((plants.label == 1)[:, None], plan.crop_hsv, plan.weed_hsv)
        hsv = np.asarray(mean, np.float32)
        kinds = np.maximum(plants.variant - self._library.crops, 0) // VARIANTS_PER_WEED
        weed = (plants.label == 2).astype(np.float32)
        spread = plants.dice * 2 - 1
        hsv[:, 0] += 5 * spread + weed * (kinds % 3 - 1) * 9
        hsv[:, 1] *= 1 + 0.08 * np.sin(40 * plants.dice) + weed * 0.12 * (kinds % 2)
        hsv[:, 2] *= 1 + 0.08 * np.cos(70 * plants.dice)
        hsv[:, 1:] = np.clip(hsv[:, 1:], 0.08, 0.9)
        return np.asarray(hsv_to_linear(hsv) * np.float32(_LEAF_VALUE), np.float32)

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


def random_scene(rng: np.random.Generator, width: int = 640, height: int = 480) -> FieldSimulator:
    """A simulator with everything at random, far wider than any one field: for training."""
    seed = int(rng.integers(2**31))
    return FieldSimulator(
        width=width, height=height, scene=training_scene(rng, seed), budget=50_000
    )


def sample_frame(seed: int, width: int = 640, height: int = 480) -> SimulatedFrame:
    """One frame of a random scene: for training."""
    return FieldSimulator(
        width=width, height=height, scene=sample_scene(seed), budget=50_000
    ).render(0)
