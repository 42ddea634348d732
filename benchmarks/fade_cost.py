"""What FADE costs on a CPU: in no step, in the last, in every step of the decoder; full and Lite.

python benchmarks/fade_cost.py [--size tiny] [--frames N] [--json FILE]

CPU time of one thread, so that other load on the machine hardly counts: the least of the frames.
"""

import argparse
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import onnxruntime
import torch
from torch import nn

from cropseg_edge.fade import fade_upsample
from training.export import OPSET, OUTPUTS, EngineGraph
from training.models.cost import cost, total
from training.models.registry import build
from training.models.sizes import SIZES

FORMS = {
    "none (bilinear)": {"fade_steps": False, "last_step": "bilinear"},
    "last, Lite": {"fade_steps": False, "lite": True},
    "last, full": {"fade_steps": False, "lite": False},
    "every step, Lite": {"fade_steps": True, "lite": True},
    "every step, full": {"fade_steps": True, "lite": False},
}


def session_of(network: nn.Module, width: int, height: int, outputs: tuple[str, ...]):
    """An ONNX Runtime session of one thread."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, height, width),),
            buffer,
            input_names=["image"],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        buffer.getvalue(), options, providers=["CPUExecutionProvider"]
    )


def measure(size, width: int, height: int, frames: int) -> dict[str, float]:
    """Milliseconds of CPU of the engine and of the step after it; GMAC of the whole network."""
    model = build(size)
    fade = size.last_step == "fade"
    session = session_of(
        EngineGraph(model) if fade else model, width, height, OUTPUTS if fade else ("logits",)
    )
    image = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    engine, stage = [], []
    for _ in range(frames + 2):
        start = process_time()
        outputs = session.run(None, {"image": image})
        after = process_time()
        if fade:
            fade_upsample(*outputs)
        engine.append(1e3 * (after - start))
        stage.append(1e3 * (process_time() - after))
    return {
        "engine_ms": float(np.min(engine[2:])),
        "stage_ms": float(np.min(stage[2:])),
        "gmac": total(cost(size, height, width)).macs / 1e9,
    }


def main() -> None:
    """Print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="nano", choices=SIZES)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {
        form: measure(
            replace(SIZES[args.size], fine=1, subpixel=1, **changes),
            args.width,
            args.height,
            args.frames,
        )
        for form, changes in FORMS.items()
    }
    base = sum(rows["none (bilinear)"][key] for key in ("engine_ms", "stage_ms"))
    print(f"{args.size}, {args.width}x{args.height}, ms of one CPU thread")
    print(f"{'FADE':18} {'engine':>8} {'stage':>7} {'ratio':>6} {'GMAC':>6}")
    for form, row in rows.items():
        row["ratio"] = (row["engine_ms"] + row["stage_ms"]) / base
        print(
            f"{form:18} {row['engine_ms']:8.1f} {row['stage_ms']:7.1f} {row['ratio']:6.2f} "
            f"{row['gmac']:6.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
