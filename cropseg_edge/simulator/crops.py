"""The crop species: each builder grows one plant as a mesh, in metres."""

from collections.abc import Callable

import numpy as np

from cropseg_edge.simulator.growth import GOLDEN_ANGLE, Grower, point, towards
from cropseg_edge.simulator.mesh import LeafPose, LeafShape, Mesh


def maize(g: Grower) -> Mesh:
    """Two opposite ranks of long arching blades on an upright stem."""
    count = 3 + round(5 * g.growth)
    stem = g.grown(0.015, 0.28)
    plane = g.angle()
    parts = [g.stem(point(0, 0, 0), point(0, 0, stem), g.grown(0.004, 0.018), crossed=True)]
    for i in range(count):
        age = 1 - i / count
        size = (0.55 + 0.45 * np.sin(np.pi * (i + 1) / (count + 0.6))) * g.near(1)
        shape = LeafShape(
            g.grown(0.07, 0.5) * size,
            g.grown(0.014, 0.058) * size,
            0.28,
            0.75,
            waves=0.04,
            segments=9,
        )
        pose = LeafPose(
            point(0, 0, stem * (0.25 + 0.75 * i / count)),
            plane + np.pi * i + float(g.rng.normal(0, 0.35)),
            g.near(0.75 + 0.5 * (1 - age), 0.25),
            g.near(1.1 + 0.7 * age, 0.4),
            float(g.rng.normal(0, 0.2)),
            float(g.rng.normal(0, 0.7)),
            float(g.rng.normal(0, 0.4)),
        )
        parts.append(g.blade(shape, pose, "blade", age))
    return Mesh.join(parts)


def beet(g: Grower) -> Mesh:
    """A rosette of glossy wavy blades on long petioles."""
    count = 2 + round(12 * g.growth)
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        size = (0.6 + 0.4 * np.sin(np.pi * (i + 1) / (count + 1))) * g.near(1)
        shape = LeafShape(
            g.grown(0.025, 0.17) * size,
            g.grown(0.012, 0.095) * size,
            0.5,
            0.55,
            waves=0.02 + 0.05 * g.growth,
            segments=9,
        )
        parts += g.petioled(
            point(0, 0, 0.005), start + GOLDEN_ANGLE * i + float(g.rng.normal(0, 0.2)),
            g.near(0.35 + 0.75 * (1 - age), 0.3), g.grown(0.012, 0.12) * size, shape,
            age=age, droop=0.6 + 0.5 * age, stem_width=g.grown(0.002, 0.009),
        )  # fmt: skip
    return Mesh.join(parts)


def cereal(g: Grower) -> Mesh:
    """A few tillers of very thin blades."""
    parts: list[Mesh] = []
    for tiller in range(1 + round(4 * g.growth)):
        foot = (g.rng.normal(0, 0.004, 3) * (tiller > 0, tiller > 0, 0)).astype(np.float32)
        plane = g.angle()
        leaves = 2 + round(1.6 * g.growth)
        height = g.grown(0.01, 0.09)
        for i in range(leaves):
            shape = LeafShape(
                g.grown(0.05, 0.2) * g.near(1, 0.3), g.grown(0.0025, 0.008), 0.15, 0.6, segments=7
            )
            pose = LeafPose(
                foot + point(0, 0, height * i / leaves),
                plane + np.pi * i + float(g.rng.normal(0, 0.6)),
                g.near(1.0, 0.35), g.near(1.2, 0.7), float(g.rng.normal(0, 0.4)),
                float(g.rng.normal(0, 1.2)), float(g.rng.normal(0, 0.5)),
            )  # fmt: skip
            parts.append(g.blade(shape, pose, "blade", 1 - i / leaves))
    return Mesh.join(parts)


