"""What all plant builders share: angles, looks of a plant's parts, and compound leaves."""

from dataclasses import dataclass

import numpy as np

from cropseg_edge.simulator.leaf_textures import KINDS
from cropseg_edge.simulator.mesh import LeafLook, LeafPose, LeafShape, Mesh, leaf, stalk
from cropseg_edge.simulator.rng import F32

GOLDEN_ANGLE = 2.39996


def point(x: float, y: float, z: float) -> F32:
    """float32 [3] in metres."""
    return np.array([x, y, z], np.float32)


def towards(foot: F32, azimuth: float, elevation: float, length: float) -> F32:
    """The point `length` metres from `foot` in the given direction (radians)."""
    flat = np.cos(elevation) * length
    return foot + point(
        float(flat * np.cos(azimuth)),
        float(flat * np.sin(azimuth)),
        float(np.sin(elevation) * length),
    )


@dataclass(slots=True)
class Grower:
    """Random choices for one plant.

    Attributes:
        rng: the source of every choice.
        growth: 0 just emerged, 1 canopy nearly closed.
        rows_per_kind: texture variants per kind in the atlas.
        variant: the texture variant that this plant's species prefers.
        gloss: specular strength of its blades.
        stem_tint: factor on the plant's colour for stems and petioles.
    """

    rng: np.random.Generator
    growth: float
    rows_per_kind: int
    variant: int
    gloss: float
    stem_tint: tuple[float, float, float]

    def near(self, value: float, spread: float = 0.15) -> float:
        """`value` within a relative spread."""
        return value * (1 + spread * float(self.rng.uniform(-1, 1)))

    def angle(self) -> float:
        """A heading in radians."""
        return float(self.rng.uniform(0, 2 * np.pi))

    def grown(self, young: float, old: float) -> float:
        """A length between its values at emergence and at canopy closure."""
        return self.near(young + (old - young) * self.growth)

    def look(self, kind: str, age: float = 0.5) -> LeafLook:
        """The look of a part; `age` 0 is the youngest (brighter, yellower), 1 the oldest leaf."""
        row = KINDS.index(kind) * self.rows_per_kind + self.variant % self.rows_per_kind
        if kind == "stem":
            return LeafLook(row, self.stem_tint, 0.2)
        bright = self.near(1.12 - 0.2 * age, 0.1)
        red, blue = self.near(1.1 - 0.15 * age, 0.08), self.near(0.95 + 0.1 * age, 0.1)
        if age > 0.85 and self.rng.random() < 0.2:
            red *= 1.7
        return LeafLook(row, (bright * blue, bright, bright * red), self.near(self.gloss, 0.4))

    def blade(
        self, shape: LeafShape, pose: LeafPose, kind: str = "pinnate", age: float = 0.5
    ) -> Mesh:
        """One leaf blade."""
        return leaf(self.rng, shape, pose, self.look(kind, age))

    def stem(self, start: F32, end: F32, width: float, crossed: bool = False) -> Mesh:
        """One stem or petiole."""
        return stalk(start, end, width, self.look("stem"), crossed)

    def petioled(
        self,
        foot: F32,
        azimuth: float,
        elevation: float,
        petiole: float,
        shape: LeafShape,
        *,
        age: float = 0.5,
        droop: float = 0.7,
        kind: str = "pinnate",
        stem_width: float = 0.003,
    ) -> list[Mesh]:
        """A blade on a petiole that leaves `foot` at `elevation`."""
        end = towards(foot, azimuth, elevation, petiole)
        pose = LeafPose(
            end,
            azimuth,
            elevation * 0.7 - 0.1,
            self.near(droop, 0.5),
            self.near(0.0) + float(self.rng.normal(0, 0.25)),
            float(self.rng.normal(0, 0.35)),
            float(self.rng.normal(0, 0.25)),
        )
        return [
            self.stem(foot, end, stem_width),
            self.blade(shape, pose, kind, age),
        ]

    def compound(
        self,
        foot: F32,
        azimuth: float,
        elevation: float,
        petiole: float,
        leaflets: list[tuple[float, float]],
        shape: LeafShape,
        *,
        age: float = 0.5,
        kind: str = "pinnate",
        stem_width: float = 0.002,
    ) -> list[Mesh]:
        """A leaf of several leaflets: (position back from the petiole's end in metres, heading)."""
        end = towards(foot, azimuth, elevation, petiole)
        parts = [self.stem(foot, end, stem_width)]
        for back, turn in leaflets:
            start = end + (foot - end) * np.float32(min(back / max(petiole, 1e-4), 0.9))
            pose = LeafPose(
                start,
                azimuth + turn + float(self.rng.normal(0, 0.12)),
                float(self.rng.normal(0.15, 0.25)),
                self.near(0.4, 0.8),
                float(self.rng.normal(0, 0.25)),
                bend=float(self.rng.normal(0, 0.15)),
            )
            parts.append(self.blade(shape, pose, kind, age))
        return parts
