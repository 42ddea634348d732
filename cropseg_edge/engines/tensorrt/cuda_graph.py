"""A CUDA graph of what an engine enqueues: one launch a frame instead of hundreds.

pycuda has no CUDA graphs, so the driver's own functions are called (CUDA 11.4 and later).
"""

import ctypes
from collections.abc import Callable

from cropseg_edge.errors import DeviceMemoryError, EngineError

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: TensorRT may look things up while it is captured


class CudaGraph:
    """Captures work on a stream once, to be launched there any number of times.

    Args:
        stream: handle of a stream that is not the default one; its context is current.
        enqueue: puts the work on that stream; it must have run once before.
        driver: the library libcuda; None loads it.

    Raises:
        EngineError: the work cannot be captured. The stream can be used as before.
    """

    def __init__(
        self, stream: int, enqueue: Callable[[], None], driver: ctypes.CDLL | None = None
    ) -> None:
        self._driver = driver or _load_driver()
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_RELAXED))
        try:
            try:
                enqueue()
            finally:
                code = self._driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
            if code != 0 or not graph.value:
                raise EngineError(f"the stream cannot be captured (cuStreamEndCapture gave {code})")
            self._call(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._executable),
                graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            if graph.value:
                self._driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Put the captured work on the stream. Raises EngineError."""
        self._call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free the graph; idempotent."""
        if self._executable.value:
            self._driver.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code != 0:
            kind = DeviceMemoryError if code == _OUT_OF_MEMORY else EngineError
            raise kind(f"{name} gave CUDA error {code}")


def _load_driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineError(f"the CUDA driver cannot be loaded: {error}") from error
