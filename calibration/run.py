"""`quantize` from beginning to end."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calibration.bundles import (
    Quantized,
    prepare,
    reduced_graphs,
    running,
    with_precisions,
    with_record,
)
from calibration.frames import read_set
from calibration.labels import labelled_sets
from calibration.measure import accuracy, latency, loss_points, speedup, verdict
from calibration.ranges import Method
from cropseg_edge.bundle import Bundle, CalibrationRecord, read_bundle
from cropseg_edge.bundle.verify import MIN_IOU, check_golden
from cropseg_edge.engines.integers import int8_is_exact
from cropseg_edge.errors import ConfigError, ParityError
from cropseg_edge.files import check_writable, write_atomically
from cropseg_edge.segmenter import Segmenter

log = logging.getLogger("calibration")
ENGINES = ("onnxruntime", "tensorrt")
FEW = 8  # frames; below it the ranges are those of a moment


class QuantizeConfig(BaseModel):
    """What `quantize` does; written beside its result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: Path
    out: Path
    method: Method = "percentile"
    percentile: float = Field(99.999, gt=50, le=100)
    skip: Path | None = None
    backend: Literal["onnxruntime", "modelopt"] = "onnxruntime"
    budget: float = Field(0.5, ge=0, allow_inf_nan=False)
    rounds: int = Field(20, ge=1)
    threads: int | None = Field(None, ge=1)


def quantize_bundle(source: Path | None, config: QuantizeConfig) -> Bundle:
    """Write the bundle with FP16 and INT8 graphs; see the command's help.

    Raises:
        ConfigError: frames or configuration cannot be used, the result cannot be written, or a
            number does not fit into FP16.
        BundleError: the bundle cannot be used, or a result breaks a rule of `lint`.
        ParityError: INT8 (IoU under 0.97) or FP16 (0.99) does not give the golden masks.
    """
    bundle, frames = read_bundle(source), read_set(config.frames)
    _check_out(config.out)
    if len(frames.frames) < FEW:
        log.warning("%d calibration frames are few; %d or more give better ranges",
                    len(frames.frames), FEW)  # fmt: skip
    skip = read_skip(config.skip) if config.skip else ()
    if config.backend == "modelopt":
        from calibration.modelopt import check_modelopt

        check_modelopt()
    made: dict[str, Quantized] = {}
    for engine in (e for e in ENGINES if e in bundle.manifest.graphs):
        log.info("%s: ranges over %d frames (%s)", engine, len(frames.frames), config.method)
        made[engine] = prepare(
            bundle.graph(engine), frames, bundle, config.method, config.percentile, skip, _progress,
            widen=engine == "onnxruntime",
        )  # fmt: skip
    known = {name for result in made.values() for name in (*result.layers, *result.kept)}
    if unknown := sorted(set(skip) - known):
        raise ConfigError(
            f"{config.skip} keeps layers that {bundle.path.name} lacks, first {unknown[0]}; "
            "it was made for another model"
        )
    graphs = {engine: reduced_graphs(engine, result) for engine, result in made.items()}
    tool = _tool()
    if config.backend == "modelopt" and "tensorrt" in made:
        from calibration.modelopt import quantize_with_modelopt

        inputs = frames.inputs(bundle.manifest.input)
        graphs["tensorrt"]["int8"], other = quantize_with_modelopt(made["tensorrt"], inputs)
        tool += f" for ONNX Runtime; {other}, method max, for TensorRT's INT8"
    record = CalibrationRecord(
        tool=tool,
        method=config.method,
        percentile=config.percentile if config.method == "percentile" else None,
        frames=frames.frames,
        quantized={engine: result.layers for engine, result in made.items()},
        kept={engine: result.kept for engine, result in made.items()},
    )
    with tempfile.TemporaryDirectory() as folder:  # under its own name only what was proven
        draft = with_precisions(Path(folder) / config.out.name, bundle, graphs, record)
    if draft.manifest.golden:
        _check_golden(draft, graphs)
    result = _decide(draft, config, frames.inputs(bundle.manifest.input))
    write_atomically(
        config.out.with_suffix(".quantize.json"), config.model_dump_json(indent=2).encode() + b"\n"
    )
    return result


def _check_out(path: Path) -> None:
    """Raise ConfigError where the bundle could not be written, before the work is done."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name the bundle, as {path / 'nano.cropseg'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _check_golden(draft: Bundle, graphs: Mapping[str, Mapping[str, bytes]]) -> None:
    """Raise ParityError where a graph does not give the golden masks."""
    for engine, by_precision in graphs.items():
        for precision, graph in by_precision.items():
            if engine == "onnxruntime" and not int8_is_exact():
                log.warning("this processor adds 8-bit products wrongly: INT8 cannot be tried here")
                continue
            with Segmenter(running(draft, graph)) as segmenter:  # which calls it fp32
                try:
                    found = check_golden(draft, segmenter, 1.0, MIN_IOU[precision])
                except ParityError as error:
                    raise ParityError(
                        f"the {precision} graph for {engine} does not give the golden masks; "
                        "take more calibration frames of more fields, or let `sensitivity` find "
                        f"the layers to --skip ({error})"
                    ) from error
            worst = min(parity.iou for parity in found)
            log.info("%s %s gives the golden masks with IoU %.4f", engine, precision, worst)


def _decide(draft: Bundle, config: QuantizeConfig, inputs: Iterator[NDArray[np.float32]]) -> Bundle:
    times = latency(
        {"fp32": (draft, "fp32"), "int8": (draft, "int8")},
        next(inputs),
        config.rounds,
        config.threads,
    )
    gain = speedup(times, "fp32", "int8")
    spec = draft.manifest.input
    with tempfile.TemporaryDirectory() as work:
        sets = labelled_sets(None, "", Path(work), (spec.width, spec.height))
        fp32, int8 = (accuracy(draft, sets, p, config.threads) for p in ("fp32", "int8"))
    lost = loss_points(fp32, int8)
    pays, sentence = verdict(gain, lost["vegetation.miou"], config.budget)
    record = draft.manifest.calibration
    assert record is not None
    figures = {"speedup": round(gain, 3), "loss_points": lost["vegetation.miou"]}
    record = record.model_copy(
        update={"measured": {"onnxruntime.int8.simulator": figures}, "verdict": sentence}
    )
    return with_record(config.out, draft, record, {"onnxruntime": "int8"} if pays else {})


def read_skip(path: Path) -> tuple[str, ...]:
    """The layers that `sensitivity` keeps in floating point. Raises ConfigError."""
    try:
        keep = json.loads(path.read_text())["keep"]
        if not isinstance(keep, list):
            raise TypeError(f"keep is {keep!r}, no list of layers")
        return tuple(str(name) for name in keep)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} must be the sensitivity.json of `python -m calibration sensitivity`: {error}"
        ) from error


def _progress(done: int) -> None:
    if done % 8 == 0:
        log.info("%d frames", done)


def _tool() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"
