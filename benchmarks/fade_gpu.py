"""The FADE kernel on a GPU: its time, against what copying its bytes takes, and against PyTorch.

python benchmarks/fade_gpu.py [--json FILE] [--repeats N] [--no-compile]

Needs a GPU and pycuda; the PyTorch columns also a PyTorch with CUDA. Sets of buffers that together
outgrow the L2 cache several times are used in turn, so that every launch reads from memory, as it
does behind an engine. Times are medians of repeats of 10 launches, by CUDA events.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cropseg_edge.errors import EngineError
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs

LAUNCHES = 10
NAMES = ("channels", "h", "w", "dtype", "form", "gated", "side")  # of the guide's sub-pixels
CASES = [
    (256, 64, 64, "float16", "nchw", True, 1),
    (256, 64, 64, "float16", "nhwc", True, 1),
    (256, 128, 128, "float16", "nchw", True, 1),
    (256, 128, 128, "float16", "nhwc", True, 1),
    (256, 128, 128, "float16", "nchw", False, 1),
    (256, 128, 128, "float16", "nhwc", False, 1),
    (64, 64, 64, "float16", "nchw", True, 1),
    (64, 64, 64, "float16", "nchw", True, 2),
    (64, 64, 64, "float16", "nhwc", True, 2),
    (256, 64, 64, "float32", "nchw", True, 1),
    (3, 60, 80, "float32", "probabilities", True, 1),
    (3, 128, 128, "float16", "probabilities", True, 1),
    (3, 120, 160, "float16", "probabilities", True, 2),  # nano
    (3, 120, 160, "float32", "probabilities", True, 2),
]


def sizes_of(case: tuple) -> list[int]:
    """Bytes of logits, kernels_high, kernels_low, guide, gate and output."""
    channels, h, w, dtype, layout, gated, side = case
    cell, item = h * w, np.dtype(dtype).itemsize
    out = 4 if layout == "probabilities" else item
    grid = 4 * side**2 * channels * cell
    inputs = [channels * cell, 100 * cell, 25 * cell, grid * gated, cell * gated]
    return [count * item for count in inputs] + [grid * out]


class Gpu:
    """The first GPU, with its primary context current, which PyTorch shares."""

    def __init__(self) -> None:
        import pycuda.driver as cuda

        self.cuda: Any = cuda
        cuda.init()
        self.device = cuda.Device(0)
        self.device.retain_primary_context().push()
        self.l2 = self.device.get_attribute(cuda.device_attribute.L2_CACHE_SIZE)
        self.stream = cuda.Stream()

    def milliseconds(self, launch: Callable[[int], None], repeats: int) -> float:
        """Median time of `launch(i)`, i counting up."""
        times = []
        for repeat in range(repeats + 3):
            begin, end = self.cuda.Event(), self.cuda.Event()
            begin.record(self.stream)
            for i in range(LAUNCHES):
                launch(repeat * LAUNCHES + i)
            end.record(self.stream)
            end.synchronize()
            times.append(begin.time_till(end) / LAUNCHES)
        return statistics.median(times[3:])

    def copy_bandwidth(self, repeats: int) -> float:
        """Bytes per second read and written by a device-to-device copy."""
        size = max(1 << 26, 8 * self.l2)
        source, target = self.cuda.mem_alloc(size), self.cuda.mem_alloc(size)
        ms = self.milliseconds(
            lambda _: self.cuda.memcpy_dtod_async(target, source, size, self.stream), repeats
        )
        source.free()
        target.free()
        return 2 * size / (ms / 1e3)

    def kernel(self, case: tuple, repeats: int, tensor_cores: bool = False) -> float:
        """Milliseconds of a launch of our kernel."""
        channels, h, w, dtype, layout, _, side = case
        sizes = sizes_of(case)
        sets = [
            [self.cuda.mem_alloc(size) if size else 0 for size in sizes]
            for _ in range(2 + 4 * self.l2 // sum(sizes))
        ]
        rng = np.random.default_rng(0)
        for buffers in sets:
            for buffer, size in zip(buffers[:5], sizes, strict=False):
                if size:
                    values = rng.random(size // np.dtype(dtype).itemsize, np.float32)
                    self.cuda.memcpy_htod(buffer, values.astype(dtype))
        classes = layout == "probabilities"
        fade = CudaFade(dtype, "nchw" if classes else layout, tensor_cores=tensor_cores)
        status = self.cuda.mem_alloc(4)
        fade.clear(int(status))

        def launch(i: int) -> None:
            *inputs, out = (int(x) for x in sets[i % len(sets)])
            tensors = DeviceInputs(*inputs)
            if classes:
                fade.probabilities(tensors, channels, h, w, out, int(status), self.stream, side)
            else:
                fade.upsample(tensors, channels, h, w, out, self.stream, side)

        ms = self.milliseconds(launch, repeats)
        for buffer in (x for buffers in sets for x in buffers if x):
            buffer.free()
        status.free()
        fade.close()
        return ms


def composition(features, high, low, guide, gate):
    """FADE in PyTorch with an unfolded map: [1, C, 2sh, 2sw]."""
    import torch
    import torch.nn.functional as F

    _, channels, h, w = features.shape
    weights = (high + F.interpolate(low, scale_factor=2)).float().softmax(1).to(features.dtype)
    cells = F.pixel_unshuffle(weights, 2).reshape(25, 4, h * w).permute(2, 0, 1)  # [hw, 25, 4]
    windows = F.unfold(features, 5, padding=2).reshape(channels, 25, h * w).permute(2, 0, 1)
    pixels = torch.bmm(windows, cells).permute(1, 2, 0)  # [C, 4, hw]
    out = F.pixel_shuffle(pixels.reshape(1, 4 * channels, h, w), 2)
    if guide is None:
        return out
    g = F.interpolate(gate, scale_factor=2).sigmoid()
    side = math.isqrt(guide.shape[1] // channels)
    return F.pixel_shuffle(g * guide + (1 - g) * out.repeat_interleave(side**2, 1), side)


def pytorch(case: tuple, repeats: int, compiled: bool) -> float | None:
    """Milliseconds of the composition, or None where PyTorch has no CUDA."""
    try:
        import torch
    except ImportError:
        return None
    channels, h, w, dtype, _, gated, side = case
    if not torch.cuda.is_available():
        return None
    guide = (side**2 * channels, 2 * h, 2 * w)
    shapes = [(channels, h, w), (25, 2 * h, 2 * w), (25, h, w), guide, (1, h, w)]
    tensors = [torch.rand(1, *x, device="cuda", dtype=getattr(torch, dtype)) for x in shapes]
    if not gated:
        tensors[3:] = [None, None]
    function = torch.compile(composition) if compiled else composition
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 3):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(LAUNCHES):
                function(*tensors)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / LAUNCHES)
    return statistics.median(times[3:])


def measure(gpu: Gpu, repeats: int, compile_it: bool) -> dict[str, Any]:
    """Everything that is printed, as JSON takes it."""
    bandwidth = gpu.copy_bandwidth(repeats)
    rows = []
    for case in CASES:
        size = sum(sizes_of(case))
        _, _, _, dtype, form, _, side = case
        both = dtype == "float16" and form != "probabilities" and side == 1
        rows.append(
            {
                **dict(zip(NAMES, case, strict=True)),
                "bytes": size,
                "floor_ms": 1e3 * size / bandwidth,
                "kernel_ms": gpu.kernel(case, repeats),
                "tensor_ms": gpu.kernel(case, repeats, tensor_cores=True) if both else None,
                "unfold_ms": pytorch(case, repeats, False),
                "compiled_ms": pytorch(case, repeats, True) if compile_it else None,
            }
        )
    return {"gpu": gpu.device.name(), "copy_gb_per_s": bandwidth / 1e9, "rows": rows}


def main() -> None:
    """Print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        gpu = Gpu()
    except Exception as error:  # pycuda's errors exist only once it can be imported
        sys.exit(f"this benchmark needs a GPU with its driver, and pycuda: {error}")
    try:
        results = measure(gpu, args.repeats, not args.no_compile)
    except EngineError as error:
        sys.exit(str(error))
    print(f"{results['gpu']}: a copy moves {results['copy_gb_per_s']:.0f} GB/s (read and write)")
    print("milliseconds; floor: what copying as many bytes takes; %: of the copy's bandwidth")
    print("tensor: on tensor cores, which is off unless asked for")
    print(
        "   C    h    w dtype    form          gated s    MB  floor kernel   % tensor   %   unfold "
        "compiled"
    )
    for row in results["rows"]:
        torch_columns = (row["unfold_ms"], row["compiled_ms"])
        text = " ".join("       -" if x is None else f"{x:8.3f}" for x in torch_columns)
        kernels = " ".join(
            "     -   -" if ms is None else f"{ms:6.3f} {100 * row['floor_ms'] / ms:3.0f}"
            for ms in (row["kernel_ms"], row["tensor_ms"])
        )
        print(
            f"{row['channels']:4} {row['h']:4} {row['w']:4} {row['dtype']:8} {row['form']:13} "
            f"{'yes' if row['gated'] else 'no':5} {row['side']} {row['bytes'] / 1e6:5.1f} "
            f"{row['floor_ms']:6.3f} {kernels} {text}"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
