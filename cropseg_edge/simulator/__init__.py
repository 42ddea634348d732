"""A procedural crop field: image, labels, depth, plants and rows as ground truth."""

from cropseg_edge.simulator.field import FieldSimulator, random_scene, sample_frame
from cropseg_edge.simulator.frame import PlantTruth, RowLine, SimulatedFrame
from cropseg_edge.simulator.scene import CAMERAS, CONDITIONS, SPECIES

__all__ = [
    "CAMERAS",
    "CONDITIONS",
    "SPECIES",
    "FieldSimulator",
    "PlantTruth",
    "RowLine",
    "SimulatedFrame",
    "random_scene",
    "sample_frame",
]
