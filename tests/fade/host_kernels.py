"""The CUDA kernels' source built by the host's compiler, behind the GPU's own launch code."""

import ctypes
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge.bundle import InputSpec
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs, StageStatus
from cropseg_edge.fade.cuda.kernels import PARAMETERS, DType, Layout
from cropseg_edge.fade.stage import Affine, Decoded
from cropseg_edge.letterbox import Fit

SOURCE = Path(__file__).parents[2] / "cropseg_edge" / "fade" / "cuda" / "fade.cu"
_C_TYPES = {
    "P": ctypes.c_void_p,
    "i": ctypes.c_int,
    "q": ctypes.c_longlong,
    "f": ctypes.c_float,
}
Array = NDArray[Any]
BUILT = "FADE_HOST_KERNELS"  # in the environment: the file, once it is built
_kept: list[TemporaryDirectory[str]] = []  # until the process ends


@cache
def library() -> ctypes.CDLL:
    """The kernels as host functions: three integers of grid, then a kernel's parameters."""
    handle = ctypes.CDLL(os.environ.get(BUILT) or _build())
    for name, codes in PARAMETERS.items():
        function = getattr(handle, name)
        function.argtypes = [*[ctypes.c_int] * 3, *(_C_TYPES[code] for code in codes)]
        function.restype = None
    return handle


def _build() -> str:
    """Compile once; the processes that this one starts find the file by the environment."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler: the CUDA source cannot be run on the host")
    folder = TemporaryDirectory()
    _kept.append(folder)
    path = str(Path(folder.name) / "fade.so")
    subprocess.run(
        [
            compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
            "-Wno-unknown-pragmas", "-shared", "-fPIC", "-x", "c++", SOURCE, "-o", path,
        ],
        check=True,
    )  # fmt: skip
    os.environ[BUILT] = path
    return path


class HostLauncher:
    """A `Launcher` that runs a kernel's blocks one after another, on addresses of this process."""

    def __init__(self, multiprocessors: int = 8) -> None:
        self.multiprocessors = multiprocessors
        self.launched: list[str] = []

    def launch(
        self, name: str, grid: tuple[int, int, int], arguments: Sequence[int | float], stream: Any
    ) -> None:
        assert len(arguments) == len(PARAMETERS[name])
        assert max(grid[1:]) < 65536, "CUDA's limit"
        getattr(library(), name)(*grid, *arguments)
        self.launched.append(name)

    def close(self) -> None:
        """Nothing to free."""


def aligned(values: Array) -> Array:
    """A contiguous copy that begins at a multiple of 256 bytes, as device memory does.

    NaN of either float type lie around it, so that reading beyond an end shows in the results.
    """
    raw = np.full(values.nbytes + 768, 0xFF, np.uint8)
    start = 256 + -raw.ctypes.data % 256
    copy = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def to_layout(x: Array, layout: Layout) -> Array:
    """[1, C, h, w] as planes or with channels last."""
    return aligned(x if layout == "nchw" else np.moveaxis(x, 1, -1))


def side_of(tensors: list[Array]) -> int:
    """s: the guide, if there is one, has s * s sub-pixels for each pixel and channel."""
    return math.isqrt(tensors[3].shape[1] // tensors[0].shape[1]) if len(tensors) > 3 else 1


def grid_of(tensors: list[Array]) -> tuple[int, int]:
    """Rows and columns of what FADE makes of them."""
    h, w = tensors[0].shape[2:]
    return 2 * side_of(tensors) * h, 2 * side_of(tensors) * w


class HostFade:
    """`CudaFade` on NumPy arrays; every output lies between guard bytes that must stay."""

    def __init__(
        self,
        dtype: DType = "float32",
        layout: Layout = "nchw",
        multiprocessors: int = 8,
        tensor_cores: bool = False,
    ) -> None:
        self.launcher = HostLauncher(multiprocessors)
        self.fade = CudaFade(dtype, layout, self.launcher, tensor_cores)
        self._dtype, self._layout = np.dtype(dtype), layout
        self._status = aligned(np.full(1, -1, np.int32))
        self._held: list[Array] = []
        self.fade.clear(self._status.ctypes.data)

    @property
    def status(self) -> StageStatus:
        return StageStatus(int(self._status[0]))

    def upsample(self, tensors: list[Array]) -> Array:
        """[1, C, 2sh, 2sw] float64."""
        channels, h, w = tensors[0].shape[1:]
        shape, side = (1, channels, *grid_of(tensors)), side_of(tensors)
        out = _Guarded(to_layout(np.zeros(shape, self._dtype), self._layout))
        self.fade.upsample(
            self._inputs(tensors, self._layout), channels, h, w, out.address, side=side
        )
        result = out.checked()
        planes = result if self._layout == "nchw" else np.moveaxis(result, -1, 1)
        return planes.astype(np.float64)

    def probabilities(self, tensors: list[Array]) -> Array:
        """float32 [C, 2sh, 2sw]."""
        channels, h, w = tensors[0].shape[1:]
        out = _Guarded(np.zeros((channels, *grid_of(tensors)), np.float32))
        self.fade.probabilities(
            self._inputs(tensors, "nchw"), channels, h, w, out.address, self._status.ctypes.data,
            side=side_of(tensors),
        )  # fmt: skip
        return out.checked()

    def labels(self, tensors: list[Array]) -> tuple[Array, Array]:
        """uint8 [2sh, 2sw] twice."""
        channels, h, w = tensors[0].shape[1:]
        labels, confidence = (_Guarded(np.zeros(grid_of(tensors), np.uint8)) for _ in range(2))
        self.fade.labels(
            self._inputs(tensors, "nchw"), channels, h, w, labels.address, confidence.address,
            self._status.ctypes.data, side=side_of(tensors),
        )  # fmt: skip
        return labels.checked(), confidence.checked()

    def decode(self, probabilities: Array, affine: Affine, height: int, width: int) -> Decoded:
        grid = aligned(probabilities)
        labels, confidence = (_Guarded(np.zeros((height, width), np.uint8)) for _ in range(2))
        self.fade.decode(
            grid.ctypes.data, *grid.shape, affine, height, width, labels.address,
            confidence.address, self._status.ctypes.data,
        )  # fmt: skip
        finite = StageStatus.NON_FINITE not in self.status
        return Decoded(labels.checked(), confidence.checked(), finite)

    def preprocess(self, image: Array, spec: InputSpec, fit: Fit, dtype: DType) -> Array:
        """`dtype` [3, H, W]."""
        out = _Guarded(np.zeros((3, spec.height, spec.width), dtype))
        source = aligned(image)
        self.fade.preprocess(source.ctypes.data, *image.shape[:2], spec, fit, out.address, dtype)
        return out.checked()

    def _inputs(self, tensors: list[Array], layout: Layout) -> DeviceInputs:
        layouts: list[Layout] = [layout, "nchw", "nchw", layout, "nchw"]
        self._held = [
            to_layout(x.astype(self._dtype), one) for x, one in zip(tensors, layouts, strict=False)
        ]
        return DeviceInputs(*(x.ctypes.data for x in self._held))


class _Guarded:
    """An output array with 256 bytes on either side; what a kernel must not touch."""

    def __init__(self, like: Array) -> None:
        self._raw = aligned(np.full(like.nbytes + 512, 0xA5, np.uint8))
        self._like = like
        self.address = self._raw.ctypes.data + 256

    def checked(self) -> Array:
        assert (self._raw[:256] == 0xA5).all(), "written before the output"
        assert (self._raw[-256:] == 0xA5).all(), "written past the output"
        return self._raw[256:-256].view(self._like.dtype).reshape(self._like.shape)
