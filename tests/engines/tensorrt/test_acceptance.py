"""Only an engine whose golden masks are right runs; what fails makes way for the next."""

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.engines.tensorrt.accept import accept, count_loss
from cropseg_edge.engines.tensorrt.build import build_and_accept, build_engine
from cropseg_edge.engines.tensorrt.path import TensorRtPath
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import EngineError
from cropseg_edge.frames import Frame
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot
from tests.engines.tensorrt.fallback import assert_falls_back, built


@pytest.mark.parametrize(
    ("script", "reason"),
    [("nan", "NaN or infinity"), ("wrong", "mask IoU"), ("fails", "TensorRT failed to run")],
)
def test_an_engine_that_fails_is_quarantined_until_it_is_built_again(
    robot: Robot, bundle: Bundle, picture, caplog, script: str, reason: str
) -> None:
    robot.runs(f"fp16={script}")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "quarantined" in said[-1]
    assert reason in said[-1]
    robot.runs("")
    assert_falls_back(bundle, picture, caplog, "quarantined since", reason)
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "--force" in said[-1]
    assert build_and_accept(robot.platform(), bundle, ["fp16"], force=True)
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == "tensorrt"


@pytest.mark.parametrize(
    ("script", "accepted"),
    [
        ("", ["int8", "fp16"]),
        ("int8=nan", ["fp16"]),
        ("int8=wrong fp16=nan", ["fp32"]),
        ("int8=wrong fp16=nan fp32=fails", []),
    ],
)
def test_the_chain_goes_on_to_the_next_precision(
    robot: Robot, bundle: Bundle, script: str, accepted: list[str]
) -> None:
    robot.runs(script)
    said: list[str] = []
    assert list(build_and_accept(robot.platform(), bundle, say=said.append)) == accepted
    for word in script.split():
        precision = word.split("=")[0]
        assert any(line.startswith(f"{precision}: quarantined: ") for line in said)
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == ("tensorrt" if accepted else "onnxruntime")
        assert segmenter.engine.precision in (accepted or ["fp32"])


def test_the_fastest_accepted_engine_is_taken(robot: Robot, bundle: Bundle) -> None:
    build_and_accept(robot.platform(), bundle)
    for precision, latency in (("int8", 9.0), ("fp16", 4.0)):
        (path,) = robot.cache.glob(f"*-{precision}.json")
        document = json.loads(path.read_text())
        document["verdict"]["latency_ms"] = latency
        path.write_text(json.dumps(document))
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.precision == "fp16"
    robot.runs("fp16=memory")
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.precision == "int8"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (None, "has not been tried on this device"),
        ({"package": "0.0.1"}, "accepted by cropseg-edge 0.0.1"),
        ({"kernels": "0" * 64}, "it was accepted with other kernels; run `cropseg verify`"),
    ],
)
def test_only_an_engine_that_was_accepted_by_this_version_and_its_kernels_runs(
    robot: Robot, bundle: Bundle, picture, caplog, verdict: dict[str, str] | None, reason: str
) -> None:
    _, sidecar = built(robot, bundle)
    document = json.loads(sidecar.read_text())
    document["verdict"] = verdict and document["verdict"] | verdict
    sidecar.write_text(json.dumps(document))
    assert_falls_back(bundle, picture, caplog, reason)


