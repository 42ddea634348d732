"""What the TensorRT path needs on a machine, found and loaded, or an error that says what lacks."""

import importlib
import importlib.util
from typing import Any, NamedTuple

from cropseg_edge.engines.tensorrt.cache import EngineCache, default_cache
from cropseg_edge.engines.tensorrt.device import Device, l4t_release, load_cuda, read_device
from cropseg_edge.errors import EngineError

MODULE = "tensorrt"
OLDEST = (10, 3)


class Platform(NamedTuple):
    """TensorRT on this machine.

    Attributes:
        trt: the module `tensorrt`.
        cuda: the module `pycuda.driver`, initialised.
        device: the GPU.
        cache: where its engines are.
    """

    trt: Any
    cuda: Any
    device: Device
    cache: EngineCache


def load_platform() -> Platform:
    """Load TensorRT and pycuda and look at the GPU; makes no CUDA context.

    Raises:
        EngineError: something is missing or too old.
    """
    try:
        trt = importlib.import_module(MODULE)
    except (ImportError, OSError, AttributeError) as error:  # the last: NumPy too new for it
        raise EngineError(
            f"TensorRT's Python module cannot be imported ({error}); on a Jetson it comes with "
            "JetPack (apt install python3-libnvinfer) and is seen in a virtual environment made "
            "with --system-site-packages"
        ) from error
    version = str(trt.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        raise EngineError(f"TensorRT {version} is too old; 10.3 (JetPack 6.1) or later is needed")
    cuda = load_cuda()
    return Platform(trt, cuda, read_device(cuda), default_cache())


def tensorrt_expected() -> bool:
    """Whether somebody would expect TensorRT here: it is installed, or this is a Jetson."""
    return bool(l4t_release()) or importlib.util.find_spec(MODULE) is not None
