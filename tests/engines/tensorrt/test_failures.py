"""What an engine does that fails while it is at work, and a process that is told to end."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.accept import MOST_LOSSES, first_run, forget_starts
from cropseg_edge.engines.tensorrt.build import build_and_accept
from cropseg_edge.engines.tensorrt.path import MOST_FAILURES
from cropseg_edge.errors import DeviceLostError, EngineError
from cropseg_edge.frames import Frame
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot


def segment(segmenter: Segmenter, picture: np.ndarray, frames: int = 1) -> CropMask:
    """The mask of the last of so many frames."""
    for _ in range(frames):
        mask = segmenter.segment(Frame(picture, 0, "", 0, "name"))
    return mask


@pytest.fixture
def accepted(robot: Robot, bundle: Bundle) -> Callable[[str], Segmenter]:
    """Opens the accepted engine, which then follows a script."""
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))

    def open_with(script: str) -> Segmenter:
        robot.runs(f"fp16={script}")
        return Segmenter(bundle, engine="auto")

    return open_with


def test_an_engine_that_fails_on_frame_after_frame_is_given_up_and_makes_way(
    accepted, robot: Robot, bundle: Bundle, picture: np.ndarray, caplog
) -> None:
    segmenter = accepted("fails-later")
    assert segment(segmenter, picture, 10).status is Status.OK
    for left in reversed(range(MOST_FAILURES)):
        mask = segment(segmenter, picture)
        assert mask.status is Status.INVALID
        assert (mask.labels == 255).all()
        assert bool(segmenter.lost) == (left == 0)
    with pytest.raises(DeviceLostError, match=r"failed on 5 frames in a row.*started anew"):
        segment(segmenter, picture)
    segmenter.close()
    assert caplog.text.count("enqueueV3 failed") == 2  # the first, and the one that ends it
    robot.runs("")
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == "onnxruntime"
    with pytest.raises(EngineError, match=r"quarantined since .*5 frames in a row.*--force"):
        Segmenter(bundle, engine="tensorrt")


def test_memory_that_runs_out_for_one_frame_is_asked_for_again(
    accepted, robot: Robot, picture: np.ndarray
) -> None:
    with accepted("memory-once") as segmenter:
        for _ in range(20):
            assert segment(segmenter, picture).status is Status.OK


@pytest.mark.parametrize(
    ("script", "reason"), [("memory-later", "out of memory"), ("nan-later", "non-finite")]
)
def test_what_goes_on_failing_ends_the_process_and_quarantines_at_the_third_time(
    accepted, robot: Robot, bundle: Bundle, picture: np.ndarray, script: str, reason: str
) -> None:
    for losses in range(1, MOST_LOSSES + 1):
        with accepted(script) as segmenter:
            segment(segmenter, picture, 5)
            while segment(segmenter, picture).status is Status.OK:
                pass
            mask = segment(segmenter, picture, MOST_FAILURES - 1)
            assert reason in mask.reason
            assert segmenter.lost
        assert robot.platform().cache.sidecar(bundle, "fp16").losses == losses
    with accepted(script) as segmenter:
        assert segmenter.engine.name == "onnxruntime"


def test_failures_that_are_not_in_a_row_are_only_invalid_masks(
    accepted, robot: Robot, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = accepted("")
    segmented, calls = segmenter._path._segment, iter(range(100))

    def every_second(*arguments: object) -> object:
        if next(calls) % 2:
            raise EngineError("refused")
        return segmented(*arguments)

    monkeypatch.setattr(segmenter._path, "_segment", every_second)
    for _ in range(3 * MOST_FAILURES):
        assert segment(segmenter, picture).status is Status.OK
        assert segment(segmenter, picture).status is Status.INVALID
    assert not segmenter.lost
    segmenter.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_that_is_told_to_end_while_it_loads_is_no_crash(
    accepted, robot: Robot, bundle: Bundle, number: signal.Signals
) -> None:
    loads = robot.count("load")
    robot.runs("fp16=slow-load")
    code = (
        "import sys; from pathlib import Path; from cropseg_edge.segmenter import Segmenter; "
        "Segmenter(Path(sys.argv[1]), engine='tensorrt')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, bundle.path], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while robot.count("load") == loads and time.monotonic() < until:
        time.sleep(0.05)
    assert robot.platform().cache.sidecar(bundle, "fp16").starts == 1
    process.send_signal(number)
    ended_by_python = {signal.SIGINT: -signal.SIGINT}.get(number, 128 + number)
    assert process.wait(5) == ended_by_python
    assert robot.platform().cache.sidecar(bundle, "fp16").starts == 0


def test_a_thread_can_take_the_mark_back(accepted, robot: Robot, bundle: Bundle) -> None:
    cache = robot.platform().cache
    with first_run(cache, bundle, "fp16", _engine(robot, bundle)):
        assert cache.sidecar(bundle, "fp16").starts == 1
        thread = threading.Thread(target=forget_starts)
        thread.start()
        thread.join()
        assert cache.sidecar(bundle, "fp16").starts == 0


def test_who_waits_for_another_process_says_so_and_not_for_long(
    accepted, robot: Robot, bundle: Bundle, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.accept._START_S", 0.3)
    with robot.platform().cache.lock(bundle, "fp16"), accepted("") as segmenter:
        assert segmenter.engine.name == "tensorrt"
    assert "another process builds or opens the fp16 engine; waiting for it" in caplog.text


def _engine(robot: Robot, bundle: Bundle) -> object:
    from cropseg_edge.engines.tensorrt.open import read_accepted

    return read_accepted(robot.platform(), bundle, "fp16")
