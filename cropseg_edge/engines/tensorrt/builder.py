"""From an ONNX graph to a serialised engine, with whichever TensorRT module is given.

One way for TensorRT 10.3 to 11.4 and TensorRT-RTX: the network is strongly typed, its types are
those of the graph, no precision flag is ever set. What one version lacks is looked up.
"""

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import BundleError, EngineError

MB = 1 << 20
LOGGED = 5  # errors of TensorRT that ours quote, the last ones
Progress = Callable[[str, int, int], None]  # phase at work, steps of the whole done, steps in all


class Parsed(NamedTuple):
    """A parsed network. The parser owns the weights: it must live as long as the network."""

    builder: Any
    network: Any
    parser: Any
    logger: Any


class Built(NamedTuple):
    """A serialised engine, and the timing cache for the next build; empty if there is none."""

    plan: bytes
    timing_cache: bytes


@cache
def the_logger(trt: Any) -> Any:
    """The logger of a TensorRT module: prints nothing and keeps the last errors in `messages`.

    There is one, because TensorRT keeps the first that it gets for everything after it.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: deque[str] = deque(maxlen=LOGGED)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.messages.append(msg.strip())

    return Logger()


def parse(trt: Any, graph: bytes) -> Parsed:
    """Parse a graph into a strongly typed network.

    Args:
        trt: the module: `tensorrt`, or `tensorrt_rtx`.
        graph: the ONNX file; its weights are inside.

    Raises:
        EngineError: TensorRT cannot work here (no driver, no GPU).
        BundleError: TensorRT refuses the graph; the message names the first nodes.
    """
    logger = the_logger(trt)
    logger.messages.clear()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what pybind11 raises where the constructor gave nothing
        raise EngineError(
            f"TensorRT {trt.__version__} cannot start: {_logged(logger) or error}; "
            "is there an NVIDIA GPU with a driver? `cropseg doctor` tells more"
        ) from error
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        named = [f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors[:3]]
        raise BundleError(
            f"TensorRT {trt.__version__} refuses {len(errors)} nodes of the graph: "
            f"{'; '.join(named) or _logged(logger)}. Run `python -m calibration lint` on the "
            "bundle and export it again"
        )
    return Parsed(builder, network, parser, logger)


def build(
    trt: Any,
    graph: bytes,
    settings: BuildSettings,
    timing_cache: bytes | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build a serialised engine. Takes minutes on a small board.

    Args:
        trt: the module: `tensorrt`, or `tensorrt_rtx`.
        graph: the ONNX file.
        settings: of the builder.
        timing_cache: of an earlier build, b"" for a new one, None to go without.
        progress: called from TensorRT's threads.

    Raises:
        EngineError: TensorRT cannot work here, or the build failed.
        BundleError: TensorRT refuses the graph.
    """
    parsed = parse(trt, graph)
    config = parsed.builder.create_builder_config()
    pools = trt.MemoryPoolType
    config.set_memory_pool_limit(pools.WORKSPACE, settings.workspace_mb * MB)
    if settings.max_memory_mb:
        config.set_memory_pool_limit(pools.TACTIC_DRAM, settings.max_memory_mb * MB)
    config.builder_optimization_level = settings.optimization_level
    timings = None
    if timing_cache is not None:
        timings = config.create_timing_cache(timing_cache)
        if not timings or not config.set_timing_cache(timings, ignore_mismatch=False):
            timings = config.create_timing_cache(b"")  # it was another device's
            config.set_timing_cache(timings, ignore_mismatch=False)
    monitor = _monitor(trt, progress) if progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} built no engine: {_logged(parsed.logger) or 'no reason'}"
        )
    return Built(bytes(plan), b"" if timings is None else bytes(timings.serialize()))


def _monitor(trt: Any, progress: Progress) -> Any:
    base = getattr(trt, "IProgressMonitor", None)  # since TensorRT 8.6
    if base is None:
        return None

    class Monitor(base):  # type: ignore[misc, valid-type]
        """TensorRT calls it from several threads. The outermost phase counts the steps."""

        def __init__(self) -> None:
            base.__init__(self)  # type: ignore[misc]
            self._outermost, self._done, self._of = "", 0, 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._outermost, self._done, self._of = phase_name, 0, num_steps
            progress(phase_name, self._done, self._of)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self._outermost:
                self._done = step + 1
                progress(phase_name, self._done, self._of)
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def _logged(logger: Any) -> str:
    return "; ".join(dict.fromkeys(logger.messages))[:1000]
