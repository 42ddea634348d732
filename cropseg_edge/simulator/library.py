"""The plants of one simulator: every mesh variant in flat arrays, ready to be stamped out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator import crops, weeds
from cropseg_edge.simulator.growth import Grower
from cropseg_edge.simulator.leaf_textures import atlas
from cropseg_edge.simulator.mesh import Mesh, coarser_mesh, without_thin
from cropseg_edge.simulator.planting import Plants
from cropseg_edge.simulator.raster import mean4
from cropseg_edge.simulator.rng import F32
from cropseg_edge.simulator.scene import Scene

TEXTURES_PER_KIND = 4
DETAIL = (1, 2, 3, 6)  # quadrilaterals of a strip that become one, at each level of detail
_DETAIL_PIXELS = (150.0, 70.0, 35.0)  # plants that look smaller use the next level
CROP_VARIANTS = 6
VARIANTS_PER_WEED = 3
BUILDERS = crops.BUILDERS | weeds.BUILDERS
AS_CROP = 2.5  # size of a weed's plants where they are the crop
AS_WEED = 0.3  # and of a crop's where they are volunteers


@dataclass(frozen=True, slots=True)
class Quads:
    """Quadrilaterals in the local world, back to front not yet sorted; see `Mesh` for shapes.

    Attributes:
        vertices, normals, uv, texture, tint, gloss: as in `Mesh`, tint being the linear BGR colour.
        label: uint8 [N]; 1 crop or 2 weed.
        plant: int64 [N], index into the plants.
        low: float32 [N], 0 at the plant's foot to 1 at its top.
    """

    vertices: F32
    normals: F32
    uv: F32
    texture: NDArray[np.int32]
    tint: F32
    gloss: F32
    label: NDArray[np.uint8]
    plant: NDArray[np.int64]
    low: F32

    def take(self, chosen: NDArray[np.int64]) -> "Quads":
        """The quadrilaterals at the indices `chosen`."""
        return Quads(
            self.vertices[chosen],
            self.normals[chosen],
            self.uv[chosen],
            self.texture[chosen],
            self.tint[chosen],
            self.gloss[chosen],
            self.label[chosen],
            self.plant[chosen],
            self.low[chosen],
        )


@dataclass(frozen=True, slots=True)
class Library:
    """All mesh variants, one after the other.

    Attributes:
        pool: every variant's quadrilaterals joined.
        start, count: int64 [LODS, V], where a variant lies in the pool at each level of detail.
        radius, height: float32 [V], extent in metres.
        atlas: float32 [K, ROWS, COLUMNS, 4] leaf textures.
        crops: number of crop variants; the weeds follow.
    """

    pool: Mesh
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    radius: F32
    height: F32
    atlas: F32
    crops: int

    @property
    def weeds(self) -> int:
        """Number of weed variants."""
        return len(self.radius) - self.crops


def _scaled(mesh: Mesh, factor: float) -> Mesh:
    return Mesh(
        mesh.vertices * np.float32(factor),
        mesh.normals,
        mesh.uv,
        mesh.texture,
        mesh.tint,
        mesh.gloss,
    )


def _simplified(mesh: Mesh, level: int) -> Mesh:
    """The plant at a level of detail; the last one leaves out what is thinner than a pixel."""
    if level == 0:
        return mesh
    coarse = coarser_mesh(mesh, DETAIL[level])
    if level < len(DETAIL) - 1:
        return coarse
    reach = float(np.abs(mesh.vertices[..., :2]).max())
    return without_thin(coarse, 0.05 * reach)


def grow_library(scene: Scene) -> Library:
    """Grows the crop's and the weeds' variants of a scene."""
    rng = np.random.default_rng((scene.seed, 2))
    textures = atlas(rng, TEXTURES_PER_KIND)
    plan = scene.planting
    meshes: list[Mesh] = []
    wanted: list[tuple[str, bool]] = [(scene.species, True)] * CROP_VARIANTS
    for kind in plan.weed_kinds:
        wanted += [(kind, False)] * VARIANTS_PER_WEED
    looks: dict[str, tuple[int, float, tuple[float, float, float]]] = {}
    for name, crop in wanted:
        if name not in looks:
            red = rng.uniform(0.7, 2.2)
            pale = rng.uniform(0.8, 1.6)
            stem = (float(pale * rng.uniform(0.8, 1.3)), float(pale), float(pale * red))
            looks[name] = (int(rng.integers(8)), float(rng.uniform(0.05, 0.6)), stem)
        texture, gloss, stem = looks[name]
        stage = plan.growth if crop else plan.weed_growth
        stage = float(np.clip(stage + rng.uniform(-0.12, 0.12), 0, 1))
        grower = Grower(rng, stage, TEXTURES_PER_KIND, texture, gloss, stem)
        size = 1.0 if crop else plan.weed_scale
        if crop != (name in crops.BUILDERS):
            size *= AS_CROP if crop else AS_WEED
        meshes.append(_scaled(BUILDERS[name](grower), size))
    levels = [_simplified(m, level) for level in range(len(DETAIL)) for m in meshes]
    count = np.array([len(m.vertices) for m in levels], np.int64)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    radius = [float(np.linalg.norm(m.vertices[..., :2], axis=-1).max()) for m in meshes]
    height = [float(m.vertices[..., 2].max()) for m in meshes]
    return Library(
        Mesh.join(levels),
        start.reshape(len(DETAIL), -1),
        count.reshape(len(DETAIL), -1),
        np.array(radius, np.float32),
        np.array(height, np.float32),
        textures,
        CROP_VARIANTS,
    )


def stamp(
    library: Library,
    plants: Plants,
    origin: NDArray[np.float64],
    colour: F32,
    pixels: F32,
    budget: int,
) -> Quads:
    """The quadrilaterals of all `plants`, in metres relative to the ground point `origin` [2].

    Args:
        library: the meshes.
        plants: which, where, how large.
        origin: world position that becomes the local origin.
        colour: float32 [P, 3], linear BGR of each plant's leaves.
        pixels: float32 [P], about how wide each plant looks; settles the level of detail.
        budget: quadrilaterals beyond which plants are drawn coarser.
    """
    for stretch in (1.0, 1.5, 2.2, 3.3):
        level = sum((pixels < stretch * limit).astype(np.int64) for limit in _DETAIL_PIXELS)
        counts = library.count[level, plants.variant]
        if counts.sum() <= budget:
            break
    plant = np.repeat(np.arange(len(counts)), counts)
    skipped = library.start[level, plants.variant] - (np.cumsum(counts) - counts)
    index = np.arange(len(plant)) + skipped[plant]
    cos = (np.cos(plants.yaw))[plant, None]
    sin = (np.sin(plants.yaw))[plant, None]
    scale = plants.scale[plant, None]
    offset = (plants.position - origin).astype(np.float32)[plant, None]
    pool = library.pool
    vertices, normals = pool.vertices[index], pool.normals[index]
    x, y = vertices[..., 0] * scale, vertices[..., 1] * scale
    vertices[..., 0] = cos * x - sin * y + offset[..., 0]
    vertices[..., 1] = sin * x + cos * y + offset[..., 1]
    vertices[..., 2] = np.maximum(vertices[..., 2] * scale, np.float32(0.001))
    x, y = normals[..., 0].copy(), normals[..., 1]
    normals[..., 0], normals[..., 1] = cos * x - sin * y, sin * x + cos * y
    top = library.height[plants.variant] * plants.scale + np.float32(0.01)
    return Quads(
        vertices,
        normals,
        pool.uv[index],
        pool.texture[index],
        pool.tint[index] * colour[plant],
        pool.gloss[index],
        plants.label[plant],
        plant,
        mean4(vertices[..., 2]) / top[plant],
    )
