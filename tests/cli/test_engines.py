"""`cropseg build`, `verify`, `run` and `eval` on a played robot and on a plain computer."""

from hashlib import sha256
from pathlib import Path

import pytest

from cropseg_edge import __version__
from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.doctor import probe
from cropseg_edge.engines.tensorrt.fingerprint import Sidecar, Verdict, fingerprint
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.fade.cuda.driver import kernels_sha256
from tests.cli.conftest import Cropseg
from tests.engines.tensorrt.conftest import Robot, bundle, kept, robot

__all__ = ["bundle", "kept", "robot"]


def test_build_builds_tries_and_says_so_and_run_takes_the_engine(
    cropseg: Cropseg, robot: Robot, bundle: Bundle, tmp_path: Path
) -> None:
    result = cropseg("build", bundle.path)
    assert result.code == 0, result.err
    assert "Orin (compute capability 8.7), TensorRT 10.3.0" in result.out
    assert "known problem vit-fp16" in result.out
    for precision in ("int8", "fp16"):
        assert f"{precision}: built in" in result.out
        assert f"{precision}: accepted: mask IoU at least" in result.out
    assert "fp32" not in result.out
    assert "building" in result.err.lower()

    out = tmp_path / "out"
    source = "simulator:frames=2,width=128,height=96"
    result = cropseg("run", source, "--out", out, "--bundle", bundle.path, "--precision", "fp16")
    assert result.code == 0, result.err
    assert '"engine": "tensorrt fp16"' in (out / "summary.json").read_text()

    result = cropseg("verify", bundle.path)
    assert result.code == 0, result.err
    assert "ready: tensorrt int8, fp16" in result.out
    assert "ms a frame" in result.out


def test_verify_quarantines_and_goes_on_to_the_next(
    cropseg: Cropseg, robot: Robot, bundle: Bundle
) -> None:
    cropseg("build", bundle.path)
    robot.runs("int8=nan")
    result = cropseg("verify", bundle.path)
    assert result.code == 0, result.err
    assert "int8: quarantined: " in result.out
    assert "ready: tensorrt fp16;" in result.out
    robot.runs("fp16=wrong")
    result = cropseg("verify", bundle.path)
    assert result.code == 0, result.err
    assert "int8: it is quarantined since" in result.out
    assert "fp16: quarantined: " in result.out
    assert "warning: no TensorRT engine of tiny.cropseg passed" in result.err
    assert "onnxruntime fp32" in result.out
    result = cropseg("verify", bundle.path, "--engine", "tensorrt")
    assert result.code == 2
    assert "no TensorRT engine of tiny.cropseg passed" in result.err


