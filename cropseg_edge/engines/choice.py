"""Which engine runs: `auto`, `tensorrt` or `onnxruntime`, as every command and node offers it."""

import logging
from typing import Literal, get_args

from cropseg_edge.bundle import Bundle
from cropseg_edge.cpu_path import CpuPath
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine
from cropseg_edge.engines.protocol import FramePath
from cropseg_edge.errors import BundleError, ConfigError, EngineError

log = logging.getLogger("cropseg_edge.engines")

EngineChoice = Literal["auto", "tensorrt", "onnxruntime"]
CHOICES: tuple[EngineChoice, ...] = get_args(EngineChoice)


def open_path(
    bundle: Bundle,
    engine: EngineChoice,
    *,
    threads: int | None = None,
    precision: str | None = None,
    build_if_missing: bool = False,
) -> FramePath:
    """Open the chosen engine with what goes around it.

    Args:
        bundle: the bundle.
        engine: tensorrt takes an engine that was accepted on this device; onnxruntime the CPU;
            auto the first where there is one, else the second. It warns of that where TensorRT
            was to be expected: it is installed, or this is a Jetson.
        threads: of ONNX Runtime.
        precision: None takes the fastest accepted TensorRT engine, or the bundle's default.
        build_if_missing: build and try TensorRT engines first, where none is accepted. Takes
            minutes.

    Raises:
        ConfigError: there is no such choice.
        EngineError: the chosen engine cannot be used; the message says why.
        BundleError: the bundle has no graph of that precision.
    """
    if engine not in CHOICES:
        raise ConfigError(f"engine must be one of {', '.join(CHOICES)}, got {engine!r}")
    if engine == "onnxruntime":
        return _on_the_cpu(bundle, threads, precision)
    from cropseg_edge.engines.tensorrt.open import open_accepted
    from cropseg_edge.engines.tensorrt.platform import load_platform, tensorrt_expected

    try:
        return open_accepted(load_platform(), bundle, precision, build_if_missing=build_if_missing)
    except (EngineError, BundleError) as error:
        if engine == "tensorrt":
            raise
        if tensorrt_expected():
            log.warning("ONNX Runtime on the CPU is used, not TensorRT: %s", error)
    if precision not in (None, *bundle.manifest.precisions("onnxruntime")):
        log.warning("ONNX Runtime has no %s graph in this bundle; it runs the default", precision)
        precision = None
    return _on_the_cpu(bundle, threads, precision)


def _on_the_cpu(bundle: Bundle, threads: int | None, precision: str | None) -> FramePath:
    engine = OnnxRuntimeEngine(bundle, threads, precision)
    return CpuPath(bundle, engine, engine.threads)