@pytest.mark.parametrize(
    ("script", "reason"),
    [("lost", "the GPU failed: "), ("crash", "TensorRT crashed with SIGSEGV")],
)
def test_an_engine_that_takes_gpu_or_process_down_in_its_trial_makes_way(
    robot: Robot, bundle: Bundle, script: str, reason: str
) -> None:
    robot.runs(f"int8={script}")
    said: list[str] = []
    assert list(build_and_accept(robot.platform(), bundle, say=said.append)) == ["fp16"]
    assert any(f"int8: quarantined: {reason}" in line for line in said)
    assert list(build_and_accept(robot.platform(), bundle, say=said.append)) == ["fp16"]
    assert any("int8: it is quarantined since" in line for line in said)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("killed", "the trial was killed, most likely because the memory"),
        ("terminated", "the trial was told to end"),
    ],
)
def test_a_trial_that_is_ended_from_outside_says_nothing_of_the_engine(
    robot: Robot, bundle: Bundle, end: str, reason: str
) -> None:
    robot.runs(f"fp16={end}")
    platform, said = robot.platform(), []
    assert build_and_accept(platform, bundle, ["fp16"], say=said.append) == {}
    assert f"fp16: not tried: {reason}" in said[-1]
    assert platform.cache.sidecar(bundle, "fp16").verdict is None
    assert platform.cache.sidecar(bundle, "fp16").starts == 0


def test_what_comes_after_the_outcome_is_no_part_of_the_trial(robot: Robot, bundle: Bundle) -> None:
    robot.runs("fp16=ends-badly")
    assert list(build_and_accept(robot.platform(), bundle, ["fp16"])) == ["fp16"]


def ends_the_process(what: Callable[[], object]) -> bool:
    """Whether a child that does it dies of a signal."""
    child = os.fork()
    if child == 0:
        try:
            what()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_an_accepted_engine_that_ends_the_process_when_opened_is_counted_until_it_runs(
    robot: Robot, bundle: Bundle
) -> None:
    platform = robot.platform()
    robot.remember(lambda: build_and_accept(platform, bundle, ["fp16"]))
    for starts in (1, 2):
        robot.runs("fp16=crash")
        assert ends_the_process(lambda: Segmenter(bundle, engine="tensorrt"))
        assert platform.cache.sidecar(bundle, "fp16").starts == starts
    robot.runs("")
    Segmenter(bundle, engine="tensorrt").close()
    assert platform.cache.sidecar(bundle, "fp16").starts == 0


def test_an_accepted_engine_that_ends_the_process_three_times_makes_way(
    robot: Robot, bundle: Bundle, picture, caplog
) -> None:
    platform = robot.platform()
    robot.remember(lambda: build_and_accept(platform, bundle, ["fp16"]))
    robot.runs("fp16=crash")
    for _ in range(3):
        assert ends_the_process(lambda: Segmenter(bundle, engine="tensorrt"))
    robot.runs("")
    assert_falls_back(bundle, picture, caplog, "3 times in a row the process ended")
    said: list[str] = []
    assert build_and_accept(platform, bundle, ["fp16"], say=said.append) == {}
    assert "not tried: it is quarantined: 3 times in a row the process ended" in said[-1]
    assert "with memory to spare" not in said[-1]
    with pytest.raises(EngineError, match="builds it again") as caught:
        Segmenter(bundle, engine="tensorrt", precision="fp16")
    assert "builds and tries them" not in str(caught.value)
    assert build_and_accept(platform, bundle, ["fp16"], force=True)
    assert platform.cache.sidecar(bundle, "fp16").starts == 0


def test_an_accepted_engine_whose_first_run_fails_makes_way(
    robot: Robot, bundle: Bundle, picture, caplog
) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    robot.runs("fp16=fails")
    assert_falls_back(bundle, picture, caplog, "TensorRT failed to run: enqueueV3 failed")
    assert robot.gpu.live == {}


def test_an_engine_that_tensorrt_refuses_to_load_names_the_way_out(
    robot: Robot, bundle: Bundle
) -> None:
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, ["fp16"]))
    robot.runs("fp16=refused")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "version tag" in said[-1]
    assert "`cropseg build --force --precision fp16`" in said[-1]


def test_a_quarantine_by_another_version_of_the_package_is_tried_again(
    robot: Robot, bundle: Bundle
) -> None:
    robot.runs("fp16=nan")
    build_and_accept(robot.platform(), bundle, ["fp16"])
    (sidecar,) = robot.cache.glob("*-fp16.json")
    document = json.loads(sidecar.read_text())
    document["verdict"]["package"] = "0.0.1"
    sidecar.write_text(json.dumps(document))
    robot.runs("")
    assert build_and_accept(robot.platform(), bundle, ["fp16"])
    assert robot.count("build") == 1


