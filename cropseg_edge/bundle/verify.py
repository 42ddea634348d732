"""Parity: a bundle's golden frames through an engine, against their reference probabilities."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle.bundle import Bundle, read_bundle
from cropseg_edge.errors import ParityError

if TYPE_CHECKING:
    from cropseg_edge.engines.choice import EngineChoice
    from cropseg_edge.engines.protocol import Engine, EngineLabel

# Of a probability. Networks that round are judged by their masks; TensorRT's FP32 rounds to TF32.
MAX_DIFFERENCE = {("onnxruntime", "fp32"): 1e-3}
MIN_SHARE = 0.01  # of a frame's pixels; rarer labels do not count in its mask IoU
MIN_IOU = {"fp32": 0.99, "fp16": 0.99, "int8": 0.97}


class Parity(NamedTuple):
    """One golden frame: largest difference of a probability, mean IoU of the masks."""

    difference: float
    iou: float


class GoldenRunner(Protocol):
    """A segmenter, or the path inside it."""

    @property
    def engine(self) -> "EngineLabel":
        """The engine that runs the network."""
        ...

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """BGR uint8 [H, W, 3] to float32 [3, h, w] on the network's grid."""
        ...


def verify_golden(
    bundle: Bundle | Path | None = None,
    *,
    threads: int | None = None,
    engine: "Engine | EngineChoice" = "onnxruntime",
    precision: str | None = None,
    max_difference: float | None = None,
    min_iou: float | None = None,
) -> list[Parity]:
    """Run every golden frame.

    Args:
        bundle: a bundle, its path, or None for the shipped one.
        threads: CPU threads of the engine.
        engine: what to verify; see `Segmenter`.
        precision: None takes the bundle's default.
        max_difference: of a probability; None: 0.001 for ONNX Runtime at fp32, no limit otherwise.
        min_iou: of the masks; None: 0.99, at int8 0.97.

    Raises:
        ParityError: there is no golden frame, or one differs by more than allowed.
        BundleError, EngineError: the bundle cannot be used.
    """
    from cropseg_edge.segmenter import Segmenter

    checked = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    with Segmenter(checked, threads=threads, engine=engine, precision=precision) as segmenter:
        return check_golden(checked, segmenter, max_difference, min_iou)


def check_golden(
    bundle: Bundle,
    runner: "GoldenRunner",
    max_difference: float | None = None,
    min_iou: float | None = None,
) -> list[Parity]:
    """Run every golden frame through a segmenter or a path; see `verify_golden`.

    Args:
        bundle: whose golden frames.
        runner: what runs them; its engine decides on the limits that are None.

    Raises:
        ParityError: there is no golden frame, or one differs by more than allowed.
    """
    name, results = bundle.path.name, []
    engine, precision = runner.engine.name, runner.engine.precision
    if max_difference is None:
        max_difference = MAX_DIFFERENCE.get((engine, precision), 1.0)
    min_iou = MIN_IOU[precision] if min_iou is None else min_iou
    for number, (image, reference) in enumerate(bundle.golden()):
        got = runner.probabilities(image)
        if got.shape != reference.shape:
            raise ParityError(
                f"{name}: golden frame {number} gives {list(got.shape)} probabilities, "
                f"the reference has {list(reference.shape)}"
            )
        if not np.isfinite(got).all():
            raise ParityError(f"{name}: {precision} golden frame {number} gives NaN or infinity")
        difference = float(np.abs(got - reference).max())
        parity = Parity(difference, mean_iou(got.argmax(0), reference.argmax(0)))
        if not (difference <= max_difference and parity.iou >= min_iou):
            raise ParityError(
                f"{name}: {precision} golden frame {number} differs by {difference:.1e} with mask "
                f"IoU {parity.iou:.3f}; allowed are {max_difference:g} and {min_iou:g}"
            )
        results.append(parity)
    if not results:
        raise ParityError(f"{name} has no golden frames to verify it with")
    return results


def mean_iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean of the labels' IoU, over those that cover at least 1 % of the pixels in either array:
    of a label with three pixels one may turn without anything being wrong."""
    unions = {k: (a == k) | (b == k) for k in np.union1d(a, b)}
    overlaps = [((a == k) & (b == k)).sum() / union.sum() for k, union in unions.items()
                if union.mean() >= MIN_SHARE]  # fmt: skip
    return float(np.mean(overlaps))
