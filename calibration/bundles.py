"""A bundle and calibration frames in, a bundle with FP16 and INT8 graphs out."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import ModelProto

from calibration.fp16 import LARGEST, is_fp16, rounded, to_fp16
from calibration.frames import CalibrationSet
from calibration.fuse import fuse
from calibration.layers import candidates, kept_by_rule
from calibration.lint import lint
from calibration.qdq import quantize_for_cpu, quantize_for_tensorrt
from calibration.ranges import Method, Range, activation_ranges
from calibration.simplify import simplify
from cropseg_edge.bundle import Bundle, CalibrationRecord, Manifest, write_bundle
from cropseg_edge.errors import BundleError, ConfigError

log = logging.getLogger("calibration")


@dataclass(frozen=True)
class Quantized:
    """The graphs of one engine: folded FP32, its activation ranges, what was quantized and kept."""

    folded: ModelProto
    ranges: Mapping[str, Range]
    layers: tuple[str, ...]
    kept: tuple[str, ...]


def prepare(
    graph: bytes,
    frames: CalibrationSet,
    spec_bundle: Bundle,
    method: Method = "percentile",
    percentile: float = 99.999,
    skip: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
    *,
    widen: bool = True,
) -> Quantized:
    """Fold a graph, measure its ranges, choose its layers.

    Args:
        graph: an FP32 graph of `spec_bundle`.
        skip: layers that stay in floating point besides those of the rule.
        widen: of `simplify`.

    Raises:
        ConfigError: no layer is left, or a tensor is not finite.
    """
    folded = simplify(graph, widen=widen)
    chosen = candidates(folded)
    skipped = [name for name in chosen if name in set(skip)]
    layers = tuple(name for name in chosen if name not in set(skipped))
    if not layers:
        raise ConfigError(
            f"nothing is left to quantize: all {len(skipped)} layers stay in floating point; run "
            "FP32, or let `sensitivity` spend a larger --budget"
        )
    inputs = frames.inputs(spec_bundle.manifest.input)
    ranges = activation_ranges(folded, inputs, method, percentile, progress)
    return Quantized(folded, ranges, layers, (*kept_by_rule(folded), *skipped))


def reduced_graphs(engine: str, made: Quantized) -> dict[str, bytes]:
    """The graphs of an engine by precision: INT8, and for TensorRT also FP16 throughout.

    On TensorRT what is not INT8 is FP16. ONNX Runtime's CPU kernels have no FP16.

    Raises:
        BundleError: a graph for TensorRT breaks a rule of `lint`.
        ConfigError: a weight or an activation does not fit into float16.
    """
    if engine == "onnxruntime":
        int8 = quantize_for_cpu(made.folded, made.ranges, made.layers)
        graphs = {"int8": fuse(int8)}
    else:
        for name, limits in made.ranges.items():
            if not max(map(abs, limits)) < LARGEST:
                raise ConfigError(f"tensor {name} reaches {limits}; FP16 ends at 65504")
        quantized = quantize_for_tensorrt(made.folded, made.ranges, made.layers)
        graphs = {"fp16": to_fp16(made.folded), "int8": to_fp16(quantized)}
    for precision, model in graphs.items():
        onnx.checker.check_model(model)
        findings = lint(model) if engine == "tensorrt" else []
        if findings:
            first = findings[0]
            raise BundleError(
                f"the {precision} graph for {engine} breaks {len(findings)} rules, first "
                f"{first.rule} at {first.node}: {first.message}"
            )
    return {precision: model.SerializeToString() for precision, model in graphs.items()}


def with_precisions(
    path: Path,
    bundle: Bundle,
    graphs: Mapping[str, Mapping[str, bytes]],
    record: CalibrationRecord,
    default: Mapping[str, str] | None = None,
) -> Bundle:
    """Write the bundle with graphs by engine and precision added; the FP32 ones stay as they are.

    Args:
        default: the precision that each engine runs; fp32 where nothing is said.
    """
    members, reduced = dict(bundle.members), {}
    for old in (n for by in bundle.manifest.reduced.values() for n in by.values()):
        members.pop(old, None)
    for engine, by_precision in graphs.items():
        reduced[engine] = {}
        for precision, data in by_precision.items():
            name = f"model.{engine}.{precision}.onnx"
            reduced[engine][precision] = name
            members[name] = data
    document = bundle.manifest.model_dump() | {
        "reduced": reduced,
        "default_precision": dict(default or {}),
        "calibration": record.model_dump(),
    }
    return write_bundle(path, Manifest.model_validate(document), members)


def with_record(
    path: Path, bundle: Bundle, record: CalibrationRecord, default: Mapping[str, str]
) -> Bundle:
    """Write the bundle with another calibration record and default precisions, nothing else."""
    document = bundle.manifest.model_dump() | {
        "default_precision": dict(default),
        "calibration": record.model_dump(),
    }
    return write_bundle(path, Manifest.model_validate(document), bundle.members)


def running(bundle: Bundle, graph: bytes) -> Bundle:
    """The bundle, in memory, with this graph in place of the FP32 one: for measuring it. What is
    FP16 in the graph is rounded, which ONNX Runtime would not do by itself; see `fp16.rounded`."""
    model = onnx.load_from_string(graph)
    if is_fp16(model):
        graph = rounded(model).SerializeToString()
    name = bundle.manifest.graphs["onnxruntime"]
    manifest = bundle.manifest.model_copy(
        update={"graphs": {"onnxruntime": name}, "reduced": {}, "default_precision": {}}
    )
    return replace(bundle, manifest=manifest, members={**bundle.members, name: graph})
