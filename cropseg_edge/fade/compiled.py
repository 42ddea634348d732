"""The compiled library (FADE, frames, operators of ONNX Runtime), if this installation has it."""

import ctypes
import logging
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_ABI = 5


@cache
def library() -> ctypes.CDLL | None:
    """The library with its signatures set, or None: NumPy then does the work."""
    log = logging.getLogger("cropseg_edge.fade")
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_cpu{suffix}")
        if not path.exists():
            continue
        try:
            handle = ctypes.CDLL(str(path))
            if handle.cropseg_abi() == _ABI:
                return _with_signatures(handle)
            log.warning("%s is of another version; build again with `make`", path.name)
        except (OSError, AttributeError) as error:
            log.warning("cannot load %s: %s", path.name, error)
    log.info("no compiled FADE library; NumPy takes its place and is several times slower")
    return None


def _with_signatures(handle: ctypes.CDLL) -> ctypes.CDLL:
    array, number, size, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_ssize_t, ctypes.c_double
    handle.cropseg_in_unit_range.argtypes = (array, ctypes.c_size_t)
    handle.cropseg_in_unit_range.restype = number
    handle.cropseg_fade.argtypes = (*[array] * 5, *[number] * 7, array)
    handle.cropseg_fade.restype = number
    handle.cropseg_letterbox.argtypes = (
        array,
        size,
        *[number] * 2,
        *[array] * 3,
        *[number] * 2,
        *[size] * 2,
        *[number] * 2,
        array,
    )
    handle.cropseg_letterbox.restype = number
    handle.cropseg_decode.argtypes = (
        array,
        *[number] * 3,
        *[real] * 4,
        *[number] * 4,
        array,
        array,
    )
    handle.cropseg_decode.restype = number
    return handle
