"""FP32, FP16 and INT8 side by side: figures, latency, per-layer error, scales; one HTML file."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from calibration.graph import constants
from calibration.measure import Figures
from calibration.simplify import simplify
from cropseg_edge.bundle import Bundle

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid
#ddd}td:first-child,th:first-child{text-align:left}.verdict{font-size:1.25rem;padding:.7rem 1rem;
background:#eef5e9;border-left:5px solid #4a7c2c}rect{fill:#4a7c2c}text{font-size:10px}
"""
COLUMNS = ("vegetation.miou", "vegetation.boundary_iou", "crop.miou")


@dataclass
class Report:
    """What the page shows.

    Attributes:
        title: name and version of the bundle.
        machine: processor, threads, ONNX Runtime.
        verdict: the sentence.
        figures: "engine precision" to set to figures in percent.
        sizes: "engine precision" to megabytes.
        times: "engine precision" to milliseconds of each run.
        errors: layer to relative error of its output in INT8.
        scales: "activations" and "weights" to scales.
    """

    title: str
    machine: str
    verdict: str = ""
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    scales: dict[str, list[float]] = field(default_factory=dict)


def layer_errors(
    bundle: Bundle, picture: NDArray[np.float32], engine: str = "onnxruntime"
) -> dict[str, float]:
    """Relative error of the output of each quantized layer: |INT8 - FP32| / |FP32|, means.

    The error is that of the whole network up to there, not of the layer alone.
    """
    record = bundle.manifest.calibration
    layers = set(record.quantized.get("onnxruntime", ())) if record else set()
    reference = simplify(bundle.graph(engine))
    reduced = onnx.load_from_string(bundle.graph(engine, "int8"))
    wanted = {n.name: n.output[0] for n in reference.graph.node if n.name in layers}
    present = {n.name: n.output[0] for n in reduced.graph.node if n.name in wanted}
    names = [name for name in wanted if name in present]
    before = _tensors(reference, [wanted[name] for name in names], picture)
    after = _tensors(reduced, [present[name] for name in names], picture)
    return {
        name: float(np.abs(a - b).mean() / max(float(np.abs(b).mean()), 1e-12))
        for name, a, b in zip(names, after, before, strict=True)
    }


def scales(graph: bytes) -> dict[str, list[float]]:
    """Scales of activations and of int8 weights in an INT8 graph; biases are int32."""
    model = onnx.load_from_string(graph)
    values = constants(model)
    found: dict[str, list[float]] = {"activations": [], "weights": []}
    for node in model.graph.node:
        scale = values.get(node.input[1]) if len(node.input) > 1 else None
        if scale is None:
            continue
        if node.op_type == "QuantizeLinear":
            found["activations"] += [float(x) for x in scale.ravel()]
        elif node.op_type == "DequantizeLinear":
            weight = values.get(node.input[0])
            if weight is not None and weight.dtype == np.int8 and scale.size > 1:
                found["weights"] += [float(x) for x in scale.ravel()]
    return found


def page(report: Report) -> str:
    """The report as one HTML document without outside references."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(report.title)}"
        f"</title><style>{STYLE}</style><h1>{html.escape(report.title)}</h1>",
        f"<p class=verdict>{html.escape(report.verdict)}</p>",
        f"<p>{html.escape(report.machine)}</p>",
        "<h2>Accuracy, percent</h2>",
        _accuracy_table(report.figures),
        "<h2>Latency of the network on this machine, and size</h2>",
        _latency_table(report),
        "<p>The graphs took turns, run by run. TensorRT's graphs are not timed here: this machine "
        "has no TensorRT; their accuracy is that of the same graph in ONNX Runtime, FP16 tensors "
        "rounded.</p>",
    ]
    if report.errors:
        parts += ["<h2>Error of each quantized layer's output</h2>", _bars(report.errors)]
    for kind, values in report.scales.items():
        if values:
            parts += [f"<h2>Scales of {html.escape(kind)} ({len(values)})</h2>", _histogram(values)]
    return "\n".join(parts) + "\n</html>\n"


def _accuracy_table(figures: Mapping[str, Mapping[str, Figures]]) -> str:
    head = "".join(f"<th>{column}" for column in COLUMNS)
    rows = [f"<tr><th>set, graph<th>images{head}"]
    for name in dict.fromkeys(name for sets in figures.values() for name in sets):
        for graph, sets in figures.items():
            values = sets.get(name, {})
            cells = "".join(f"<td>{values[c]:.2f}" if c in values else "<td>-" for c in COLUMNS)
            label = html.escape(f"{name}, {graph}")
            rows.append(f"<tr><td>{label}<td>{int(values.get('images', 0))}{cells}")
    return f"<table>{''.join(rows)}</table>"


def _latency_table(report: Report) -> str:
    rows = ["<tr><th>graph<th>p50 ms<th>p95 ms<th>min ms<th>against FP32<th>MB"]
    base = next(iter(report.times.values()), [])
    for graph, size in report.sizes.items():
        times = report.times.get(graph)
        if times is None:
            rows.append(f"<tr><td>{html.escape(graph)}<td>-<td>-<td>-<td>-<td>{size:.2f}")
            continue
        p50, p95 = np.percentile(times, (50, 95))
        gain = min(base) / min(times)
        rows.append(
            f"<tr><td>{html.escape(graph)}<td>{p50:.1f}<td>{p95:.1f}<td>{min(times):.1f}"
            f"<td>{gain:.2f}x<td>{size:.2f}"
        )
    return f"<table>{''.join(rows)}</table>"


def _bars(values: Mapping[str, float]) -> str:
    largest = max(values.values()) or 1.0
    rows = []
    for i, (name, value) in enumerate(values.items()):
        y = 14 * i
        rows.append(
            f'<text x="0" y="{y + 10}">{html.escape(name[-60:])}</text>'
            f'<rect x="370" y="{y + 2}" width="{400 * value / largest:.1f}" height="10"/>'
            f'<text x="{375 + 400 * value / largest:.1f}" y="{y + 10}">{100 * value:.1f} %</text>'
        )
    return f'<svg width="830" height="{14 * len(values) + 4}">{"".join(rows)}</svg>'


def _histogram(values: Sequence[float]) -> str:
    counts, edges = np.histogram(np.log10(np.maximum(values, 1e-12)), 30)
    bars = "".join(
        f'<rect x="{20 * i}" y="{100 - 95 * n / max(counts.max(), 1):.1f}" width="18" '
        f'height="{95 * n / max(counts.max(), 1):.1f}"/>'
        for i, n in enumerate(counts)
    )
    low, high = 10 ** edges[0], 10 ** edges[-1]
    labels = (
        f'<text x="0" y="114">{low:.2g}</text>'
        f'<text x="600" y="114" text-anchor="end">{high:.2g} (logarithmic)</text>'
    )
    return f'<svg width="610" height="120">{bars}{labels}</svg>'


def _tensors(
    model: ModelProto, names: Sequence[str], picture: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    import onnxruntime as ort

    copy = ModelProto()
    copy.CopyFrom(model)
    outputs = {tensor.name for tensor in copy.graph.output}
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in dict.fromkeys(names)
        if name not in outputs
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[NDArray[np.float32]] = session.run(
        list(names), {model.graph.input[0].name: picture}
    )
    return found
