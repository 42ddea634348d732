"""Where a bundle's engine spends its time on a CPU: by part, in FP32 and INT8.

python benchmarks/engine_parts.py [BUNDLE] [--runs N] [--json FILE]

Milliseconds of one ONNX Runtime thread, the median run of each node, FP32 and INT8 in turns; last,
what both take without the compiled operators, their bodies of standard ones running instead.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime

from cropseg_edge.bundle import Bundle, read_bundle, shipped_bundle
from cropseg_edge.engines.onnxruntime import add_operators

PARTS = {  # by operator; the rest is "other"
    "convolutions": ("Conv", "FusedConv", "ConvTranspose", "QLinearConv", "DepthwiseConvolution"),
    "linear layers": ("Gemm", "QGemm"),
    "quantizing and dequantizing": ("QuantizeLinear", "DequantizeLinear"),
    "attention: QK, Softmax, PV": ("Attention", "MatMul", "FusedMatMul", "Softmax"),
    "deformable attention": ("DeformableAttention1", "DeformableAttention3"),
    "GridSample": ("GridSample",),
    "norms, activations, adding": (
        *("LayerNormalization", "BatchNormalization", "Gelu", "Relu", "QuickGelu"),
        *("Add", "Mul", "QLinearAdd", "Sum", "ReduceSum"),
    ),
    "moving and resizing": (
        *("Transpose", "Reshape", "Split", "Concat", "Slice", "Pad", "Gather", "DepthToSpace"),
        *("ReorderInput", "ReorderOutput", "Resize", "Upsample", "Squeeze", "Unsqueeze"),
        *("MaxPool", "NhwcMaxPool", "AveragePool"),
    ),
}
PART_OF = {kind: part for part, kinds in PARTS.items() for kind in kinds}


def profiled(bundle: Bundle, precision: str, compiled: bool, prefix: Path):
    """A session of one thread that writes a profile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    if compiled:
        add_operators(options)
    graph = bundle.graph("onnxruntime", precision)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def by_part(profile: Path) -> dict[str, float]:
    """Milliseconds of each part: medians over runs, summed over nodes."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    parts: dict[str, float] = dict.fromkeys((*PARTS, "other"), 0.0)
    for (_, kind), values in times.items():
        parts[PART_OF.get(kind, "other")] += float(np.median(values))
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, default=shipped_bundle())
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = read_bundle(arguments.bundle)
    spec = bundle.manifest.input
    image = np.random.default_rng(0).normal(size=(1, 3, spec.height, spec.width))
    feed = {spec.tensor: image.astype(np.float32)}
    precisions = bundle.manifest.precisions("onnxruntime")
    columns = [(p, compiled) for compiled in (True, False) for p in precisions]
    names = [p if compiled else f"{p}, standard operators" for p, compiled in columns]
    with tempfile.TemporaryDirectory() as folder:
        sessions = [
            profiled(bundle, p, compiled, Path(folder) / str(i))
            for i, (p, compiled) in enumerate(columns)
        ]
        for _ in range(arguments.runs):
            for session in sessions:
                session.run(None, feed)
        results = [by_part(Path(session.end_profiling())) for session in sessions]
    print(f"{bundle.path.name}, {spec.width}x{spec.height}, ms of one thread")
    print("| part | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for part in results[0]:
        if any(parts[part] >= 0.05 for parts in results):
            print(f"| {part} | " + " | ".join(f"{parts[part]:.1f}" for parts in results) + " |")
    totals = [sum(parts.values()) for parts in results]
    print("| all | " + " | ".join(f"{value:.1f}" for value in totals) + " |")
    if len(precisions) > 1:
        print(f"{names[1]} is {totals[0] / totals[1]:.2f} times as fast as {names[0]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(dict(zip(names, results, strict=True)), indent=1))


if __name__ == "__main__":
    main()
