"""Kernels for the current GPU, loaded and launched through pycuda."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cropseg_edge.errors import DeviceMemoryError, EngineError
from cropseg_edge.fade.cuda.kernels import PARAMETERS, THREADS

BINARIES = Path(__file__).with_name("binaries")
RECORD = "record.json"


def kernels_sha256(folder: Path = BINARIES) -> str:
    """Of the record of the compiled kernels: their source, their code and what compiled them.

    Raises:
        EngineError: the record cannot be read.
    """
    try:
        return hashlib.sha256((folder / RECORD).read_bytes()).hexdigest()
    except OSError as error:
        raise EngineError(
            f"the record of the FADE kernels cannot be read ({error}); install cropseg-edge again"
        ) from error


def choose_binary(capability: tuple[int, int], folder: Path = BINARIES) -> Path:
    """The file for a device of this compute capability: its own machine code, else PTX.

    PTX is compiled by the driver when it is loaded, for any later device. Machine code of another
    minor number is not tried: it is not portable to or from a Jetson.

    Raises:
        EngineError: there is none.
    """
    number = 10 * capability[0] + capability[1]
    shipped = {path.stem: path for path in folder.glob("*_*.gz")}
    names = [f"sm_{number}", *(f"compute_{older}" for older in range(number, 0, -1))]
    for name in names:
        if name in shipped:
            return shipped[name]
    raise EngineError(
        f"no FADE kernels for this GPU: its compute capability is {number / 10}, shipped are "
        f"{sorted(shipped)}; where there is nvcc, build them with "
        f"`python -m cropseg_edge.fade.cuda.compile sm_{number}`"
    )


class PycudaLauncher:
    """Loads every kernel into the current CUDA context; see `stage.Launcher`.

    Raises:
        EngineError: pycuda is missing, no context is current, or the driver refuses the kernels.
    """

    def __init__(self) -> None:
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise EngineError(
                f"the GPU path needs pycuda, which cannot be imported ({error}); on a Jetson: "
                "pip install 'cropseg-edge[jetson]'"
            ) from error
        self._error: type[Exception] = cuda.Error
        self._out_of_memory: type[Exception] = cuda.MemoryError
        try:
            device = cuda.Context.get_device()
        except cuda.Error as error:
            raise EngineError(
                f"no CUDA context is current ({error}); make one first, for example with "
                "pycuda.driver.init() and pycuda.driver.Device(0).retain_primary_context().push()"
            ) from error
        path = choose_binary(device.compute_capability())
        self.multiprocessors: int = device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)
        try:
            self._module: Any = cuda.module_from_buffer(gzip.decompress(path.read_bytes()))
            self._functions = {
                name: self._module.get_function(name).prepare(codes)
                for name, codes in PARAMETERS.items()
            }
        except (cuda.Error, OSError, EOFError, zlib.error) as error:
            version = cuda.get_driver_version()  # 12060 is CUDA 12.6
            raise EngineError(
                f"the driver of CUDA {version // 1000}.{version % 1000 // 10} refuses the FADE "
                f"kernels in {path.name} for {device.name()}: {error}; update the driver, "
                "or build them again with `python -m cropseg_edge.fade.cuda.compile`"
            ) from error

    def launch(
        self, name: str, grid: tuple[int, int, int], arguments: Sequence[int | float], stream: Any
    ) -> None:
        """See `stage.Launcher.launch`."""
        if self._module is None:
            raise EngineError("the FADE kernels are closed; make a new CudaFade")
        try:
            self._functions[name].prepared_async_call(grid, (THREADS, 1, 1), stream, *arguments)
        except self._error as error:
            # a kernel's code may be loaded only when it is launched first
            kind = DeviceMemoryError if isinstance(error, self._out_of_memory) else EngineError
            raise kind(f"launching {name} on {grid} blocks failed: {error}") from error

    def close(self) -> None:
        """Unload the kernels; idempotent."""
        self._functions = {}
        self._module = None
