"""The path on the GPU, on a played one: the same masks as on the CPU, and nothing left behind."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept
from cropseg_edge.errors import DeviceLostError, EngineError
from cropseg_edge.frames import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot, with_tensorrt_graphs
from tests.tiny_bundle import write_tiny_bundle


def frame(image: np.ndarray) -> Frame:
    return Frame(image, 7, "camera", 3, "name")


@pytest.fixture
def segmenter(robot: Robot, bundle: Bundle) -> Segmenter:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    return Segmenter(bundle, engine="tensorrt")


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("size", [(60, 90), (48, 64), (200, 333), (97, 41)])
def test_masks_are_those_of_the_cpu(
    robot: Robot, bundle: Bundle, integrated: bool, size: tuple[int, int], picture: np.ndarray
) -> None:
    robot.gpu.integrated = integrated
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    rows, columns = (
        np.arange(side) * old // side for side, old in zip(size, (60, 90), strict=True)
    )
    image = picture[rows][:, columns]
    with Segmenter(bundle, engine="tensorrt") as gpu, Segmenter(bundle) as cpu:
        assert (gpu.engine.name, gpu.engine.precision) == ("tensorrt", "fp16")
        mask, expected = gpu.segment(frame(image)), cpu.segment(frame(image))
        np.testing.assert_allclose(
            gpu.probabilities(image), cpu.probabilities(image), atol=0.02, rtol=0
        )
    assert mask.status is Status.OK
    assert (mask.labels == expected.labels).mean() > 0.995
    assert np.abs(mask.confidence.astype(int) - expected.confidence).max() < 20
    assert list(mask.stage_ms) == ["check", "preprocess", "engine", "fade", "decode"]
    assert all(ms >= 0 for ms in mask.stage_ms.values())


def test_a_guide_of_sub_pixels_gives_the_finer_grid_of_the_cpu(
    robot: Robot, tmp_path: Path, picture: np.ndarray
) -> None:
    tiny = write_tiny_bundle(tmp_path / "tiny.cropseg", side=2)
    bundle = with_tensorrt_graphs(tiny, tmp_path / "fine.cropseg", ("fp16",))
    build_and_accept(robot.platform(), bundle, ["fp16"])
    with Segmenter(bundle, engine="tensorrt") as gpu, Segmenter(bundle) as cpu:
        mask, expected = gpu.segment(frame(picture)), cpu.segment(frame(picture))
        fine = gpu.probabilities(picture)
        np.testing.assert_allclose(fine, cpu.probabilities(picture), atol=0.02, rtol=0)
    assert fine.shape == (3, 48, 64), "the input's own size"
    assert mask.status is Status.OK
    assert (mask.labels == expected.labels).mean() > 0.995


def test_nothing_is_allocated_in_steady_state_and_all_is_freed(
    robot: Robot, segmenter: Segmenter, picture: np.ndarray
) -> None:
    segmenter.segment(frame(picture))
    before = robot.gpu.allocations
    for _ in range(3):
        segmenter.segment(frame(picture))
        segmenter.segment(frame(picture[:50, :70]))
    assert robot.gpu.allocations == before
    segmenter.close()
    segmenter.close()
    assert robot.gpu.live == {}


def test_after_closing_every_mask_is_invalid_and_nothing_is_allocated(
    robot: Robot, segmenter: Segmenter, picture: np.ndarray
) -> None:
    segmenter.close()
    mask = segmenter.segment(frame(picture))
    assert (mask.status, mask.reason) == (Status.INVALID, "the engine is closed; make a new one")
    with pytest.raises(EngineError, match="is closed"):
        segmenter.probabilities(picture)
    assert robot.gpu.live == {}


def test_masks_stay_when_the_next_frame_comes(segmenter: Segmenter, picture: np.ndarray) -> None:
    first = segmenter.segment(frame(picture))
    kept = first.labels.copy()
    segmenter.segment(frame(picture[::-1].copy()))
    assert (first.labels == kept).all()


def test_it_may_be_used_and_closed_in_another_thread(
    robot: Robot, segmenter: Segmenter, picture: np.ndarray
) -> None:
    masks = []
    thread = threading.Thread(target=lambda: masks.append(segmenter.segment(frame(picture))))
    thread.start()
    thread.join()
    assert masks[0].status is Status.OK
    closing = threading.Thread(target=segmenter.close)
    closing.start()
    closing.join()
    assert robot.gpu.live == {}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("nan", "non-finite"),
        ("saturated", "saturated"),
        ("fails-later", "TensorRT failed to run: enqueueV3 failed"),
    ],
)
def test_what_goes_wrong_in_a_frame_protects_everything(
    robot: Robot, bundle: Bundle, picture: np.ndarray, script: str, reason: str
) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    robot.runs(f"fp16={script}")
    with Segmenter(bundle, engine="tensorrt") as segmenter:
        for _ in range(10 if script == "fails-later" else 0):
            assert segmenter.segment(frame(picture)).status is Status.OK
        mask = segmenter.segment(frame(picture))
        assert mask.status is Status.INVALID
        assert reason in mask.reason
        assert (mask.labels == 255).all()
        assert not segmenter.lost


def test_a_constant_output_protects_everything(
    segmenter: Segmenter, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = segmenter._path
    monkeypatch.setattr(path.engine, "enqueue", lambda: _zero_outputs(path))  # type: ignore[attr-defined]
    mask = segmenter.segment(frame(picture))
    assert (mask.status, mask.reason) == (Status.INVALID, "constant output of the network")


def _zero_outputs(path: object) -> None:
    context = path.engine._context  # type: ignore[attr-defined]
    for name in ("logits", "kernels_high", "kernels_low", "guide", "gate"):
        context._array(name)[...] = 0


def test_a_gpu_that_is_lost_says_that_a_new_process_is_needed(
    robot: Robot, bundle: Bundle, picture: np.ndarray
) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    robot.runs("fp16=lost-later")
    segmenter = Segmenter(bundle, engine="tensorrt")
    for _ in range(10):
        mask = segmenter.segment(frame(picture))
    assert mask.status is Status.INVALID
    assert "started anew" in mask.reason
    assert "started anew" in segmenter.lost
    with pytest.raises(DeviceLostError, match="started anew"):
        segmenter.segment(frame(picture))
    segmenter.close()


def test_without_a_cuda_graph_it_says_so_and_runs(
    robot: Robot, bundle: Bundle, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    caplog.set_level(logging.INFO)
    with Segmenter(bundle, engine="tensorrt") as segmenter:
        assert segmenter.segment(frame(picture)).status is Status.OK
    assert "without a CUDA graph" in caplog.text


def test_an_engine_with_other_tensors_is_refused(robot: Robot, bundle: Bundle) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    robot.runs("fp16=int64")
    with pytest.raises(EngineError, match=r"image is DataType.INT64, expected FLOAT or HALF"):
        Segmenter(bundle, engine="tensorrt")
    assert robot.gpu.live == {}