def soybean(g: Grower) -> Mesh:
    """Cotyledons, then leaves of three broad leaflets on long petioles up a stem."""
    nodes = 1 + round(6 * g.growth)
    height = g.grown(0.03, 0.3)
    lean = towards(point(0, 0, 0), g.angle(), 1.35, height)
    parts = [g.stem(point(0, 0, 0), lean, 0.003, crossed=True)]
    start = g.angle()
    first = LeafShape(g.grown(0.02, 0.045), g.grown(0.014, 0.032), 0.45, 0.6)
    for side in range(2):
        parts += g.petioled(lean * 0.3, start + np.pi * side, 0.4, 0.012, first, age=0.9)
    for i in range(nodes):
        age = 1 - (i + 1) / (nodes + 1)
        size = (0.55 + 0.45 * np.sin(np.pi * (i + 1) / (nodes + 1))) * g.near(1)
        length = g.grown(0.022, 0.085) * size
        shape = LeafShape(length, length * g.near(0.66, 0.15), 0.5, 0.72, segments=8)
        parts += g.compound(
            lean * np.float32((i + 1) / nodes), start + 2.7 * i + float(g.rng.normal(0, 0.3)),
            g.near(0.6 + 0.5 * (1 - age), 0.3), g.grown(0.015, 0.11) * size,
            [(0.0, 0.0), (0.012, 1.35), (0.012, -1.35)], shape, age=age,
        )  # fmt: skip
    return Mesh.join(parts)


def peanut(g: Grower) -> Mesh:
    """Leaves of four rounded leaflets around a low crown."""
    count = 3 + round(11 * g.growth)
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        size = g.near(0.65 + 0.35 * np.sin(np.pi * (i + 1) / (count + 1)), 0.2)
        length = g.grown(0.014, 0.05) * size
        shape = LeafShape(length, length * g.near(0.58, 0.12), 0.75, 0.42, segments=8)
        wide = g.near(0.75, 0.2)
        parts += g.compound(
            point(0, 0, 0.01), start + GOLDEN_ANGLE * i, g.near(0.4 + 0.6 * (1 - age), 0.4),
            g.grown(0.02, 0.12) * size,
            [(0.0, wide), (0.0, -wide), (length * 0.75, wide + 0.5), (length * 0.75, -wide - 0.5)],
            shape, age=age,
        )  # fmt: skip
    return Mesh.join(parts)


def cauliflower(g: Grower) -> Mesh:
    """A few large bluish oblong leaves with a pale midrib."""
    count = 3 + round(7 * g.growth)
    start = g.angle()
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        size = (0.45 + 0.55 * age) * g.near(1, 0.2)
        shape = LeafShape(
            g.grown(0.05, 0.26) * size, g.grown(0.03, 0.13) * size, g.near(0.62, 0.2), 0.42,
            waves=0.06, segments=10,
        )  # fmt: skip
        parts += g.petioled(
            point(0, 0, 0.012), start + GOLDEN_ANGLE * i + float(g.rng.normal(0, 0.2)),
            g.near(0.45 + 0.55 * (1 - age), 0.3), g.grown(0.015, 0.06) * size, shape,
            age=age, droop=0.7, stem_width=g.grown(0.003, 0.01),
        )  # fmt: skip
    return Mesh.join(parts)


def carrot(g: Grower) -> Mesh:
    """Leaves cut into lobed leaflets, in a loose tuft."""
    count = 3 + round(7 * g.growth)
    start = g.angle()
    narrow = float(g.rng.uniform(0.45, 1.0))
    parts: list[Mesh] = []
    for i in range(count):
        age = 1 - i / count
        size = g.near(0.7 + 0.3 * np.sin(np.pi * (i + 1) / (count + 1)), 0.2)
        length = g.grown(0.015, 0.045) * size
        shape = LeafShape(length, length * narrow, 0.55, 0.5, 3, 0.55, segments=12)
        pairs = 1 + round(2 * g.growth)
        spots = [(0.0, 0.0)]
        for pair in range(pairs):
            back = length * (0.3 + 0.9 * pair)
            spots += [(back, 1.1), (back, -1.1)]
        parts += g.compound(
            point(0, 0, 0.005), start + GOLDEN_ANGLE * i, g.near(0.5 + 0.6 * (1 - age), 0.3),
            g.grown(0.03, 0.17) * size, spots, shape, age=age, kind="palmate",
        )  # fmt: skip
    return Mesh.join(parts)


BUILDERS: dict[str, Callable[[Grower], Mesh]] = {
    "maize": maize,
    "beet": beet,
    "cereal": cereal,
    "soybean": soybean,
    "peanut": peanut,
    "cauliflower": cauliflower,
    "carrot": carrot,
}
