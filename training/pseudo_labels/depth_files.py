"""Depth maps as files: what cameras leave, read and checked; float TIFF written.

Conventions of ROS REP-118: depth along the optical axis; integers are millimetres with 0 unknown,
floats are metres with NaN unknown. Relative depth keeps the direction: larger is farther.
"""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError
from cropseg_edge.files import write_atomically

F32 = NDArray[np.float32]
Unit = Literal["auto", "mm", "m", "disparity"]
UNITS: tuple[Unit, ...] = ("auto", "mm", "m", "disparity")
SUFFIXES = (".png", ".tif", ".tiff", ".npy")

_LEAST_KNOWN = 0.3  # share of a picture that must have depth
_LEAST_RANGE = 1e-4  # spread of depth, share of its median


def read_depth(path: Path, unit: Unit = "auto", scale: float = 1.0) -> F32:
    """Read a depth or disparity file.

    Args:
        path: PNG or TIFF of one channel, or NPY [H, W].
        unit: of the file's numbers; auto takes integers for millimetres, floats for metres.
        scale: disparity only: depth in metres is `scale` / disparity, so focal length (pixels)
            times baseline (metres); 1 gives relative depth.

    Returns:
        float32 [H, W], metres (or relative), larger is farther, NaN unknown.

    Raises:
        FrameError: missing, unreadable, or not a map of one channel; names the file.
    """
    values = _read_values(path)
    integer = values.dtype.kind in "iu"
    numbers = values.astype(np.float32)
    if unit == "disparity":
        with np.errstate(divide="ignore"):
            numbers = np.where(numbers > 0, np.float32(scale) / numbers, np.nan)
    elif unit == "mm" or (unit == "auto" and integer):
        numbers = numbers / 1000
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan).astype(np.float32)


def check_depth(depth: F32, image_shape: tuple[int, ...] | None = None) -> None:
    """Refuse depth that says nothing about a picture.

    Args:
        depth: float32 [H, W], as `read_depth` gives it: NaN where unknown, zero or infinite.
        image_shape: of the picture; the depth may have another size, of the same proportions.

    Raises:
        FrameError: unknown (or nearly) everywhere, constant, or of other proportions.
    """
    known = np.isfinite(depth) & (depth > 0)
    share = float(known.mean()) if depth.size else 0.0
    if share == 0:
        raise FrameError("no pixel has depth: every value is NaN, zero, negative or infinite")
    if share < _LEAST_KNOWN:
        raise FrameError(f"{100 * share:.0f} % of the pixels have depth, {_LEAST_KNOWN:.0%} needed")
    low, middle, high = np.percentile(depth[known], (1, 50, 99))
    if high - low < _LEAST_RANGE * middle:
        raise FrameError(f"depth is constant ({middle:.4g}): it says nothing about the picture")
    if image_shape is not None:
        (rows, columns), (height, width) = depth.shape, image_shape[:2]
        if abs(columns * height - rows * width) > 0.01 * rows * width:
            raise FrameError(
                f"depth is {columns}x{rows}, its picture {width}x{height}: not of one camera view"
            )


def fit_to(depth: F32, image_shape: tuple[int, ...]) -> F32:
    """The depth at the picture's size; no value is mixed from two."""
    height, width = image_shape[:2]
    if depth.shape == (height, width):
        return depth
    return np.asarray(cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST))


def write_depth(path: Path, depth: F32) -> None:
    """Write float32 [H, W] as a compressed float TIFF, whole or not at all. Raises OSError."""
    deflate = [cv2.IMWRITE_TIFF_COMPRESSION, 8]
    data = cv2.imencode(".tif", depth.astype(np.float32), deflate)[1]
    write_atomically(path, bytes(data), durable=False)


def _read_values(path: Path) -> NDArray[np.generic]:
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            data = np.frombuffer(path.read_bytes(), np.uint8)
            values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (OSError, ValueError, EOFError, cv2.error) as error:
        raise FrameError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if values is None:
        raise FrameError(f"{path}: not an image that OpenCV can read, or a damaged one")
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or values.dtype.itemsize < 2:
        raise FrameError(
            f"{path}: depth must be one channel of 16-bit integers or floats, "
            f"got {values.dtype} {list(values.shape)}"
        )
    return values
