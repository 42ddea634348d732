"""`report` from beginning to end: measure each graph once, decide, write."""

import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from calibration.bundles import running, with_record
from calibration.labels import fingerprint, labelled_sets
from calibration.measure import (
    Figures,
    accuracy,
    check_vegetation,
    latency,
    loss_points,
    speedup,
    verdict,
)
from calibration.report import Report, layer_errors, page, scales
from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.errors import BundleError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import read_image
from cropseg_edge.labelled import Pair
from cropseg_edge.letterbox import Letterbox

FP32, INT8 = "onnxruntime fp32", "onnxruntime int8"


class ReportConfig(BaseModel):
    """What `report` does; written beside its result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path
    out: Path
    root: Path | None = None
    split: str = "dev"
    sets: tuple[str, ...] = ()
    limit: int | None = Field(None, ge=1)
    rounds: int = Field(40, ge=1)
    budget: float = Field(0.5, ge=0, allow_inf_nan=False)
    threads: int | None = Field(None, ge=1)
    tensorrt: bool = True
    update: bool = False


def compare(config: ReportConfig, say: Callable[[str], None]) -> Report:
    """Measure, decide, write report.html and report.json; see the command's help.

    Raises:
        BundleError: the bundle was never quantized.
        ConfigError, FrameError: the labelled data cannot be used.
    """
    bundle = read_bundle(config.bundle)
    record = bundle.manifest.calibration
    if record is None:
        raise BundleError(f"{config.bundle} holds FP32 alone; run `calibration quantize` first")
    config.out.mkdir(parents=True, exist_ok=True)
    write_atomically(config.out / "config.json", config.model_dump_json(indent=2).encode() + b"\n")
    size = (bundle.manifest.input.width, bundle.manifest.input.height)
    sets = labelled_sets(
        config.root, config.split, config.out / "simulated", size, config.limit, config.sets
    )
    result = Report(f"{bundle.manifest.name} {bundle.manifest.version}", _machine(config))
    for engine, precision in _graphs(bundle, config.tensorrt):
        name, graph = f"{engine} {precision}", bundle.graph(engine, precision)
        result.sizes[name] = len(graph) / 1e6
        result.figures[name] = _judge(bundle, graph, name, sets, config, say)
    letterbox = Letterbox(bundle.manifest.input)
    picture = letterbox.fill(read_image(next(iter(sets.values()))[0].image)).copy()
    result.times = latency(
        {FP32: (bundle, "fp32"), INT8: (bundle, "int8")}, picture, config.rounds, config.threads
    )
    result.errors = layer_errors(bundle, picture)
    result.scales = scales(bundle.graph("onnxruntime", "int8"))
    gain = speedup(result.times, FP32, INT8)
    lost = loss_points(result.figures[FP32], result.figures[INT8])["vegetation.miou"]
    pays, result.verdict = verdict(gain, lost, config.budget)
    write_atomically(config.out / "report.json", json.dumps(vars(result), indent=2).encode())
    write_atomically(config.out / "report.html", page(result).encode())
    if config.update:
        measured = {
            **record.measured,
            f"onnxruntime.int8.{config.split if config.root else 'simulator'}": {
                "speedup": round(gain, 3),
                "loss_points": lost,
            },
        }
        updated = record.model_copy(update={"measured": measured, "verdict": result.verdict})
        with_record(config.bundle, bundle, updated, {"onnxruntime": "int8"} if pays else {})
    return result


def _graphs(bundle: Bundle, tensorrt: bool) -> list[tuple[str, str]]:
    """The FP32 reference, then what was made from it; TensorRT's FP32 graph is the same network."""
    graphs = [("onnxruntime", p) for p in bundle.manifest.precisions("onnxruntime")]
    if tensorrt and "tensorrt" in bundle.manifest.graphs:
        reduced = bundle.manifest.precisions("tensorrt")[1:]
        graphs += [("tensorrt", p) for p in reduced]
    return graphs


def _judge(
    bundle: Bundle,
    graph: bytes,
    name: str,
    sets: dict[str, list[Pair]],
    config: ReportConfig,
    say: Callable[[str], None],
) -> dict[str, Figures]:
    """Figures of a graph; those that `out` has of this very graph and these pictures are kept."""

    def progress(which: str, done: int) -> None:
        if done == len(sets[which]):
            say(f"{name}: {which}, {done} pictures")

    path = config.out / f"{name.replace(' ', '.')}.json"
    key = {
        "graph": hashlib.sha256(graph).hexdigest(),
        "pictures": fingerprint(sets),
    }
    if (known := _read(path)) is not None and known.get("of") == key:
        figures: dict[str, Figures] = known["figures"]
        check_vegetation(figures)
        say(f"{name}: measured before")
        return figures
    figures = accuracy(running(bundle, graph), sets, threads=config.threads, progress=progress)
    document = {"of": key, "figures": figures}
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n", durable=False)
    return figures


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _machine(config: ReportConfig) -> str:
    import onnxruntime

    from cropseg_edge.engines.onnxruntime import physical_cores

    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    threads = config.threads or min(4, physical_cores())
    return f"{processor}, {threads} threads, ONNX Runtime {onnxruntime.__version__}"
