"""Small parts: the CUDA graph's calls, the release of Jetson Linux, memory, progress, settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cropseg_edge.engines.choice import open_path
from cropseg_edge.engines.tensorrt.buffers import SharedBuffer
from cropseg_edge.engines.tensorrt.build_process import Step
from cropseg_edge.engines.tensorrt.builder import build
from cropseg_edge.engines.tensorrt.cuda_graph import CudaGraph
from cropseg_edge.engines.tensorrt.device import (
    available_memory_mb,
    board_model,
    l4t_release,
    primary_context,
)
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import ConfigError, DeviceMemoryError, EngineError
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot


class PlayedDriver:
    """libcuda's graph functions: notes the calls, fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[str] = []
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self._fails:
                return 901
            if name == "cuStreamEndCapture":
                arguments[1]._obj.value = 0xABC
            if name == "cuGraphInstantiateWithFlags":
                arguments[0]._obj.value = 0xDEF
            return 0

        return call


def test_a_graph_is_captured_once_launched_often_and_freed_once() -> None:
    driver = PlayedDriver()
    graph = CudaGraph(5, lambda: driver.calls.append("work"), driver)  # type: ignore[arg-type]
    graph.launch()
    graph.launch()
    graph.close()
    graph.close()
    assert driver.calls == [
        "cuStreamBeginCapture_v2",
        "work",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


@pytest.mark.parametrize(
    "fails", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_a_capture_that_fails_leaves_the_stream_usable(fails: str) -> None:
    driver = PlayedDriver(fails)
    with pytest.raises(EngineError, match="901"):
        CudaGraph(5, lambda: None, driver)  # type: ignore[arg-type]
    assert driver.calls.count("cuStreamBeginCapture_v2") == 1
    if fails != "cuStreamBeginCapture_v2":
        assert "cuStreamEndCapture" in driver.calls


def test_memory_that_runs_out_in_a_launch_says_nothing_of_the_engine() -> None:
    driver = PlayedDriver()
    graph = CudaGraph(5, lambda: None, driver)  # type: ignore[arg-type]
    driver.cuGraphLaunch = lambda *_: 2  # type: ignore[attr-defined]
    with pytest.raises(DeviceMemoryError, match="cuGraphLaunch gave CUDA error 2"):
        graph.launch()


def test_a_timing_cache_of_another_device_is_begun_anew(robot: Robot, bundle) -> None:
    import tensorrt

    def timings(before: bytes) -> bytes:
        graph = bundle.graph("tensorrt", "fp16")
        return build(tensorrt, graph, BuildSettings(), before, lambda *_: None).timing_cache

    assert timings(b"another device's") == b"timings"
    assert timings(b"of this one") == b"of this one"


def test_a_buffer_that_the_gpu_has_no_room_for_can_be_asked_for_again(robot: Robot) -> None:
    platform = robot.platform()
    buffer = SharedBuffer(platform.cuda, integrated=False)
    context = primary_context(platform.cuda)
    context.push()
    try:
        robot.gpu.budget = 100
        for _ in range(2):
            with pytest.raises(platform.cuda.MemoryError):
                buffer.reserve(200)
        robot.gpu.budget = 1000
        buffer.reserve(200)
        assert buffer.address
        buffer.free()
    finally:
        context.pop()
    assert robot.gpu.live == {}


def test_work_that_fails_while_it_is_captured_ends_the_capture() -> None:
    driver = PlayedDriver()

    def fails() -> None:
        raise EngineError("refused")

    with pytest.raises(EngineError, match="refused"):
        CudaGraph(5, fails, driver)  # type: ignore[arg-type]
    assert driver.calls[-1] == "cuGraphDestroy"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64", "36.4.0"),
        ("# R39 (release), REVISION: 2.1, GCID: 1", "39.2.1"),
        ("something else", "unknown"),
        (None, ""),
    ],
)
def test_the_release_of_jetson_linux(tmp_path: Path, text: str | None, release: str) -> None:
    path = tmp_path / "nv_tegra_release"
    if text is not None:
        path.write_text(text)
    assert l4t_release(path) == release


def test_the_model_of_the_board(tmp_path: Path) -> None:
    path = tmp_path / "model"
    assert board_model(path) == ""
    path.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert board_model(path) == "NVIDIA Jetson AGX Orin Developer Kit"


def test_available_memory_counts_free_swap_on_disk(tmp_path: Path) -> None:
    path, swaps = tmp_path / "meminfo", tmp_path / "swaps"
    assert available_memory_mb(path, swaps) is None
    path.write_text("MemTotal:        7800000 kB\nMemAvailable:    2048000 kB\n")
    assert available_memory_mb(path, swaps) == 2000
    swaps.write_text(
        "Filename Type Size Used Priority\n"
        "/dev/zram0 partition 3900000 0 5\n"
        "/swapfile file 8192000 1024000 -2\n"
    )
    assert available_memory_mb(path, swaps) == 9000
    path.write_text("nothing\n")
    assert available_memory_mb(path, swaps) is None


@pytest.mark.parametrize(
    "values", [{"workspace_mb": 0}, {"optimization_level": 6}, {"speed": 1}, {"max_memory_mb": -1}]
)
def test_settings_are_checked(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        BuildSettings.model_validate(values)


def test_an_unknown_engine_is_refused(bundle) -> None:
    with pytest.raises(ConfigError, match="auto, tensorrt, onnxruntime, got 'openvino'"):
        open_path(bundle, "openvino")  # type: ignore[arg-type]


def test_a_builder_that_cannot_start_is_a_sentence(robot: Robot, monkeypatch) -> None:
    """What pybind11 raises on a machine without a driver."""
    import tensorrt

    def nothing(logger: object) -> None:
        logger.log(tensorrt.ILogger.ERROR, "CUDA initialization failure with error: 35")  # type: ignore[attr-defined]
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt, "Builder", nothing)
    with pytest.raises(EngineError, match=r"cannot start: CUDA initialization failure.*GPU"):
        build(tensorrt, b"", BuildSettings())


def test_progress_ticks(robot: Robot, bundle) -> None:
    from cropseg_edge.engines.tensorrt.build import build_engine

    robot.builds("fp16=slow")
    steps: list[Step] = []
    build_engine(robot.platform(), bundle, "fp16", BuildSettings(), tick=steps.append)
    begun = next(step for step in steps if step.phase)
    assert (begun.phase, begun.done, begun.of) == ("Building engine", 0, 2)
    assert (steps[-1].done, steps[-1].of) == (1, 2)
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)


def test_a_precision_that_onnx_runtime_lacks_falls_back_to_its_default(
    robot: Robot, bundle, caplog
) -> None:
    with Segmenter(bundle, engine="auto", precision="fp16", threads=1) as segmenter:
        assert (segmenter.engine.name, segmenter.engine.precision) == ("onnxruntime", "fp32")
    assert "ONNX Runtime has no fp16 graph" in caplog.text
