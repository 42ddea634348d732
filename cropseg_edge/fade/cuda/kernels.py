"""The kernels' names, parameters and blocks: what `fade.cu` declares, and launch code packs.

Parameter codes are those of Python's `struct` with native alignment, which is also how CUDA lays
out a kernel's parameters: P pointer, i int32, q int64, f float32.
"""

import math
from typing import Literal

THREADS = 128  # of a block, in every kernel
DType = Literal["float16", "float32"]
Layout = Literal["nchw", "nhwc"]
SIDES = (1, 2)  # s: a pixel of the guide has s x s sub-pixels

# The pixels (or cells of two by two pixels) that one block covers, width and height.
UPSAMPLE_TILE = {"nchw": (32, 4), "nhwc": (8, 4)}
PIXEL_TILE = (32, 4)
DECODE_TILE = (128, 4)

_LEAST_CHANNELS = 32  # that a block upsamples: below, computing the weights again costs more
_SHORT = {"float16": "f16", "float32": "f32"}
_TYPES: tuple[DType, ...] = ("float16", "float32")
_LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
_KINDS = [(dtype, side) for dtype in _TYPES for side in SIDES]


def kernel(stage: str, dtype: DType, layout: Layout | None = None, side: int = 1) -> str:
    """The name of a templated kernel, as `upsample_f16_nchw` or `probabilities_f32_s2`."""
    ends = [layout or "", f"s{side}" if side > 1 else ""]
    return "_".join([stage, _SHORT.get(dtype, dtype), *filter(None, ends)])


_INPUTS = "PPPPP"  # logits, kernels_high, kernels_low, guide, gate
PARAMETERS: dict[str, str] = {
    **{kernel("upsample", t, o, s): _INPUTS + "Piiii" for t, s in _KINDS for o in _LAYOUTS},
    **{kernel("probabilities", t, side=s): _INPUTS + "PPiii" for t, s in _KINDS},
    **{kernel("labels", t, side=s): _INPUTS + "PPPiii" for t, s in _KINDS},
    **{kernel("preprocess", t): "P" + 11 * "i" + 6 * "f" + "P" for t in _TYPES},
    "clear": "P",
    "check": "PPii",
    "conceal": "PPPi",
    "decode": "PPPPiiiqqqqii",
}


def tiles(tile: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Blocks over columns and rows."""
    return math.ceil(width / tile[0]), math.ceil(height / tile[1])


def channels_per_block(tiles: int, channels: int, multiprocessors: int) -> int:
    """All channels where the tiles alone fill the GPU eight blocks deep, else fewer."""
    splits = min(math.ceil(8 * multiprocessors / tiles), math.ceil(channels / _LEAST_CHANNELS))
    return 8 * math.ceil(channels / splits / 8)


def shrinking(height: int, width: int, to_height: int, to_width: int) -> tuple[int, bool]:
    """How often `letterbox.shrink` halves, and whether it then averages areas."""
    halvings = 0
    while min(width / to_width, height / to_height) >= 2 and not (height % 2 or width % 2):
        height, width, halvings = height // 2, width // 2, halvings + 1
    return halvings, min(width / to_width, height / to_height) >= 2
