"""FADE after the engine: its tensors go in, scores or probabilities of a finer grid come out.

The equations are in `reference.py`. The compiled library does the work where it is there, NumPy
otherwise; both agree with the reference to 1e-5.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import EngineError
from cropseg_edge.fade import fallback
from cropseg_edge.fade.compiled import library
from cropseg_edge.mask import UNKNOWN
from cropseg_edge.threads import in_parts

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Affine(NamedTuple):
    """Where a frame's pixels lie on the probability grid, in indices of pixel centres.

    grid_x = x_scale * x + x_offset, grid_y = y_scale * y + y_offset.
    """

    x_scale: float
    x_offset: float
    y_scale: float
    y_offset: float


class Decoded(NamedTuple):
    """A decoded mask.

    Attributes:
        labels: uint8 [H, W]: the most probable class; the lowest one on a tie.
        confidence: uint8 [H, W]: round(255 * its probability).
        finite: False when a probability was NaN, infinite or outside of 0 to 1. Then labels is 255
            and confidence 0 everywhere, and the mask is INVALID.
    """

    labels: Bytes
    confidence: Bytes
    finite: bool


def fade_upsample(
    logits: Floats,
    kernels_high: Floats,
    kernels_low: Floats,
    guide: Floats | None = None,
    gate: Floats | None = None,
    out: Floats | None = None,
) -> Floats:
    """Upsample class scores by 2s, s being 1 or the side of the guide's sub-pixels, 2.

    Args:
        logits: float32 [1, C, h, w], class scores.
        kernels_high: float32 [1, 25, 2h, 2w], the encoder's kernel logits, bias included.
        kernels_low: float32 [1, 25, h, w], the decoder's kernel logits.
        guide: float32 [1, s*s*C, 2h, 2w], the encoder's class scores (gated form, with `gate`):
            channel c*s*s + i*s + j is class c at row i and column j of the pixel's sub-pixels.
        gate: float32 [1, 1, h, w], the gate's logit.
        out: float32 [1, C, 2sh, 2sw] to fill, contiguous; None makes a new one.

    Returns:
        float32 [1, C, 2sh, 2sw]. A pixel whose inputs hold a NaN or an infinity is not finite.

    Raises:
        EngineError: a shape or dtype does not fit.
    """
    shape = _check(logits, kernels_high, kernels_low, guide, gate)
    out = _buffer(out, shape)
    _run(logits, kernels_high, kernels_low, guide, gate, out, False)
    return out


def fade_probabilities(
    logits: Floats,
    kernels_high: Floats,
    kernels_low: Floats,
    guide: Floats | None = None,
    gate: Floats | None = None,
    out: Floats | None = None,
    threads: int = 1,
) -> Floats:
    """`fade_upsample`, then the softmax over the classes: float32 [C, 2sh, 2sw], `out` likewise.

    A pixel whose inputs hold a NaN or an infinity is NaN in every class. Raises EngineError.
    """
    shape = _check(logits, kernels_high, kernels_low, guide, gate)
    out = _buffer(out, shape[1:])
    _run(logits, kernels_high, kernels_low, guide, gate, out[None], True, threads)
    return out


def decode(
    probabilities: Floats, affine: Affine, height: int, width: int, threads: int = 1
) -> Decoded:
    """Labels and confidence of a frame from class probabilities.

    Vegetation is decided first: a pixel is background (0) only where that is more probable than
    all other classes together. Otherwise it gets the most probable of the others, however they
    share what is left: a plant of uncertain kind is still a plant.

    The probabilities are sampled bilinearly at the centre of every pixel of the frame, clamped at
    the grid's borders; no probability of the frame is looked at before all are known to be finite.

    Args:
        probabilities: float32 [C, h, w], contiguous, 0 to 1; C at least 2.
        affine: from the frame's pixels to the grid.
        height: rows of the frame.
        width: columns of the frame.
        threads: of the compiled library.

    Raises:
        EngineError: the probabilities are not contiguous float32 [C, h, w].
    """
    _check_one("probabilities", probabilities, None, 3)
    labels, confidence = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    compiled = library()
    if compiled is None:
        finite = fallback.decode(probabilities, affine, labels, confidence)
    else:
        source = probabilities.ctypes.data
        finite = bool(compiled.cropseg_in_unit_range(source, probabilities.size))
        if finite:
            settings = (source, *probabilities.shape, *affine, height, width)
            outputs = (labels.ctypes.data, confidence.ctypes.data)

            def rows(first: int, last: int) -> int:
                return int(compiled.cropseg_decode(*settings, first, last, *outputs))

            _check_memory(in_parts(rows, height, threads))
    if not finite:
        labels.fill(UNKNOWN)
        confidence.fill(0)
    return Decoded(labels, confidence, finite)


def _run(
    logits: Floats,
    kernels_high: Floats,
    kernels_low: Floats,
    guide: Floats | None,
    gate: Floats | None,
    out: Floats,
    probabilities: bool,
    threads: int = 1,
) -> None:
    compiled = library()
    if compiled is None:
        fallback.upsample(logits, kernels_high, kernels_low, guide, gate, out)
        if probabilities:
            fallback.softmax(out, out[0])
        return
    inputs = (logits, kernels_high, kernels_low, guide, gate)
    pointers = [None if array is None else array.ctypes.data for array in inputs]
    side = out.shape[2] // kernels_high.shape[2]
    settings, to = (*pointers, *logits.shape[1:], side, int(probabilities)), out.ctypes.data

    def rows(first: int, last: int) -> int:
        return int(compiled.cropseg_fade(*settings, first, last, to))

    _check_memory(in_parts(rows, logits.shape[2], threads))


def _check_memory(code: int) -> None:
    if code == 1:
        raise EngineError("the FADE stage ran out of memory; use a smaller input or close programs")


def _check(
    logits: Floats,
    kernels_high: Floats,
    kernels_low: Floats,
    guide: Floats | None,
    gate: Floats | None,
) -> tuple[int, ...]:
    _check_one("logits", logits, None, 4)
    _, channels, h, w = logits.shape
    if logits.shape[0] != 1:
        raise EngineError(f"FADE takes one frame at a time, logits has {logits.shape[0]}")
    _check_one("kernels_high", kernels_high, (1, 25, 2 * h, 2 * w), 4)
    _check_one("kernels_low", kernels_low, (1, 25, h, w), 4)
    if (guide is None) != (gate is None):
        raise EngineError("FADE takes guide and gate together or neither")
    side = 1
    if guide is not None and gate is not None:
        side = 2 if guide.ndim == 4 and guide.shape[1] == 4 * channels else 1
        _check_one("guide", guide, (1, side**2 * channels, 2 * h, 2 * w), 4)
        _check_one("gate", gate, (1, 1, h, w), 4)
    return (1, channels, 2 * side * h, 2 * side * w)


def _check_one(name: str, array: Floats, shape: tuple[int, ...] | None, ndim: int) -> None:
    fits = array.shape == shape if shape else array.ndim == ndim and 0 not in array.shape
    if not fits or array.dtype != np.float32 or not array.flags.c_contiguous:
        expected = list(shape) if shape else f"with {ndim} dimensions"
        raise EngineError(
            f"{name} must be contiguous float32 {expected}, got {array.dtype} {list(array.shape)}"
        )


def _buffer(out: Floats | None, shape: tuple[int, ...]) -> Floats:
    if out is None:
        return np.empty(shape, np.float32)
    _check_one("out", out, shape, len(shape))
    return out
