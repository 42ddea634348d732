"""NVIDIA's modelopt as another way to TensorRT's INT8 graph; an optional package."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.bundles import Quantized
from calibration.fp16 import to_fp16
from calibration.lint import lint
from cropseg_edge.errors import BundleError, ConfigError


def check_modelopt() -> None:
    """Raise ConfigError where modelopt is not installed: asked before any range is measured."""
    try:
        import modelopt.onnx.quantization  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "backend modelopt needs `pip install nvidia-modelopt[onnx]` in an environment of its "
            f"own, for it brings another ONNX Runtime ({error})"
        ) from error


def quantize_with_modelopt(
    made: Quantized, inputs: Iterable[NDArray[np.float32]]
) -> tuple[bytes, str]:
    """The INT8 graph with modelopt's scales on our choice of layers, cast to FP16; and its name.

    Raises:
        ConfigError: modelopt is not installed.
        BundleError: its graph breaks a rule of `lint`.
    """
    check_modelopt()
    import modelopt
    from modelopt.onnx.quantization import quantize

    name = made.folded.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(made.folded, source)
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data={name: np.concatenate(list(inputs))},
            calibration_method="max",
            calibration_eps=["cpu"],
            disable_mha_qdq=True,
            op_types_to_quantize=["Conv", "Gemm"],
            nodes_to_exclude=list(made.kept),
            high_precision_dtype="fp32",
            output_path=str(target),
        )
        model = to_fp16(onnx.load(target))
    if findings := lint(model):
        first = findings[0]
        raise BundleError(f"modelopt's graph breaks {first.rule} at {first.node}: {first.message}")
    return model.SerializeToString(), f"modelopt {modelopt.__version__}"
