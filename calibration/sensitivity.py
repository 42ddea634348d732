"""What each quantized layer costs, and the set of layers that keeps the loss within a budget."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.bundles import Quantized, running
from calibration.labels import fingerprint
from calibration.measure import Figures, accuracy, loss_points
from calibration.qdq import quantize_for_cpu
from cropseg_edge.bundle import Bundle
from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from cropseg_edge.labelled import Pair

log = logging.getLogger("calibration")
RESULT = "sensitivity.json"
KEY = "vegetation.miou"


@dataclass(frozen=True)
class Sensitivity:
    """Points that each layer alone costs, what all of them cost, and the layers to keep.

    Attributes:
        alone: layer to {"vegetation.miou": points, "vegetation.boundary_iou": points}.
        everything: the same with every layer quantized.
        keep: layers that stay in floating point.
        final: the same with the others quantized.
    """

    alone: Mapping[str, Figures]
    everything: Figures
    keep: tuple[str, ...]
    final: Figures


def measure_layers(
    bundle: Bundle,
    made: Quantized,
    sets: Mapping[str, Sequence[Pair]],
    out: Path,
    budget: float,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Quantize one layer at a time, then leave out the dearest until the rest is cheap enough.

    Losses are the worst set's, against the FP32 graph on the same pictures. What was measured is
    kept in `out`/layers.json after each layer, and a run that was cut off goes on from there.

    Args:
        sets: labelled pictures, none of an evaluation split.
        budget: points of vegetation mIoU that quantization may cost.

    Raises:
        ConfigError: `out` holds figures of another bundle, other layers, ranges or pictures.
    """
    head = _head(bundle, made, sets)
    done = _resume(out, head)
    reference = _figures(bundle, made, (), sets, threads)

    def cost(layers: Collection[str]) -> Figures:
        return loss_points(reference, _figures(bundle, made, layers, sets, threads))

    for number, layer in enumerate(made.layers, 1):
        if layer not in done:
            done[layer] = cost([layer])
            _write(out / "layers.json", head | {"alone": done})
        if progress:
            progress(number, len(made.layers))
    everything = cost(made.layers)
    keep, final = search(made.layers, done, everything, cost, budget)
    result = Sensitivity(done, everything, keep, final)
    _write(out / RESULT, {**vars(result), "budget": budget, "keep": list(keep)})
    return result


def search(
    layers: Sequence[str],
    alone: Mapping[str, Figures],
    everything: Figures,
    cost: Callable[[Collection[str]], Figures],
    budget: float,
) -> tuple[tuple[str, ...], Figures]:
    """The fewest dearest layers to keep in floating point: by halving, in about log2(n) trials.

    Layers are left out in the order of what they cost alone; quantizing nothing always fits.
    """
    if everything[KEY] <= budget:
        return (), everything
    order = sorted(layers, key=lambda layer: -alone[layer][KEY])
    low, high = 0, len(order)  # keeping `low` layers is too dear, keeping `high` fits
    best: Figures = dict.fromkeys(everything, 0.0)
    while high - low > 1:
        middle = (low + high) // 2
        figures = cost(order[middle:])
        log.info("keeping %d of %d layers costs %.2f points", middle, len(order), figures[KEY])
        if figures[KEY] <= budget:
            high, best = middle, figures
        else:
            low = middle
    return tuple(order[:high]), best


def chart(result: Sensitivity, path: Path, most: int = 40) -> None:
    """Bars of the dearest layers, vegetation mIoU and boundary IoU, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = sorted(result.alone, key=lambda layer: result.alone[layer][KEY])[-most:]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * len(layers)), layout="constrained")
    places = range(len(layers))
    for shift, (key, label) in zip(
        (0.2, -0.2),
        ((KEY, "vegetation mIoU"), ("vegetation.boundary_iou", "boundary IoU")),
        strict=True,
    ):
        values = [result.alone[layer].get(key, 0.0) for layer in layers]
        axes.barh([p + shift for p in places], values, 0.38, label=label)
    names = [f"{'* ' if layer in result.keep else ''}{layer}" for layer in layers]
    axes.set_yticks(list(places), names, fontsize=7)
    axes.set_xlabel("points lost with this layer alone in INT8 (* stays in floating point)")
    axes.axvline(0, color="black", linewidth=0.5)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _figures(
    bundle: Bundle,
    made: Quantized,
    layers: Collection[str],
    sets: Mapping[str, Sequence[Pair]],
    threads: int | None,
) -> dict[str, Figures]:
    graph = quantize_for_cpu(made.folded, made.ranges, layers) if layers else made.folded
    return accuracy(running(bundle, graph.SerializeToString()), sets, threads=threads)


def _head(bundle: Bundle, made: Quantized, sets: Mapping[str, Sequence[Pair]]) -> dict[str, object]:
    """What the figures depend on; the ranges stand for method and calibration frames."""
    ranges = json.dumps(sorted(made.ranges.items()))
    return {
        "bundle": bundle.sha256,
        "layers": list(made.layers),
        "ranges": hashlib.sha256(ranges.encode()).hexdigest(),
        "pictures": fingerprint(sets),
    }


def _resume(out: Path, head: dict[str, object]) -> dict[str, Figures]:
    path = out / "layers.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        alone: dict[str, Figures] = found.pop("alone")
        for figures in alone.values():
            float(figures[KEY])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it to start again") from error
    if found != head:
        raise ConfigError(
            f"{path} holds figures of another bundle, other layers, ranges (calibration frames, "
            "method) or pictures; give another --out, or remove it"
        )
    return alone


def _write(path: Path, document: object) -> None:
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode(), durable=False)
