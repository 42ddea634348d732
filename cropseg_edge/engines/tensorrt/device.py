"""The GPU and the software under it, as far as an engine depends on them."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cropseg_edge.errors import EngineError

_L4T = Path("/etc/nv_tegra_release")
_MODEL = Path("/proc/device-tree/model")
_MEMINFO = Path("/proc/meminfo")
_SWAPS = Path("/proc/swaps")


class Device(NamedTuple):
    """A GPU.

    Attributes:
        name: such as "Orin".
        compute_capability: such as "8.7".
        multiprocessors: of the GPU; by them Orin Nano, NX and AGX differ, which are all "Orin" 8.7.
        board: such as "NVIDIA Jetson AGX Orin Developer Kit"; empty where Linux does not tell.
        integrated: it shares the memory of the CPU, as on every Jetson.
        cuda: version that pycuda was built for, such as "12.6".
        driver: newest CUDA version that the driver knows.
        l4t: release of Jetson Linux, such as "36.4.0"; empty elsewhere.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    board: str
    integrated: bool
    cuda: str
    driver: str
    l4t: str


def load_cuda() -> Any:
    """The module `pycuda.driver`, initialised.

    Raises:
        EngineError: pycuda is missing or does not fit the driver, or there is no GPU.
    """
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be imported ({error}); on a Jetson: pip install 'cropseg-edge[jetson]'"
        ) from error
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise EngineError(f"CUDA cannot start: {error}; is the NVIDIA driver loaded?") from error
    if count == 0:
        raise EngineError("CUDA finds no GPU; check CUDA_VISIBLE_DEVICES and the driver")
    return cuda


def read_device(cuda: Any) -> Device:
    """Describe the first GPU; makes no CUDA context.

    Args:
        cuda: the module `pycuda.driver`, initialised.
    """
    device = cuda.Device(0)
    driver = cuda.get_driver_version()  # 12060 is 12.6
    return Device(
        name=device.name(),
        compute_capability=".".join(map(str, device.compute_capability())),
        multiprocessors=int(device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)),
        board=board_model(),
        integrated=bool(device.get_attribute(cuda.device_attribute.INTEGRATED)),
        cuda=".".join(map(str, cuda.get_version()[:2])),
        driver=f"{driver // 1000}.{driver % 1000 // 10}",
        l4t=l4t_release(),
    )


@cache
def primary_context(cuda: Any) -> Any:
    """The CUDA context of this process, the one that TensorRT uses as well; not made current.

    It is kept until the process ends: releasing it in another thread than that of its making is
    where pycuda leaks or aborts.

    Raises:
        EngineError: the driver gives none.
    """
    try:
        return cuda.Device(0).retain_primary_context()
    except cuda.Error as error:
        raise EngineError(f"no CUDA context on {cuda.Device(0).name()}: {error}") from error


def l4t_release(path: Path = _L4T) -> str:
    """Release of Jetson Linux, such as "36.4.0"; empty where this is no Jetson."""
    try:
        text = path.read_text()
    except OSError:
        return ""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else "unknown"


def board_model(path: Path = _MODEL) -> str:
    """What the firmware calls the board; empty on a computer that is described otherwise."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def available_memory_mb(meminfo: Path = _MEMINFO, swaps: Path = _SWAPS) -> int | None:
    """MB that programs can still get, free swap on disk included; None where Linux does not tell.

    Swap in compressed memory (zram) does not count: it takes what it gives.
    """
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
    except OSError:
        return None
    if not found:
        return None
    free_kb = int(found[1])
    try:
        rows = [line.split() for line in swaps.read_text().splitlines()[1:]]
    except OSError:
        rows = []
    for row in rows:  # name, type, size, used, priority; in kB
        if len(row) > 3 and row[2].isdecimal() and row[3].isdecimal() and "zram" not in row[0]:
            free_kb += int(row[2]) - int(row[3])
    return free_kb >> 10
