"""What a graph costs and what it gains: masks against labels, latency side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine
from cropseg_edge.errors import ConfigError
from cropseg_edge.evaluation import evaluate_segmenter
from cropseg_edge.labelled import Pair
from cropseg_edge.segmenter import Segmenter

Figures = dict[str, float]
LOSSES = ("vegetation.miou", "vegetation.boundary_iou")


def accuracy(
    bundle: Bundle,
    sets: Mapping[str, Sequence[Pair]],
    precision: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, Figures]:
    """Figures in percent of each set, as `cropseg eval` gives them.

    Raises:
        ConfigError: no mask has a known pixel of vegetation or soil, so nothing can be compared.
    """
    with Segmenter(bundle, threads=threads, precision=precision) as segmenter:
        found = {
            name: evaluate_segmenter(
                segmenter, list(pairs), partial(progress, name) if progress else None
            )
            for name, pairs in sets.items()
        }
    check_vegetation(found)
    return found


def check_vegetation(found: Mapping[str, Figures]) -> None:
    """Raise ConfigError where no set has figures of vegetation."""
    if not any(LOSSES[0] in figures for figures in found.values()):
        raise ConfigError(
            f"no mask of {', '.join(found)} says of any pixel whether it is plant or soil (255 is "
            "unknown), so vegetation mIoU cannot be measured"
        )


def loss_points(reference: Mapping[str, Figures], other: Mapping[str, Figures]) -> Figures:
    """Points lost, worst set first come: {"vegetation.miou": 0.2, ...}; negative is a gain."""
    lost: Figures = {}
    for key in LOSSES:
        drops = [
            reference[name][key] - other[name][key]
            for name in reference
            if key in reference[name] and key in other[name]
        ]
        if drops:
            lost[key] = round(max(drops), 3)
    return lost


def latency(
    bundles: Mapping[str, tuple[Bundle, str]],
    image: NDArray[np.float32],
    rounds: int = 30,
    threads: int | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each run of the network, the graphs taking turns so that load hits all alike.

    Args:
        bundles: name to (bundle, precision).
        image: the network's input, float32 [1, 3, H, W].
        rounds: runs of each, after two to warm up.
        threads: of the engine.
    """
    engines = {
        name: OnnxRuntimeEngine(bundle, threads, precision)
        for name, (bundle, precision) in bundles.items()
    }
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds + 2):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.infer(image)
            if turn >= 2:
                times[name].append((time.perf_counter() - start) * 1e3)
    for engine in engines.values():
        engine.close()
    return times


def speedup(times: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """How much faster, by the least time of each: whatever else runs on the machine only adds."""
    return min(times[slow]) / min(times[fast])


def verdict(gain: float, lost: float, budget: float) -> tuple[bool, str]:
    """Whether INT8 is what this machine should run, and the sentence that says so."""
    pays = gain > 1.05 and lost <= budget
    change = f"{gain:.2f}x, {-lost:+.2f} points"
    if pays:
        return True, f"INT8 pays: {change}"
    if gain <= 1.05:
        return False, f"INT8 does not pay here: {change}; no faster than FP32"
    return False, f"INT8 does not pay here: {change}, more than the {budget:g} points allowed"
