"""The range of every activation over the calibration frames: min-max, percentile or entropy."""

import io
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.layers import candidates
from cropseg_edge.errors import ConfigError

Method = Literal["minmax", "percentile", "entropy"]
Range = tuple[float, float]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")


def activation_ranges(
    model: ModelProto,
    pictures: Iterable[NDArray[np.float32]],
    method: Method = "percentile",
    percentile: float = 99.999,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Range]:
    """Lowest and highest value of each tensor that quantization looks at.

    Args:
        model: as `simplify` gives it.
        pictures: network inputs float32 [1, 3, H, W], normalised.
        method: minmax takes the extremes; percentile leaves out what lies beyond it on either
            side; entropy takes the range whose histogram loses least (Kullback-Leibler).
        percentile: of `method` percentile, 50 to 100.
        progress: called with the number of pictures done.

    Raises:
        ConfigError: no picture, or a tensor is not finite.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    name = model.graph.input[0].name
    # ONNX Runtime's calibrators print what they do; our own progress says it better.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        calibrator = create_calibrator(
            source,
            sorted(_observed_types(model)),
            str(Path(folder) / "augmented.onnx"),
            methods[method],
            providers=["CPUExecutionProvider"],
            extra_options={"percentile": percentile} if method == "percentile" else {},
        )
        done = 0
        for done, picture in enumerate(pictures, 1):  # one at a time: all tensors are kept
            calibrator.collect_data(_OneFrame({name: picture}))
            if progress:
                progress(done)
        if not done:
            raise ConfigError("no calibration frame; `python -m calibration select` finds some")
        data = calibrator.compute_data().data
    found = {key: tuple(float(np.min(v)) for v in value.range_value) for key, value in data.items()}
    for key, limits in found.items():
        if not np.isfinite(limits).all():
            raise ConfigError(f"tensor {key} is not finite over the frames: {limits}")
    return {key: (low, high) for key, (low, high) in found.items()}


def _observed_types(model: ModelProto) -> set[str]:
    """The quantized types and those that stand between a convolution and its output's scale."""
    chosen = set(candidates(model))
    return {node.op_type for node in model.graph.node if node.name in chosen} | {"Relu", "MaxPool"}


class _OneFrame:
    """What ONNX Runtime's calibrators read from: one frame, then the end."""

    def __init__(self, feed: dict[str, NDArray[np.float32]]) -> None:
        self._feed: dict[str, NDArray[np.float32]] | None = feed

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feed, self._feed = self._feed, None
        return feed
