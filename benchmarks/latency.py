"""How long each stage of a frame takes, at 640x480 and 1920x1080, and what compiling FADE gains.

python benchmarks/latency.py [--bundle B] [--frames N] [--threads T] [--json FILE]
"""

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cropseg_edge.bundle import read_bundle
from cropseg_edge.fade import fade_upsample, fallback
from cropseg_edge.fade.compiled import library
from cropseg_edge.frames import Frame
from cropseg_edge.segmenter import Segmenter
from cropseg_edge.simulator import FieldSimulator

SIZES = ((640, 480), (1920, 1080))


def stages(segmenter: Segmenter, width: int, height: int, frames: int) -> dict[str, Any]:
    """Milliseconds of each stage over frames of the simulator, resized to the camera's size."""
    import cv2

    pictures = [
        cv2.resize(FieldSimulator(seed=seed).render(seed).image, (width, height))
        for seed in range(4)
    ]
    laps: dict[str, list[float]] = {}
    for number in range(frames + 3):
        start = perf_counter()
        mask = segmenter.segment(Frame(pictures[number % 4], 0, "camera", number, str(number)))
        total = (perf_counter() - start) * 1e3
        if number < 3:  # warm-up
            continue
        for stage, ms in {**mask.stage_ms, "total": total}.items():
            laps.setdefault(stage, []).append(ms)
    own = np.array(laps["total"]) - laps["engine"] - laps["fade"]
    laps["overhead"] = list(own)
    return {
        stage: {f"p{p}": float(np.percentile(ms, p)) for p in (50, 95, 99)}
        for stage, ms in laps.items()
    }


def fade_ratio(repeats: int = 15) -> dict[str, float]:
    """FADE at 160x120 to 320x240, three classes, gated: compiled and NumPy, in milliseconds."""
    rng = np.random.default_rng(0)
    shapes = (
        (1, 3, 120, 160),
        (1, 25, 240, 320),
        (1, 25, 120, 160),
        (1, 3, 240, 320),
        (1, 1, 120, 160),
    )
    inputs = [rng.normal(0, 2, shape).astype(np.float32) for shape in shapes]
    out = np.empty((1, 3, 240, 320), np.float32)
    numpy_ms = _median(lambda: fallback.upsample(*inputs, out), repeats)
    if library() is None:
        return {"numpy_ms": numpy_ms}
    compiled_ms = _median(lambda: fade_upsample(*inputs, out=out), repeats)
    return {"compiled_ms": compiled_ms, "numpy_ms": numpy_ms, "ratio": numpy_ms / compiled_ms}


def _median(call: Any, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append((perf_counter() - start) * 1e3)
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with Segmenter(read_bundle(arguments.bundle), threads=arguments.threads) as segmenter:
        for width, height in SIZES:
            name = f"{width}x{height}"
            results[name] = stages(segmenter, width, height, arguments.frames)
            print(f"{name:<12}{'p50':>8}{'p95':>8}{'p99':>8}  ms")
            for stage, figures in results[name].items():
                print(f"  {stage:<10}" + "".join(f"{value:>8.2f}" for value in figures.values()))
            half = results[name]
            share = (half["engine"]["p50"] + half["fade"]["p50"]) / half["total"]["p50"]
            print(f"  {1000 / half['total']['p50']:.1f} frames/s, {share:.0%} in engine and FADE")
    results["fade"] = fade_ratio()
    print(
        "FADE        " + ", ".join(f"{key} {value:.2f}" for key, value in results["fade"].items())
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