def test_a_verdict_is_not_written_over_an_engine_that_was_built_meanwhile(
    robot: Robot, bundle: Bundle
) -> None:
    platform = robot.platform()
    engine = build_engine(platform, bundle, "fp16", BuildSettings())
    newer = engine.sidecar.model_copy(update={"engine_sha256": "0" * 64})
    platform.cache.update(bundle, "fp16", newer)
    assert accept(platform, bundle, "fp16", engine).sidecar.verdict
    assert platform.cache.sidecar(bundle, "fp16") == newer


def test_an_accepted_engine_that_loses_the_gpu_three_times_makes_way(
    robot: Robot, bundle: Bundle, picture
) -> None:
    platform = robot.platform()
    build_and_accept(platform, bundle, ["fp16"])
    for losses in (1, 2, 3):
        robot.runs("fp16=lost-later")
        with Segmenter(bundle, engine="auto") as segmenter:
            assert segmenter.engine.name == "tensorrt"
            while not segmenter.lost:
                segmenter.segment(Frame(picture, 0, "", 0, "name"))
        robot.gpu.lost = False  # a new process
        assert platform.cache.sidecar(bundle, "fp16").losses == losses
    robot.runs("")
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == "onnxruntime"
    with pytest.raises(EngineError, match=r"it ended 3 processes since it was accepted.*--force"):
        Segmenter(bundle, engine="tensorrt")
    assert build_and_accept(platform, bundle, ["fp16"], force=True)
    assert platform.cache.sidecar(bundle, "fp16").losses == 0


def test_accepting_again_forgets_losses_and_a_full_disk_only_warns(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = robot.platform()
    engine = build_and_accept(platform, bundle, ["fp16"])["fp16"]
    count_loss(platform.cache, bundle, "fp16", engine, "launch failure")
    assert platform.cache.sidecar(bundle, "fp16").losses == 1
    assert build_and_accept(platform, bundle, ["fp16"])
    assert platform.cache.sidecar(bundle, "fp16").losses == 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cropseg_edge.engines.tensorrt.cache.write_atomically", full)
    count_loss(platform.cache, bundle, "fp16", engine, "launch failure")
    assert "the fp16 engine is not recorded" in caplog.text


def test_memory_that_runs_out_in_the_trial_gives_no_verdict(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, said = robot.platform(), []
    engine = build_engine(platform, bundle, "fp16", BuildSettings())
    path = TensorRtPath(platform, bundle, "fp16", engine.plan)
    loaded = sum(robot.gpu.live.values())
    path.close()
    monkeypatch.setenv("FAKE_CUDA_BUDGET", str(loaded))  # none is left for a picture
    assert build_and_accept(platform, bundle, ["fp16"], say=said.append) == {}
    assert "not tried: the GPU's memory ran out" in said[-1]
    assert said[-1].endswith("then `cropseg verify` tries it")
    assert platform.cache.sidecar(bundle, "fp16").verdict is None
    monkeypatch.delenv("FAKE_CUDA_BUDGET")
    assert build_and_accept(platform, bundle, ["fp16"], say=said.append)


def test_a_laptop_without_tensorrt_is_quiet(tiny_bundle_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    with Segmenter(read_bundle(tiny_bundle_path), engine="auto", threads=1) as segmenter:
        assert segmenter.engine.name == "onnxruntime"
    assert caplog.text == ""


def test_a_broken_installation_of_tensorrt_is_said(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot.tensorrt("8.6.2")
    assert_falls_back(bundle, picture, caplog, "TensorRT 8.6.2 is too old; 10.3")
    robot.tensorrt("10.3.0")
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    assert_falls_back(bundle, picture, caplog, "pycuda cannot be imported")
