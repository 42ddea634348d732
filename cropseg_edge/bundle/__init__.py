"""The model file: one zip NAME.cropseg with manifest, graphs, golden frames and their hashes."""

from cropseg_edge.bundle.bundle import (
    Bundle,
    encode_png,
    encode_probabilities,
    read_bundle,
    shipped_bundle,
    write_bundle,
)
from cropseg_edge.bundle.manifest import (
    CalibrationFrame,
    CalibrationRecord,
    DatasetRecord,
    GoldenFrame,
    InputSpec,
    Manifest,
    Precision,
    TrainingRecord,
    UpsamplerSpec,
    UpsamplerTensors,
)

__all__ = [
    "Bundle",
    "CalibrationFrame",
    "CalibrationRecord",
    "DatasetRecord",
    "GoldenFrame",
    "InputSpec",
    "Manifest",
    "Precision",
    "TrainingRecord",
    "UpsamplerSpec",
    "UpsamplerTensors",
    "encode_png",
    "encode_probabilities",
    "read_bundle",
    "shipped_bundle",
    "write_bundle",
]
