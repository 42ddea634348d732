"""The part of TensorRT that is used, played by ONNX Runtime: an engine is its graph.

The environment scripts it, in the process that builds as well: FAKE_TENSORRT_BUILD and
FAKE_TENSORRT_RUN hold words such as "fp16=nan int8=wrong"; the precision is in the graph's
doc_string. FAKE_TENSORRT_LOG names a file that gets a line for every build and every load.
"""

import atexit
import ctypes
import os
import re
import signal
import time
from enum import IntEnum

import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0")
MAGIC = b"plan:"
float32, float16 = "DataType.FLOAT", "DataType.HALF"


class ILogger:
    """As in TensorRT."""

    ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"


class NetworkDefinitionCreationFlag(IntEnum):
    """As in TensorRT 10.3."""

    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    """As in TensorRT."""

    WORKSPACE, TACTIC_DRAM = 0, 4


class IProgressMonitor:
    """As in TensorRT."""


def _script(variable: str, graph: bytes) -> str:
    precision = re.search(rb"precision (fp32|fp16|int8)", graph)[1].decode()
    words = dict(word.split("=") for word in os.environ.get(variable, "").split())
    return words.get(precision, words.get("all", ""))


def _note(line: str) -> None:
    if path := os.environ.get("FAKE_TENSORRT_LOG"):
        with open(path, "a") as file:
            file.write(line + "\n")


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data or b"timings"


class _Config:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.progress_monitor = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert size > 0

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        return _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        return cache.data != b"another device's"


class _Network:
    graph = b""


class Builder:
    """Gives the graph back as the plan."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> _Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        script = _script("FAKE_TENSORRT_BUILD", network.graph)
        _note(f"build {script}")
        config.progress_monitor.phase_start("Building engine", None, 2)
        if script == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        if script == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if script == "memory":
            self._logger.log(ILogger.ERROR, "[defaultAllocator.cpp] Cuda Runtime (out of memory)")
            return None
        if script == "slow":
            time.sleep(1)
        config.progress_monitor.step_complete("Building engine", 0)
        config.progress_monitor.phase_finish("Building engine")
        return MAGIC + network.graph


class OnnxParser:
    """Takes every graph."""

    num_errors = 0

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network = network

    def parse(self, graph: bytes) -> bool:
        self._network.graph = graph
        return True


class Runtime:
    """Loads a plan; one that no check should have let through ends the process, as in life."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "_Engine | None":
        _note("load")
        if not plan.startswith(MAGIC):
            os.kill(os.getpid(), signal.SIGSEGV)
        if _script("FAKE_TENSORRT_RUN", plan) == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if _script("FAKE_TENSORRT_RUN", plan) == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if _script("FAKE_TENSORRT_RUN", plan) == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        if _script("FAKE_TENSORRT_RUN", plan) == "ends-badly":
            atexit.register(lambda: (os.write(2, b"[TRT] some last words\n"), os.abort()))
        if _script("FAKE_TENSORRT_RUN", plan) == "slow-load":
            time.sleep(6)
        if _script("FAKE_TENSORRT_RUN", plan) == "refused":
            self._logger.log(ILogger.ERROR, "Serialization assertion failed: version tag")
            return None
        if _script("FAKE_TENSORRT_RUN", plan) == "unloadable":
            self._logger.log(ILogger.ERROR, "out of memory")
            return None
        return _Engine(plan[len(MAGIC) :], self._logger)


class _Engine:
    device_memory_size_v2 = 100 << 20

    def __init__(self, graph: bytes, logger: ILogger) -> None:
        import onnxruntime

        self.graph, self.logger = graph, logger
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.shapes = {tensor.name: tensor.shape for tensor in tensors}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "DataType.INT64" if _script("FAKE_TENSORRT_RUN", self.graph) == "int64" else float32

    def create_execution_context(self) -> "_Context | None":
        script = _script("FAKE_TENSORRT_RUN", self.graph)
        return None if script == "memory" else _Context(self, script)


class _Context:
    def __init__(self, engine: _Engine, script: str) -> None:
        self._engine, self._script, self._runs = engine, script, 0
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        from pycuda.driver import State

        if self._script == "fails" or (self._script == "fails-later" and self._runs > 10):
            self._engine.logger.log(ILogger.ERROR, "enqueueV3 failed")
            return False
        self._runs += 1
        if (self._script == "memory-later" and self._runs > 10) or (
            self._script == "memory-once" and self._runs == 11
        ):
            self._engine.logger.log(ILogger.ERROR, "Cuda Runtime (out of memory)")
            return False
        if self._script == "lost" or (self._script == "lost-later" and self._runs > 10):
            State.lost = True
            return False
        session = self._engine.session
        name = session.get_inputs()[0].name
        outputs = [tensor.name for tensor in session.get_outputs()]
        results = session.run(outputs, {name: self._array(name)})
        for output, result in zip(outputs, results, strict=True):
            if output == "logits":
                result = self._spoilt(result)
            if self._script == "wrong" and output == "guide":
                result = result[:, ::-1]
            self._array(output)[...] = result
        return True

    def _array(self, name: str) -> np.ndarray:
        shape = tuple(self._engine.shapes[name])
        pointer = ctypes.cast(self._addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def _spoilt(self, logits: np.ndarray) -> np.ndarray:
        if self._script == "nan" or (self._script == "nan-later" and self._runs > 10):
            logits[..., 3, 4] = np.nan
        if self._script == "saturated":
            logits[..., 3, 4] = 65504
        return logits[:, ::-1] if self._script == "wrong" else logits
