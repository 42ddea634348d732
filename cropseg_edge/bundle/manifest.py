"""The manifest of a bundle: what the model is, what goes in, what comes out, where it comes from.

Frozen pydantic models; an unknown key is an error, so that a misspelt or newer key is never
silently ignored on a robot.
"""

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from cropseg_edge.mask import CLASSES

_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Triple = tuple[float, float, float]
REDUCED: tuple[Literal["fp16"], Literal["int8"]] = ("fp16", "int8")
EngineName = Literal["onnxruntime", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]


def is_safe_member(name: str) -> bool:
    """True for a plain relative name: ASCII, forward slashes, no `..`, drive, or leading slash."""
    return len(name) <= 200 and _MEMBER.fullmatch(name) is not None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputSpec(_Model):
    """The network's input: float32 [1, 3, height, width], (pixel - mean) / std, pixels 0 to 255.

    `mean` and `std` are in the order of `color_order`.
    """

    tensor: Text
    width: int = Field(ge=16, le=8192)
    height: int = Field(ge=16, le=8192)
    mean: Triple
    std: Triple
    color_order: Literal["rgb", "bgr"]

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Triple) -> Triple:
        if min(std) <= 0:
            raise ValueError(f"std must be positive, got {std}")
        return std


class UpsamplerTensors(_Model):
    """Names of the network's outputs that the FADE stage takes."""

    logits: Text
    kernels_high: Text
    kernels_low: Text
    guide: Text | None = None
    gate: Text | None = None


class UpsamplerSpec(_Model):
    """The FADE stage that follows the engine; `gated` asks for the tensors guide and gate. `scale`
    is the reassembly's; a guide of four times the classes' channels doubles the grid once more."""

    kind: Literal["fade"] = "fade"
    kernel_size: Literal[5] = 5
    scale: Literal[2] = 2
    gated: bool
    lite: bool
    tensors: UpsamplerTensors

    @model_validator(mode="after")
    def _gate_matches(self) -> "UpsamplerSpec":
        given = (self.tensors.guide is not None, self.tensors.gate is not None)
        if given != (self.gated, self.gated):
            raise ValueError("tensors guide and gate must be named exactly when gated is true")
        names = [name for name in self.tensors.model_dump().values() if name is not None]
        if len(set(names)) != len(names):
            raise ValueError(f"every tensor needs a name of its own, got {names}")
        return self


class DatasetRecord(_Model):
    """One data set that the weights were trained on; `images` counts those that were used."""

    name: Text
    licence: Text
    split: Text
    images: int = Field(ge=0)


class TrainingRecord(_Model):
    """How the weights were made."""

    datasets: tuple[DatasetRecord, ...]
    steps: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    code_version: Text
    note: str = ""


class GoldenFrame(_Model):
    """A picture and the reference probabilities that the model gave for it when it was made, both
    PNG; see `encode_probabilities`."""

    image: str
    probabilities: str


class CalibrationFrame(_Model):
    """A picture that the scales of INT8 were computed from."""

    name: Text
    source: Text
    sha256: Sha256


class CalibrationRecord(_Model):
    """How the FP16 and INT8 graphs were made from the FP32 ones.

    `kept` are the nodes that could be quantized and stay in floating point, by engine; `measured`
    are figures of the day, such as {"onnxruntime.int8": {"speedup": 1.4, "loss_points": 0.1}}.
    """

    tool: Text
    method: Literal["minmax", "percentile", "entropy"]
    percentile: float | None = Field(None, gt=50, le=100)
    frames: tuple[CalibrationFrame, ...]
    quantized: dict[EngineName, tuple[Text, ...]]
    kept: dict[EngineName, tuple[Text, ...]]
    measured: dict[str, dict[str, float]] = {}
    verdict: str = ""


class Manifest(_Model):
    """What a bundle says about itself. `sha256` covers every member but the manifest itself.

    `graphs` are the FP32 graphs; `reduced` are those of other precisions, engine to precision to
    member. `default_precision` is what an engine runs unless it is told otherwise; FP32 where
    nothing is said, as in bundles that were never calibrated.
    """

    format: Literal[1] = 1
    name: Name
    version: Name
    size: Name
    licence: Text
    classes: tuple[str, ...]
    input: InputSpec
    graphs: dict[EngineName, str]
    reduced: dict[EngineName, dict[Literal["fp16", "int8"], str]] = {}
    default_precision: dict[EngineName, Precision] = {}
    calibration: CalibrationRecord | None = None
    upsampler: UpsamplerSpec
    training: TrainingRecord
    metrics: dict[str, dict[str, float]]
    golden: tuple[GoldenFrame, ...]
    sha256: dict[str, Sha256] = {}

    @field_validator("classes")
    @classmethod
    def _known_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if classes != CLASSES:
            raise ValueError(f"classes must be {list(CLASSES)}, got {list(classes)}")
        return classes

    @model_validator(mode="after")
    def _safe_members(self) -> "Manifest":
        if "onnxruntime" not in self.graphs:
            raise ValueError("graphs must name a graph for onnxruntime, the reference engine")
        for engine, precision in self.default_precision.items():
            if precision not in self.precisions(engine):
                raise ValueError(f"default_precision: there is no {precision} graph for {engine}")
        for name in (*self.referenced_members(), *self.sha256):
            if not is_safe_member(name):
                raise ValueError(f"member name {name!r} is not a plain relative path")
        return self

    def precisions(self, engine: EngineName) -> tuple[Precision, ...]:
        """What an engine can run, from fp32 down."""
        reduced = self.reduced.get(engine, {})
        return ("fp32", *(p for p in REDUCED if p in reduced))

    def graph_members(self) -> tuple[str, ...]:
        """Names of the members that are ONNX graphs."""
        reduced = (name for graphs in self.reduced.values() for name in graphs.values())
        return (*self.graphs.values(), *reduced)

    def referenced_members(self) -> tuple[str, ...]:
        """Names of the members that graphs and golden frames point to."""
        golden = [name for frame in self.golden for name in (frame.image, frame.probabilities)]
        return (*self.graph_members(), *golden)
