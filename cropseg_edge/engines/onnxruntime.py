"""The reference engine: a bundle's graph in ONNX Runtime on the CPU."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.integers import int8_is_exact
from cropseg_edge.engines.shapes import output_shapes
from cropseg_edge.errors import BundleError, EngineError
from cropseg_edge.fade.compiled import library

log = logging.getLogger("cropseg_edge.engines")

_MOST_THREADS = 4


class OnnxRuntimeEngine:
    """Runs a bundle's graph with fixed, preallocated inputs and outputs.

    Args:
        bundle: the checked bundle.
        threads: of one run; None takes the physical cores this process may use, at most 4.
        precision: fp32 or int8; None takes the bundle's default, but FP32 where this processor
            adds 8-bit products wrongly, and says so.

    Raises:
        BundleError: ONNX Runtime does not understand the graph, or there is none of that precision.
        EngineError: the graph's inputs and outputs are not those of the manifest.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, threads: int | None = None, precision: str | None = None
    ) -> None:
        import onnxruntime as ort

        self.precision: str = precision or bundle.default_precision(self.name)
        if self.precision == "int8" and not int8_is_exact():
            self.precision = precision or "fp32"
            log.warning(
                "this processor adds 8-bit products in 16 bits, which saturate: masks of INT8 are "
                "wrong here; %s",
                "INT8 runs as asked for" if precision else "FP32 runs instead",
            )
        if threads is not None and threads < 1:
            raise EngineError(f"threads must be at least 1, got {threads}")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        self.threads = threads or min(_MOST_THREADS, physical_cores())
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Spinning workers gain a tenth of a run; they must not burn a core between frames, too.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        add_operators(options)
        try:
            self._session: Any = ort.InferenceSession(
                bundle.graph(self.name, self.precision),
                options,
                providers=["CPUExecutionProvider"],
            )
        except runtime_errors() as error:
            raise BundleError(
                f"{bundle.path.name}: ONNX Runtime {ort.__version__} refuses the graph: "
                f"{first_line(error)}"
            ) from error
        spec = bundle.manifest.input
        self._input = spec.tensor
        self._shape = (1, 3, spec.height, spec.width)
        self._check(bundle)
        self._binding: Any = self._session.io_binding()
        self._outputs = self._bind_outputs(bundle)

    def infer(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network; see `Engine.infer`. The same output buffers come back each time."""
        if self._session is None:
            raise EngineError("the engine is closed; make a new one")
        if image.shape != self._shape or image.dtype != np.float32 or not image.flags.c_contiguous:
            raise EngineError(
                f"the network takes contiguous float32 {list(self._shape)}, "
                f"got {image.dtype} {list(image.shape)}"
            )
        self._binding.bind_input(self._input, "cpu", 0, np.float32, self._shape, image.ctypes.data)
        try:
            self._session.run_with_iobinding(self._binding)
        except runtime_errors() as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error
        return self._outputs

    def close(self) -> None:
        """Free the session; idempotent."""
        self._session = self._binding = None
        self._outputs = {}

    def _check(self, bundle: Bundle) -> None:
        spec, name = bundle.manifest.input, bundle.path.name
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        if list(inputs) != [spec.tensor]:
            raise EngineError(f"{name}: the graph takes {sorted(inputs)}, expected {[spec.tensor]}")
        _check_tensor(name, inputs[spec.tensor], self._shape)
        outputs = {tensor.name: tensor for tensor in self._session.get_outputs()}
        for key, expected in _output_shapes(bundle, outputs).items():
            _check_tensor(name, outputs[key], expected)

    def _bind_outputs(self, bundle: Bundle) -> dict[str, NDArray[np.float32]]:
        graph = {tensor.name: tensor for tensor in self._session.get_outputs()}
        buffers = {}
        for key, shape in _output_shapes(bundle, graph).items():
            buffers[key] = np.zeros(shape, np.float32)
            self._binding.bind_output(key, "cpu", 0, np.float32, shape, buffers[key].ctypes.data)
        return buffers


def add_operators(options: Any) -> bool:
    """Let a session compute `cropseg` nodes by the compiled library; whether there is one.

    Without it, ONNX Runtime runs the standard operators that such a node is made of.
    """
    compiled = library()
    if compiled is None:
        return False
    try:
        options.register_custom_ops_library(compiled._name)
    except runtime_errors() as error:
        log.warning(
            "ONNX Runtime does not take the compiled operators (%s); its own take their place",
            first_line(error),
        )
        return False
    return True


def physical_cores() -> int:
    """Physical cores that this process may run on (its own count where Linux does not tell)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    siblings = set()
    for core in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        try:
            siblings.add(path.read_text())
        except OSError:
            siblings.add(str(core))
    return max(1, len(siblings))


def _output_shapes(bundle: Bundle, graph: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = {name: tensor.shape for name, tensor in graph.items()}
    return output_shapes(bundle.path.name, bundle.manifest, shapes)


def _check_tensor(label: str, tensor: Any, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected or tensor.type != "tensor(float)":
        raise EngineError(
            f"{label}: {tensor.name} must be tensor(float) {list(expected)}, "
            f"got {tensor.type} {tensor.shape}; export the bundle again"
        )


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own classes have no base in common but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (x for x in vars(state).values() if isinstance(x, type) and issubclass(x, Exception))
    return (*own, RuntimeError, ValueError, MemoryError)


def first_line(error: Exception) -> str:
    """The first line of a message, at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
