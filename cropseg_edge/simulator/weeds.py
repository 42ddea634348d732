"""The weeds: each builder grows one plant as a mesh, in metres, about 0.1 m wide when grown."""

from collections.abc import Callable

import numpy as np

from cropseg_edge.simulator.growth import GOLDEN_ANGLE, Grower, point, towards
from cropseg_edge.simulator.mesh import LeafPose, LeafShape, Mesh


def grass(g: Grower) -> Mesh:
    """A tuft of narrow blades."""
    parts: list[Mesh] = []
    for _ in range(2 + round(7 * g.growth)):
        shape = LeafShape(
            g.grown(0.025, 0.13) * g.near(1, 0.4), g.grown(0.0025, 0.007), 0.15, 0.6, segments=5
        )
        pose = LeafPose(
            point(0, 0, 0), g.angle(), g.near(0.8, 0.6), g.near(0.9, 0.7),
            float(g.rng.normal(0, 0.4)), float(g.rng.normal(0, 0.8)), float(g.rng.normal(0, 0.4)),
        )  # fmt: skip
        parts.append(g.blade(shape, pose, "blade", float(g.rng.random())))
    return Mesh.join(parts)


def seedling(g: Grower) -> Mesh:
    """Two cotyledons and a few small ovate leaves."""
    start = g.angle()
    height = g.grown(0.006, 0.03)
    top = point(0, 0, height)
    parts = [g.stem(point(0, 0, 0), top, 0.0015)]
    length = g.grown(0.008, 0.016)
    first = LeafShape(length, length * g.near(0.5, 0.4), 0.5, 0.45, segments=5)
    for side in range(2):
        parts += g.petioled(
            top * 0.7, start + np.pi * side, 0.3, 0.006, first, age=0.8, stem_width=0.001
        )
    length = g.grown(0.008, 0.035)
    shape = LeafShape(length, length * g.near(0.55, 0.3), 0.5, 0.6, segments=6)
    for i in range(round(5 * g.growth)):
        parts += g.petioled(
            top, start + 1.57 + 1.57 * i, g.near(0.5, 0.5), g.grown(0.004, 0.015),
            shape, age=0.3, stem_width=0.001,
        )  # fmt: skip
    return Mesh.join(parts)


def rosette(g: Grower) -> Mesh:
    """Long lobed or spatulate leaves flat on the ground around a centre."""
    count = 4 + round(7 * g.growth)
    lobes = int(g.rng.choice([0, 0, 3, 4, 6]))
    blunt = float(g.rng.uniform(0.25, 0.6))
    narrow = float(g.rng.uniform(0.18, 0.45))
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        length = g.grown(0.02, 0.1) * (0.5 + 0.5 * age)
        shape = LeafShape(
            length, length * narrow, 1.1, blunt, lobes, 0.6, 0.03, 8 if lobes == 0 else 16
        )
        pose = LeafPose(
            point(0, 0, 0.003), start + GOLDEN_ANGLE * i, g.near(0.35 + 0.4 * (1 - age), 0.5),
            g.near(0.5, 0.5), float(g.rng.normal(0, 0.2)), bend=float(g.rng.normal(0, 0.25)),
        )  # fmt: skip
        parts.append(g.blade(shape, pose, "pinnate", age))
    return Mesh.join(parts)


def radish(g: Grower) -> Mesh:
    """Rough lyrate leaves: a large rounded end lobe over small side lobes, in a dense bush."""
    count = 4 + round(8 * g.growth)
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        length = g.grown(0.02, 0.11) * g.near(0.8, 0.25)
        shape = LeafShape(length, length * g.near(0.5, 0.15), 0.95, 0.3, 3, 0.5, 0.05, 14)
        parts += g.petioled(
            point(0, 0, 0.004), start + GOLDEN_ANGLE * i, g.near(0.4 + 0.6 * (1 - age), 0.3),
            length * 0.25, shape, age=age,
        )  # fmt: skip
    return Mesh.join(parts)


def amaranth(g: Grower) -> Mesh:
    """An upright stem with a spiral of stalked ovate leaves."""
    count = 3 + round(10 * g.growth)
    top = towards(point(0, 0, 0), g.angle(), 1.3, g.grown(0.015, 0.16))
    parts = [g.stem(point(0, 0, 0), top, 0.003, crossed=True)]
    start = g.angle()
    pointed = g.near(0.75, 0.25)
    for i in range(count):
        age = 1 - i / count
        length = g.grown(0.014, 0.055) * (0.5 + 0.5 * age) * g.near(1)
        shape = LeafShape(length, length * g.near(0.55, 0.2), 0.5, pointed, segments=7)
        parts += g.petioled(
            top * np.float32((i + 1) / count), start + GOLDEN_ANGLE * i, g.near(0.6, 0.4),
            length * 0.6, shape, age=age, stem_width=0.0015,
        )  # fmt: skip
    return Mesh.join(parts)


def creeper(g: Grower) -> Mesh:
    """Runners on the ground with pairs of small thick leaves."""
    parts: list[Mesh] = []
    length = g.grown(0.006, 0.018)
    shape = LeafShape(length, length * g.near(0.55, 0.3), 0.7, 0.45, segments=5)
    for _ in range(2 + round(3 * g.growth)):
        heading = g.angle()
        foot = point(0, 0, 0.004)
        for node in range(2 + round(4 * g.growth)):
            heading += float(g.rng.normal(0, 0.3))
            end = towards(foot, heading, float(g.rng.normal(0.15, 0.15)), g.grown(0.008, 0.022))
            parts.append(g.stem(foot, end, 0.0016))
            foot = end
            for side in (1, -1):
                pose = LeafPose(
                    foot, heading + side * g.near(1.1, 0.4), g.near(0.3, 0.9), 0.3,
                    float(g.rng.normal(0, 0.3)),
                )  # fmt: skip
                parts.append(g.blade(shape, pose, "pinnate", 1 - node / 6))
    return Mesh.join(parts)


def clover(g: Grower) -> Mesh:
    """Small leaves of three round leaflets on thin stalks."""
    parts: list[Mesh] = []
    length = g.grown(0.006, 0.017)
    shape = LeafShape(length, length * g.near(0.85), 0.7, 0.4, segments=6)
    for _ in range(2 + round(9 * g.growth)):
        parts += g.compound(
            point(0, 0, 0.002), g.angle(), g.near(0.7, 0.5), g.grown(0.015, 0.06),
            [(0.0, 0.0), (0.0, 2.0), (0.0, -2.0)], shape,
            age=float(g.rng.random()), stem_width=0.001,
        )  # fmt: skip
    return Mesh.join(parts)


def thistle(g: Grower) -> Mesh:
    """Finely cut feathery leaves."""
    count = 4 + round(6 * g.growth)
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        length = g.grown(0.02, 0.1) * g.near(0.8, 0.3)
        shape = LeafShape(length, length * g.near(0.5, 0.3), 0.5, 0.6, 5, 0.85, segments=22)
        pose = LeafPose(
            point(0, 0, 0.003), start + GOLDEN_ANGLE * i, g.near(0.6, 0.5), g.near(0.7, 0.5),
            float(g.rng.normal(0, 0.2)),
        )  # fmt: skip
        parts.append(g.blade(shape, pose, "pinnate", 1 - i / count))
    return Mesh.join(parts)


BUILDERS: dict[str, Callable[[Grower], Mesh]] = {
    "grass": grass,
    "seedling": seedling,
    "rosette": rosette,
    "radish": radish,
    "amaranth": amaranth,
    "creeper": creeper,
    "clover": clover,
    "thistle": thistle,
}
