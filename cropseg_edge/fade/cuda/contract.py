"""What callers and launchers of the FADE kernels agree on: addresses, status bits, checks."""

from collections.abc import Sequence
from enum import IntFlag
from typing import Any, NamedTuple, Protocol

from cropseg_edge.errors import EngineError
from cropseg_edge.fade.cuda.kernels import SIDES
from cropseg_edge.mask import UNKNOWN

_ALIGNMENT = 16  # bytes: the widest load of a kernel


class Launcher(Protocol):
    """What starts kernels: pycuda on a GPU (`driver.py`), a host build in the tests.

    Attributes:
        multiprocessors: of the device.
    """

    multiprocessors: int

    def launch(
        self, name: str, grid: tuple[int, int, int], arguments: Sequence[int | float], stream: Any
    ) -> None:
        """Start kernel `name` with blocks of THREADS threads. Raises EngineError."""
        ...

    def close(self) -> None:
        """Unload the kernels; idempotent."""
        ...


class StageStatus(IntFlag):
    """What the kernels saw in a frame: bits of the status word (int32 in device memory).

    Attributes:
        NON_FINITE: an input of FADE was NaN or infinite, or a probability outside of 0 to 1. The
            mask of that frame is 255 everywhere with confidence 0.
        SATURATED: a class score of the engine is finite but at FP16's end (65504) or beyond.
        VARIES: set by `decode`: some class has two different probabilities. A frame without this
            bit has a constant output.
    """

    NON_FINITE = 1
    SATURATED = 2
    VARIES = 4


class DeviceInputs(NamedTuple):
    """Device addresses of FADE's inputs, of one dtype; shapes for low-resolution maps of h x w.

    Attributes:
        logits: the map to upsample: [C, h, w], or [h, w, C] for `upsample` in the nhwc layout.
        kernels_high: [25, 2h, 2w] always, the encoder's kernel logits with bias.
        kernels_low: [25, h, w] always, the decoder's kernel logits.
        guide: [s*s*C, 2h, 2w], or [2h, 2w, s*s*C] as logits; with `gate`. Channel
            s*s*c + s*i + j is class c of the pixel's sub-pixel in row i and column j. 0 for the
            ungated form.
        gate: [h, w], the gate's logit; 0 for the ungated form.
    """

    logits: int
    kernels_high: int
    kernels_low: int
    guide: int = 0
    gate: int = 0


def check_inputs(inputs: DeviceInputs, side: int) -> None:
    """Raises EngineError where an address does not fit, or guide, gate and s do not go together."""
    check_addresses(
        logits=inputs.logits, kernels_high=inputs.kernels_high, kernels_low=inputs.kernels_low
    )
    if (inputs.guide == 0) != (inputs.gate == 0):
        raise EngineError("FADE takes guide and gate together or neither")
    if side not in (SIDES if inputs.guide else (1,)):
        raise EngineError(
            f"FADE on the GPU takes guides of {SIDES} sub-pixels a side, and only 1 without a "
            f"guide; got {side}"
        )
    if inputs.guide:
        check_addresses(guide=inputs.guide, gate=inputs.gate)


def check_addresses(**addresses: int) -> None:
    """Raises EngineError where an address is null or not aligned for the kernels' loads."""
    for name, address in addresses.items():
        if address == 0 or address % _ALIGNMENT:
            raise EngineError(
                f"FADE on the GPU takes device addresses that are multiples of {_ALIGNMENT}; "
                f"{name} is at {address:#x}. Give the address that the allocation returned"
            )


def check_sizes(*sizes: int) -> None:
    """Raises EngineError where a size is not positive."""
    if min(sizes) < 1:
        raise EngineError(f"sizes of a FADE stage must be positive, got {list(sizes)}")


def check_classes(classes: int) -> None:
    """Raises EngineError where a label does not fit a byte, or there is nothing to decide."""
    if not 2 <= classes < UNKNOWN:
        raise EngineError(f"labels are made of 2 to {UNKNOWN - 1} classes, got {classes}")
