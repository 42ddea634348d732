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
TENSOR_TILE = {"nchw": (32, 2), "nhwc": (8, 4)}
PIXEL_TILE = (32, 4)
DECODE_TILE = (128, 4)

_LEAST_CHANNELS = 32  # that a block upsamples: below, computing the weights again costs more
_TENSOR_SPLIT = (32, 4)  # channels that a block takes at a time, blocks of a multiprocessor
_SHORT = {"float16": "f16", "float32": "f32"}
_TYPES: tuple[DType, ...] = ("float16", "float32")
_LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
_KINDS = [(dtype, side) for dtype in _TYPES for side in SIDES]


def kernel(stage: str, dtype: DType, layout: Layout | None = None, side: int = 1) -> str:
    """The name of a templated kernel, as `upsample_f16_nchw` or `probabilities_f32_s2`."""
    ends = [layout or "", f"s{side}" if side > 1 else ""]
    return "_".join([stage, _SHORT.get(dtype, dtype), *filter(None, ends)])


def tensor_kernel(layout: Layout) -> str:
    """The name of `upsample` on tensor cores: FP16, s = 1."""
    return f"{kernel('upsample', 'float16', layout)}_tensor"


_INPUTS = "PPPPP"  # logits, kernels_high, kernels_low, guide, gate
PARAMETERS: dict[str, str] = {
    **{kernel("upsample", t, o, s): _INPUTS + "Piiii" for t, s in _KINDS for o in _LAYOUTS},
    **{tensor_kernel(o): _INPUTS + "Piiii" for o in _LAYOUTS},
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


def channels_per_block(
    tiles: int, channels: int, multiprocessors: int, step: int = 8, deep: int = 8
) -> int:
    """All channels where the tiles alone fill the GPU `deep` blocks deep, else fewer.

    A multiple of `step`, and never so few that computing the weights again costs more.
    """
    least = max(_LEAST_CHANNELS, 2 * step)
    splits = min(math.ceil(deep * multiprocessors / tiles), math.ceil(channels / least))
    return step * math.ceil(channels / splits / step)


def upsample_plan(
    dtype: DType, layout: Layout, side: int, channels: int, height: int, width: int,
    multiprocessors: int, tensor_cores: bool,
) -> tuple[str, tuple[int, int, int], int]:  # fmt: skip
    """Of `upsample`: the kernel, its grid of blocks, and the channels of a block.

    Tensor cores take FP16 with s = 1, and only where their loads are aligned: channels last by
    8 channels, planes by 2 columns.
    """
    aligned = channels % 8 == 0 if layout == "nhwc" else width % 2 == 0
    if tensor_cores and dtype == "float16" and side == 1 and aligned:
        x, y = tiles(TENSOR_TILE[layout], height, width)
        chunk = channels_per_block(x * y, channels, multiprocessors, *_TENSOR_SPLIT)
        return tensor_kernel(layout), (x, y, math.ceil(channels / chunk)), chunk
    x, y = tiles(UPSAMPLE_TILE[layout], height, width)
    chunk = channels_per_block(x * y, channels, multiprocessors)
    return kernel("upsample", dtype, layout, side), (x, y, math.ceil(channels / chunk)), chunk


def shrinking(height: int, width: int, to_height: int, to_width: int) -> tuple[int, bool]:
    """How often `letterbox.shrink` halves, and whether it then averages areas."""
    halvings = 0
    while min(width / to_width, height / to_height) >= 2 and not (height % 2 or width % 2):
        height, width, halvings = height // 2, width // 2, halvings + 1
    return halvings, min(width / to_width, height / to_height) >= 2
