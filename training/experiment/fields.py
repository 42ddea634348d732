"""Simulated fields of the experiment: pictures, depth and truth, as a data root."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cropseg_edge.files import write_atomically
from cropseg_edge.simulator.field import FieldSimulator
from cropseg_edge.simulator.scene import CAMERAS
from cropseg_edge.simulator.write import write_frame

SEEN = ("maize", "beet", "cereal", "soybean", "peanut")
UNSEEN = ("cauliflower", "carrot")
DAY = ("sun", "shade", "cloud", "dusk")
TABLE = """\
# Vegetation alone: what depth can tell. Crop and weed are one class here, for every arm.
{names}
"""
ENTRY = """\
{name}:
  licence: Apache-2.0
  labels: {{0: [background], 1: [crop, weed], 2: [crop, weed]}}"""


class Role(NamedTuple):
    """What a set of frames is for, and which fields it shows."""

    name: str
    split: str
    species: tuple[str, ...]
    conditions: tuple[str, ...]
    share: float  # of the number of training frames
    first_seed: int


ROLES = (
    Role("pool", "train", SEEN, DAY, 1.0, 0),
    Role("seen", "test", SEEN, DAY, 0.06, 1_000_000),
    Role("unseen_species", "test", UNSEEN, DAY, 0.06, 2_000_000),
    Role("night", "test", SEEN, ("night",), 0.06, 3_000_000),
)
TESTS = tuple(role.name for role in ROLES if role.split == "test")


def draw_fields(root: Path, frames: int, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Draw every role's frames below `root`; frames that are there are kept. Yields (done, total).

    Each frame is a field of its own: species, condition and camera take turns, the seed changes.
    """
    counts = {role.name: max(2, round(frames * role.share)) for role in ROLES}
    done, total, rows = 0, sum(counts.values()), ["dataset,stem,split"]
    for role in ROLES:
        for index in range(counts[role.name]):
            species = role.species[index % len(role.species)]
            condition = role.conditions[index // len(role.species) % len(role.conditions)]
            stem = f"{species}_{condition}_{index:06d}"
            rows.append(f"{role.name},{stem},{role.split}")
            if not (root / role.name / "images" / f"{stem}.jpg").exists():
                camera = CAMERAS[index // (len(role.species) * len(role.conditions)) % 2]
                seed = role.first_seed + index
                field = FieldSimulator(species, condition, camera, seed, width, height)
                write_frame(root / role.name, stem, field.render(0))
            done += 1
            yield done, total
    entries = "\n".join(ENTRY.format(name=role.name) for role in ROLES)
    write_atomically(root / "datasets.yaml", TABLE.format(names=entries).encode())
    write_atomically(root / "splits.csv", ("\n".join(rows) + "\n").encode())
