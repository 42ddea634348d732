"""What every fault must end in: a message with the reason, and ONNX Runtime at work."""

from pathlib import Path

import numpy as np
import pytest

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept
from cropseg_edge.errors import EngineError
from cropseg_edge.frames import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot


def built(robot: Robot, bundle: Bundle, precision: str = "fp16") -> tuple[Path, Path]:
    """An accepted engine and its sidecar; built once, then copied."""
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, [precision]))
    (engine,) = robot.cache.glob(f"*-{precision}.engine")
    return engine, engine.with_suffix(".json")


def assert_falls_back(
    bundle: Bundle, picture: np.ndarray, caplog: pytest.LogCaptureFixture, *reasons: str
) -> None:
    """`tensorrt` refuses with the reasons, `auto` warns with them and segments on the CPU."""
    with pytest.raises(EngineError) as caught:
        Segmenter(bundle, engine="tensorrt", precision="fp16")
    caplog.clear()
    with Segmenter(bundle, engine="auto", precision="fp16", threads=1) as segmenter:
        assert segmenter.engine.name == "onnxruntime"
        assert segmenter.segment(Frame(picture, 0, "", 0, "name")).status is Status.OK
    assert "ONNX Runtime on the CPU is used" in caplog.text
    for reason in reasons:
        assert reason in str(caught.value)
        assert reason in caplog.text
