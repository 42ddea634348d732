"""The GPU and the software under it, as far as an engine depends on them."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cropseg_edge.errors import EngineError

_L4T = Path("/etc/nv_tegra_release")
_MEMINFO = Path("/proc/meminfo")


class Device(NamedTuple):
    """A GPU.

    Attributes:
        name: such as "Orin".
        compute_capability: such as "8.7".
        integrated: it shares the memory of the CPU, as on every Jetson.
        cuda: version that pycuda was built for, such as "12.6".
        driver: newest CUDA version that the driver knows.
        l4t: release of Jetson Linux, such as "36.4.0"; empty elsewhere.
    """

    name: str
    compute_capability: str
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


def available_memory_mb(path: Path = _MEMINFO) -> int | None:
    """Memory that programs can still get without swapping; None where Linux does not tell."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text())
    except OSError:
        return None
    return int(found[1]) >> 10 if found else None
