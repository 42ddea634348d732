"""Leaves and stems as strips of quadrilaterals, and plants as bags of strips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.rng import F32


@dataclass(frozen=True, slots=True)
class Mesh:
    """Quadrilaterals of one plant, in metres, with its foot at the origin and z up.

    Attributes:
        vertices: float32 [Q, 4, 3]; corners in the order left, right, next right, next left.
        normals: float32 [Q, 4, 3], unit length, of the leaf's upper side.
        uv: float32 [Q, 4, 2]; u -1 to 1 across the leaf, t 0 to 1 along it.
        texture: int32 [Q], row of the leaf texture atlas.
        tint: float32 [Q, 3], factor on the plant's linear BGR colour.
        gloss: float32 [Q], strength of the specular reflection.
    """

    vertices: F32
    normals: F32
    uv: F32
    texture: NDArray[np.int32]
    tint: F32
    gloss: F32

    @staticmethod
    def join(parts: "list[Mesh]") -> "Mesh":
        """One mesh of all `parts` (at least one)."""
        return Mesh(
            np.concatenate([p.vertices for p in parts]),
            np.concatenate([p.normals for p in parts]),
            np.concatenate([p.uv for p in parts]),
            np.concatenate([p.texture for p in parts]),
            np.concatenate([p.tint for p in parts]),
            np.concatenate([p.gloss for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class LeafShape:
    """The outline of a leaf blade: half width over the length is t^base (1-t)^tip, with lobes.

    Attributes:
        length, width: full extents in metres.
        base, tip: exponents; 0.5 and 0.5 make an ellipse, a small `tip` a blunt end.
        lobes: number of lobes a side, 0 for none.
        lobe_depth: 0 to 1, how far the lobes cut towards the midrib.
        waves: relative amplitude of a wavy margin.
        segments: quadrilaterals along the length.
    """

    length: float
    width: float
    base: float = 0.5
    tip: float = 0.7
    lobes: int = 0
    lobe_depth: float = 0.0
    waves: float = 0.0
    segments: int = 7


@dataclass(frozen=True, slots=True)
class LeafPose:
    """Where a blade starts and how it runs: angles in radians, `foot` [3] in metres.

    Attributes:
        foot: start of the blade.
        azimuth: heading of the midrib around z.
        elevation: of the midrib at its start, above the horizon.
        droop: how far the elevation falls towards the tip.
        roll: turn of the blade about its midrib; `twist` is what is added towards the tip.
        bend: sideways change of the heading towards the tip.
    """

    foot: F32
    azimuth: float
    elevation: float
    droop: float = 0.6
    roll: float = 0.0
    twist: float = 0.0
    bend: float = 0.0


@dataclass(frozen=True, slots=True)
class LeafLook:
    """Atlas row, tint (factor on the plant's linear BGR colour) and gloss of a strip."""

    texture: int
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gloss: float = 0.3


def half_width(rng: np.random.Generator, shape: LeafShape, t: F32) -> tuple[F32, F32]:
    """Left and right half widths in metres at the positions `t` (0 to 1)."""
    a, b = shape.base, shape.tip
    peak = (a / (a + b)) ** a * (b / (a + b)) ** b
    outline = t**a * (1 - t) ** b / peak
    sides = []
    for _ in range(2):
        side = outline
        if shape.lobes:
            phase = rng.uniform(-0.15, 0.15)
            wave = np.abs(np.sin(np.pi * (shape.lobes * t**0.9 + phase)))
            side = side * (1 - shape.lobe_depth * (1 - wave))
        if shape.waves:
            ripple = np.sin(2 * np.pi * (rng.uniform(2, 4) * t + rng.random()))
            ripple += 0.6 * np.sin(2 * np.pi * (rng.uniform(5, 8) * t + rng.random()))
            side = side * (1 + shape.waves * ripple)
        sides.append(np.asarray(side * shape.width / 2, np.float32))
    return sides[0], sides[1]


def strip(centre: F32, left: F32, right: F32, normal: F32, t: F32, look: LeafLook) -> Mesh:
    """A strip of quadrilaterals between `left` and `right` [T + 1, 3] offsets from `centre`."""
    a, b = centre + left, centre + right
    vertices = np.stack([a[:-1], b[:-1], b[1:], a[1:]], 1).astype(np.float32)
    normals = np.stack([normal[:-1], normal[:-1], normal[1:], normal[1:]], 1).astype(np.float32)
    count = len(vertices)
    uv = np.empty((count, 4, 2), np.float32)
    uv[..., 0] = (1, -1, -1, 1)
    uv[:, :2, 1] = t[:-1, None]
    uv[:, 2:, 1] = t[1:, None]
    return Mesh(
        vertices,
        normals,
        uv,
        np.full(count, look.texture, np.int32),
        np.tile(np.asarray(look.tint, np.float32), (count, 1)),
        np.full(count, look.gloss, np.float32),
    )


def leaf(rng: np.random.Generator, shape: LeafShape, pose: LeafPose, look: LeafLook) -> Mesh:
    """A blade that starts at `pose.foot`, arches and twists, with the outline of `shape`."""
    n = shape.segments
    t = np.linspace(0, 1, n + 1, dtype=np.float32)
    mid = (t[:-1] + t[1:]) / 2
    elevation = pose.elevation - pose.droop * mid**1.3
    azimuth = pose.azimuth + pose.bend * mid
    step = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        1,
    ) * (shape.length / n)
    centre = np.concatenate([pose.foot[None], pose.foot + np.cumsum(step, 0)])
    heading, rise = pose.azimuth + pose.bend * t, pose.elevation - pose.droop * t**1.3
    zero = np.zeros_like(t)
    across: F32 = np.stack([-np.sin(heading), np.cos(heading), zero], 1)
    up = np.stack(
        [-np.sin(rise) * np.cos(heading), -np.sin(rise) * np.sin(heading), np.cos(rise)], 1
    )
    roll = (pose.roll + pose.twist * t)[:, None]
    lateral = np.cos(roll) * across + np.sin(roll) * up
    normal = np.cos(roll) * up - np.sin(roll) * across
    # A little width at the ends keeps the outline round instead of pinched to a point.
    left, right = half_width(rng, shape, np.clip(t, 0.03, 0.985))
    return strip(centre, lateral * left[:, None], -lateral * right[:, None], normal, t, look)


