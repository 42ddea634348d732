"""A deserialised engine with its buffers on the GPU. It has never run on hardware yet.

Every method needs a CUDA context that is current in the calling thread.
"""

import logging
from typing import Any

import numpy as np

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.shapes import output_shapes
from cropseg_edge.engines.tensorrt.builder import the_logger
from cropseg_edge.engines.tensorrt.cuda_graph import CudaGraph
from cropseg_edge.errors import DeviceMemoryError, EngineError

log = logging.getLogger("cropseg_edge.engines.tensorrt")


class TensorRtEngine:
    """Runs one engine on one stream; shapes are fixed, nothing is allocated per frame.

    Args:
        trt: the module `tensorrt`.
        cuda: the module `pycuda.driver`.
        plan: the serialised engine. It is executable code: only what this machine built.
        bundle: that the engine was built from.
        precision: of the graph that it was built from.
        stream: a `pycuda.driver.Stream`.

    Attributes:
        shapes: of every tensor, by name.
        dtypes: likewise, float32 or float16.

    Raises:
        EngineError: TensorRT refuses the engine, the memory is too small, or its tensors are not
            the manifest's.
    """

    name = "tensorrt"

    def __init__(
        self, trt: Any, cuda: Any, plan: bytes, bundle: Bundle, precision: str, stream: Any
    ) -> None:
        self.precision = precision
        self._stream = stream
        self._graph: CudaGraph | None = None
        self._captured = False
        self._buffers: dict[str, Any] = {}
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._logger = the_logger(trt)
        self._logger.messages.clear()
        try:
            self._load(trt, cuda, plan, bundle)
        except (EngineError, cuda.Error):
            self.close()
            raise

    def _load(self, trt: Any, cuda: Any, plan: bytes, bundle: Bundle) -> None:
        try:
            self._runtime = trt.Runtime(self._logger)
        except TypeError as error:  # what pybind11 raises where the constructor gave nothing
            raise EngineError(
                f"TensorRT {trt.__version__} cannot start: {self._logged()}"
            ) from error
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot load the engine{self._why(cuda, len(plan))}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            needed = len(plan) + self._engine.device_memory_size_v2
            raise EngineError(f"TensorRT cannot make a context{self._why(cuda, needed)}")
        self.shapes, self.dtypes = self._describe(trt, bundle)
        for name, shape in self.shapes.items():
            size = int(np.prod(shape)) * np.dtype(self.dtypes[name]).itemsize
            self._buffers[name] = cuda.mem_alloc(size)
            if not self._context.set_tensor_address(name, int(self._buffers[name])):
                raise EngineError(f"TensorRT refuses the buffer of {name}{self._why(cuda, size)}")

    def address(self, tensor: str) -> int:
        """Where a tensor lies in the GPU's memory."""
        return int(self._buffers[tensor])

    def enqueue(self) -> None:
        """Put one run on the stream, as a CUDA graph where the engine can be captured.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if self._graph is not None:
            self._graph.launch()
            return
        self._execute()
        if not self._captured:
            self._captured = True
            self._stream.synchronize()
            try:
                self._graph = CudaGraph(self._stream.handle, self._execute)
            except EngineError as error:
                log.info("the engine runs without a CUDA graph: %s", error)

    def close(self) -> None:
        """Free the graph, the context, the engine and the buffers, in this order; idempotent."""
        if self._graph is not None:
            self._graph.close()
        self._graph = self._context = self._engine = self._runtime = None
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}

    def _execute(self) -> None:
        if self._context is None:
            raise EngineError("the engine is closed; make a new one")
        self._logger.messages.clear()
        if not self._context.execute_async_v3(self._stream.handle):
            reason = self._logged() or "no reason given"
            kind = DeviceMemoryError if "out of memory" in reason.lower() else EngineError
            raise kind(f"TensorRT failed to run: {reason}")

    def _describe(
        self, trt: Any, bundle: Bundle
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, "np.dtype[Any]"]]:
        engine, spec = self._engine, bundle.manifest.input
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        kinds: dict[Any, np.dtype[Any]] = {
            trt.float32: np.dtype(np.float32),
            trt.float16: np.dtype(np.float16),
        }
        label = f"{bundle.path.name}: the {self.precision} engine"
        dtypes: dict[str, np.dtype[Any]] = {}
        for name in names:
            kind = engine.get_tensor_dtype(name)
            if kind not in kinds:
                raise EngineError(f"{label}: {name} is {kind}, expected FLOAT or HALF")
            dtypes[name] = kinds[kind]
        expected: dict[str, tuple[int, ...]] = {spec.tensor: (1, 3, spec.height, spec.width)}
        expected |= output_shapes(label, bundle.manifest, shapes)
        if shapes != expected:
            raise EngineError(f"{label} has the tensors {shapes}, expected {expected}")
        outputs = {dtype for name, dtype in dtypes.items() if name != spec.tensor}
        if len(outputs) != 1:
            raise EngineError(f"{label}: its outputs must be of one type, got {dtypes}")
        return shapes, dtypes

    def _why(self, cuda: Any, needed: int) -> str:
        free, _ = cuda.mem_get_info()
        return (
            f": {self._logged() or 'no reason given'} ({free >> 20} MB are free, at least "
            f"{max(1, needed >> 20)} MB are needed; close other programs if that is too little)"
        )

    def _logged(self) -> str:
        return "; ".join(dict.fromkeys(self._logger.messages))[:600]
