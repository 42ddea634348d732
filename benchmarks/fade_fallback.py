"""How much faster FADE's compiled library is than NumPy, which takes its place without a compiler.

python benchmarks/fade_fallback.py [--repeats N]

168x128 to 672x512, three classes, gated, four sub-pixels a pixel: what follows the shipped engine.
"""

import argparse
from collections.abc import Callable
from time import perf_counter

import numpy as np

from cropseg_edge.fade import fade_upsample, fallback
from cropseg_edge.fade.compiled import library

SHAPES = (
    (1, 3, 128, 168),
    (1, 25, 256, 336),
    (1, 25, 128, 168),
    (1, 12, 256, 336),
    (1, 1, 128, 168),
)


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of a call, the median of all."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append((perf_counter() - start) * 1e3)
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 2, shape).astype(np.float32) for shape in SHAPES]
    out = np.empty((1, 3, 512, 672), np.float32)
    numpy_ms = median_ms(lambda: fallback.upsample(*inputs, out), repeats)
    if library() is None:
        print(f"NumPy {numpy_ms:.2f} ms; the compiled library is not there")
        return
    compiled_ms = median_ms(lambda: fade_upsample(*inputs, out=out), repeats)
    ratio = numpy_ms / compiled_ms
    print(f"compiled {compiled_ms:.2f} ms, NumPy {numpy_ms:.2f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