def stalk(start: F32, end: F32, width: float, look: LeafLook, crossed: bool = False) -> Mesh:
    """A straight stem or petiole from `start` to `end` [3]; two crossed strips if `crossed`."""
    t = np.array([0, 1], np.float32)
    axis = end - start
    length = float(np.linalg.norm(axis)) + 1e-9
    sideways = np.cross(axis, [0, 0, 1.0])
    if np.linalg.norm(sideways) < 1e-3 * length:
        sideways = np.array([0.0, 1.0, 0.0])
    sideways = (sideways / np.linalg.norm(sideways) * width / 2).astype(np.float32)
    centre = start + t[:, None] * axis
    up = np.cross(sideways, axis)
    up = np.tile((up / (np.linalg.norm(up) + 1e-12)).astype(np.float32), (2, 1))
    up *= np.float32(1 if up[0, 2] >= 0 else -1)
    half = np.tile(sideways, (2, 1))
    part = strip(centre, half, -half, up, t, look)
    if not crossed:
        return part
    other = up * np.float32(width / 2)
    return Mesh.join([part, strip(centre, other, -other, half / np.float32(width / 2), t, look)])


def coarse_groups(uv: F32, divisor: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last quadrilateral of each run that becomes one when strips are coarsened.

    Args:
        uv: float32 [Q, 4, 2] of strips one after the other; a strip starts where t is 0.
        divisor: quadrilaterals that become one; a strip keeps at least one.
    """
    index = np.arange(len(uv))
    start = np.where(uv[:, 0, 1] == 0, index, 0)
    place = index - np.maximum.accumulate(start)
    first = np.flatnonzero(place % divisor == 0)
    return first, np.append(first[1:], len(uv)) - 1


def spans(vertices: F32) -> tuple[F32, F32]:
    """Mean width and length of quadrilaterals [Q, 4, 3]."""
    near, far = vertices[:, 0] - vertices[:, 1], vertices[:, 3] - vertices[:, 2]
    along = vertices[:, 2] + vertices[:, 3] - vertices[:, 0] - vertices[:, 1]
    width = np.sqrt((near * near).sum(1)) + np.sqrt((far * far).sum(1))
    return width * np.float32(0.5), np.sqrt((along * along).sum(1)) * np.float32(0.5)


def coarser(vertices: F32, uv: F32, divisor: int) -> F32:
    """Vertices [Q', 4, 3] of the strips with `divisor` quadrilaterals joined to one.

    Each strip is widened to the area that it had: a leaf drawn from its pointed base to its
    pointed tip would be a sliver otherwise.
    """
    first, last = coarse_groups(uv, divisor)
    joined = np.concatenate([vertices[first, :2], vertices[last, 2:]], 1)
    width, length = spans(vertices)
    starts = np.flatnonzero(uv[:, 0, 1] == 0)
    area = np.add.reduceat(width * length, starts)
    width, length = spans(joined)
    joined_starts = np.searchsorted(first, starts)
    rest = np.add.reduceat(width * length, joined_starts) + np.float32(1e-9)
    counts = np.diff(np.append(joined_starts, len(first)))
    grow = np.repeat(np.clip(area / rest, 1, 5) * np.float32(0.5), counts)[:, None]
    for left, right in ((0, 1), (3, 2)):
        middle = (joined[:, left] + joined[:, right]) * np.float32(0.5)
        half = (joined[:, left] - joined[:, right]) * grow
        joined[:, left], joined[:, right] = middle + half, middle - half
    return joined


def coarser_mesh(mesh: Mesh, divisor: int) -> Mesh:
    """The same plant with fewer quadrilaterals, for a distant view."""
    first, last = coarse_groups(mesh.uv, divisor)
    return Mesh(
        coarser(mesh.vertices, mesh.uv, divisor),
        np.concatenate([mesh.normals[first, :2], mesh.normals[last, 2:]], 1),
        np.concatenate([mesh.uv[first, :2], mesh.uv[last, 2:]], 1),
        mesh.texture[first],
        mesh.tint[first],
        mesh.gloss[first],
    )


def without_thin(mesh: Mesh, width: float) -> Mesh:
    """The plant without quadrilaterals narrower than `width` metres, unless all of them are."""
    kept = spans(mesh.vertices)[0] >= width
    if not kept.any():
        return mesh
    return Mesh(
        mesh.vertices[kept],
        mesh.normals[kept],
        mesh.uv[kept],
        mesh.texture[kept],
        mesh.tint[kept],
        mesh.gloss[kept],
    )