def test_a_plain_build_keeps_what_was_built_with_less_memory(
    cropseg: Cropseg, robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--workspace-mb", "128", "--max-memory", "2000", "--optimization-level", "2"]
    assert cropseg("build", bundle.path, "--precision", "fp16", *small).code == 0
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.build.available_memory_mb", lambda: 100)
    result = cropseg("build", bundle.path, "--precision", "fp16")
    assert result.code == 0, result
    assert "ready: fp16" in result.out
    assert robot.count("build") == 1
    result = cropseg("build", bundle.path, "--precision", "fp16", "--workspace-mb", "512")
    assert "100 MB are free" in result.out
    assert "ready: fp16" in result.out
    result = cropseg("build", bundle.path, "--precision", "int8")
    assert result.code == 2
    assert "`--engine auto` goes on with fp16, accepted before" in result.err


def test_run_ends_with_70_where_its_engine_fails_for_good(
    cropseg: Cropseg, robot: Robot, bundle: Bundle, tmp_path: Path
) -> None:
    assert cropseg("build", bundle.path, "--precision", "int8").code == 0
    robot.runs("int8=fails-later")
    source, out = "simulator:frames=20,width=128,height=96", tmp_path / "out"
    result = cropseg("run", source, "--out", out, "--bundle", bundle.path)
    assert result.code == 70
    assert "failed on 5 frames in a row" in result.err
    assert '"INVALID": 5' in (out / "summary.json").read_text()
    result = cropseg("run", source, "--out", out, "--bundle", bundle.path)
    assert result.code == 0
    assert "ONNX Runtime on the CPU is used" in result.err


def test_bench_ends_with_70_where_its_engine_is_given_up_in_the_last_frame(
    cropseg: Cropseg, robot: Robot, bundle: Bundle
) -> None:
    assert cropseg("build", bundle.path, "--precision", "int8").code == 0
    robot.runs("int8=fails-later")
    source = ("--source", "simulator:frames=2,width=128,height=96", "--precision", "int8")
    result = cropseg("bench", bundle.path, *source, "--warm-up", "0", "--frames", "15")
    assert "5 INVALID" in result.out
    assert result.code == 70
    assert "failed on 5 frames in a row" in result.err


def test_info_does_not_say_which_tensorrt_engine_runs(cropseg: Cropseg, bundle: Bundle) -> None:
    said = cropseg("info", bundle.path).out
    assert "onnxruntime fp32 (runs fp32)" in said
    assert "tensorrt fp32/fp16/int8 (runs the fastest that the device accepts)" in said


def test_build_without_an_accepted_engine_fails(
    cropseg: Cropseg, robot: Robot, bundle: Bundle
) -> None:
    robot.builds("all=killed")
    result = cropseg("build", bundle.path)
    assert result.code == 2
    assert result.out.count("the build was killed") == 3
    assert "error: no TensorRT engine of tiny.cropseg was accepted" in result.err


def test_build_says_at_once_where_nothing_can_be_kept(
    cropseg: Cropseg, robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = cropseg("build", bundle.path)
    assert result.code == 2
    assert "engines cannot be kept" in result.err
    assert robot.count("build") == 0


@pytest.mark.parametrize("command", [["build"], ["verify", "--engine", "tensorrt"]])
def test_without_tensorrt_the_message_says_how_to_get_it(
    cropseg: Cropseg, tiny_bundle_path: Path, command: list[str]
) -> None:
    result = cropseg(command[0], tiny_bundle_path, *command[1:])
    assert result.code == 2
    assert "python3-libnvinfer" in result.err


def test_verify_on_a_plain_computer_is_quiet(cropseg: Cropseg, tiny_bundle_path: Path) -> None:
    result = cropseg("verify", tiny_bundle_path)
    assert result.code == 0
    assert result.err == ""
    assert "onnxruntime fp32" in result.out


def test_verify_says_where_it_verifies_another_precision_than_was_asked_for(
    cropseg: Cropseg, tiny_bundle_path: Path
) -> None:
    result = cropseg("verify", tiny_bundle_path, "--precision", "fp16")
    assert result.code == 0
    assert "onnxruntime fp32" in result.out
    assert "warning: ONNX Runtime has no fp16 graph" in result.err


def test_a_precision_that_the_bundle_lacks_is_refused(
    cropseg: Cropseg, robot: Robot, tiny_bundle_path: Path
) -> None:
    result = cropseg("build", tiny_bundle_path, "--precision", "int8")
    assert result.code == 2
    assert "has no int8 graph for tensorrt" in result.err


def test_the_doctor_calls_an_engine_accepted_only_while_it_may_be_used(robot: Robot) -> None:
    shipped, platform = read_bundle(), robot.platform()
    here = fingerprint(shipped, "fp32", "10.3.0", platform.device, BuildSettings())
    verdict = Verdict(
        accepted=True, reason="", iou=1.0, latency_ms=9.0, package=__version__,
        kernels=kernels_sha256(), time="today",
    )  # fmt: skip
    sidecar = Sidecar(
        fingerprint=here, engine_sha256=sha256(b"plan").hexdigest(), built="today",
        build_seconds=1.0, verdict=verdict,
    )  # fmt: skip
    platform.cache.store(shipped, "fp32", b"plan", sidecar)
    assert probe.engines()["engines"] == {"fp32": "accepted, 9.0 ms a frame, TensorRT 10.3.0"}
    robot.tensorrt("10.16.2.10")
    assert "tensorrt is 10.16.2.10, was 10.3.0" in probe.engines()["engines"]["fp32"]
    assert probe.engines()["engines"]["fp32"].startswith("cannot be used")
