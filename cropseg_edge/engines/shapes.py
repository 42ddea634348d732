"""The shapes that a network's outputs must have, from its manifest and the shape of the logits."""

from collections.abc import Mapping, Sequence
from typing import Any

from cropseg_edge.bundle import Manifest
from cropseg_edge.errors import EngineError


def output_shapes(
    label: str, manifest: Manifest, found: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[int, ...]]:
    """What the tensors that the FADE stage takes must look like.

    Args:
        label: begins the messages.
        manifest: names the tensors.
        found: the shapes of a graph's or an engine's outputs, by name.

    Returns:
        The expected shapes; those of `found` may differ, except for the logits' last two numbers.

    Raises:
        EngineError: a tensor is missing, or the logits have no fixed shape.
    """
    tensors = manifest.upsampler.tensors
    named = [tensors.logits, tensors.kernels_high, tensors.kernels_low]
    if tensors.guide is not None and tensors.gate is not None:
        named += [tensors.guide, tensors.gate]
    missing = [name for name in named if name not in found]
    if missing:
        raise EngineError(f"{label}: the graph lacks {missing}; its outputs are {sorted(found)}")
    shape = found[tensors.logits]
    if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise EngineError(f"{label}: {tensors.logits} must have a fixed shape, got {shape}")
    classes, h, w = len(manifest.classes), shape[2], shape[3]
    shapes: dict[str, tuple[int, ...]] = {
        tensors.logits: (1, classes, h, w),
        tensors.kernels_high: (1, 25, 2 * h, 2 * w),
        tensors.kernels_low: (1, 25, h, w),
    }
    if tensors.guide is not None and tensors.gate is not None:
        fine = tuple(found[tensors.guide])[1:2] == (4 * classes,)  # four sub-pixels a pixel
        channels = 4 * classes if fine else classes
        shapes |= {tensors.guide: (1, channels, 2 * h, 2 * w), tensors.gate: (1, 1, h, w)}
    return shapes
