"""What the doctor says of Python packages and ROS, and that nothing can stop it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from cropseg_edge.doctor import Status, System, broken, examine
from cropseg_edge.doctor.finding import version
from cropseg_edge.doctor.known import PROBLEMS
from cropseg_edge.doctor.probe import ONE_NODE, onnxruntime
from tests.cli.conftest import Cropseg, cropseg
from tests.doctor.conftest import Planted, package, plant
from tests.doctor.test_jetsons import by_name, problems

__all__ = ["cropseg"]


def test_this_machine_for_real() -> None:
    found = {finding.check: finding for finding in examine(System())}
    for name in ("numpy", "opencv", "simplejpeg", "onnxruntime", "bundle"):
        assert found[name].status is Status.OK, found[name]
    assert found["  CPU"].data["ran"] is True
    assert found["python"].data["prefix"] == sys.prefix
    assert not broken(list(found.values()))
    unexpected = [finding for finding in found.values() if "itself failed" in finding.found]
    unexpected += [f for f in found.values() if "KeyError" in str(f.data.get("error"))]
    assert not unexpected


def test_the_model_that_proves_a_provider_is_one_convolution() -> None:
    model = onnx.load_from_string(ONE_NODE)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]


@pytest.mark.parametrize("name", ["numpy", "opencv", "simplejpeg", "onnxruntime", "bundle"])
def test_a_package_that_every_frame_needs_and_is_not_there_is_broken(
    orin: Planted, name: str
) -> None:
    orin.with_answer(name, error="ModuleNotFoundError: No module named it")
    finding = by_name(orin)[name]
    assert finding.status is Status.FAIL
    assert "pip" in finding.remedy
    assert broken([finding])


def test_a_provider_counts_only_if_it_runs(orin: Planted) -> None:
    orin.answers["onnxruntime"]["providers"] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    error = "CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available"
    orin.with_answer("provider CUDAExecutionProvider", error=error)
    found = by_name(orin)
    assert found["  CUDA"].status is Status.WARN
    assert "offered, but does not run" in found["  CUDA"].found
    assert found["  CPU"].status is Status.OK
    assert "onnxruntime-gpu for another GPU" in problems(orin)


def test_a_processor_that_adds_8_bit_products_wrongly_is_named(orin: Planted) -> None:
    assert by_name(orin)["  INT8"].status is Status.OK
    orin.with_answer("int8", exact=False)
    finding = by_name(orin)["  INT8"]
    assert finding.status is Status.WARN
    assert "FP32" in finding.remedy


def test_two_wheels_of_onnxruntime_overwrite_each_other(orin: Planted) -> None:
    orin.answers["onnxruntime"]["distributions"] = ["onnxruntime", "onnxruntime-gpu"]
    assert by_name(orin)["onnxruntime"].status is Status.WARN


def test_kernels_of_fade_that_fit_no_gpu_are_not_onnxruntimes_fault(orin: Planted) -> None:
    orin.with_answer("cuda_fade", error="RuntimeError: no kernel image is available")
    assert "onnxruntime-gpu for another GPU" not in problems(orin)


def test_only_wheels_with_the_files_of_onnxruntime_are_its_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, file in {
        "onnxruntime-gpu": "onnxruntime/__init__.py",
        "onnxruntime-extensions": "onnxruntime_extensions/__init__.py",
    }.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "RECORD").write_text(f"{file},,\n")
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert onnxruntime()["distributions"] == ["onnxruntime", "onnxruntime-gpu"]


def test_numpy_2_beside_packages_of_apt(orin: Planted) -> None:
    assert "numpy 2 with apt packages" not in problems(orin)
    orin.answers["numpy"] = {"version": "2.2.6", "file": "/venv/numpy/__init__.py"}
    plant(orin.root, {"/var/lib/dpkg/status": package("python3-numpy", "1:1.21.5-1ubuntu22.04.1")})
    assert "'numpy<2'" in problems(orin)["numpy 2 with apt packages"].remedy


def test_opencv_without_gstreamer_matters_on_a_jetson(orin: Planted) -> None:
    orin.answers["opencv"] = {**orin.answers["opencv"], "gstreamer": False}
    finding = by_name(orin)["opencv"]
    assert finding.status is Status.WARN
    assert "pip uninstall opencv-python-headless" in finding.remedy


def test_fade_without_its_library(orin: Planted) -> None:
    orin.with_answer("fade", compiled=False)
    assert "NumPy" in by_name(orin)["fade"].found


def test_ros_that_is_installed_but_not_sourced(orin: Planted) -> None:
    orin.with_answer("ros", error="ModuleNotFoundError: No module named 'rclpy'")
    assert by_name(orin)["ros 2"].remedy.startswith(". /opt/ros/humble/setup.bash")


def test_ros_for_another_python_is_not_sourced_once_more(orin: Planted) -> None:
    plant(orin.root, {"/opt/ros/humble/local/lib/python3.7/dist-packages/rclpy/__init__.py": ""})
    orin.with_answer("ros", error="ModuleNotFoundError: No module named 'rclpy'")
    finding = by_name(orin)["ros 2"]
    assert "for Python 3.7; this is" in finding.found
    assert "python3.7 -m venv --system-site-packages" in finding.remedy


def test_ros_without_our_packages(orin: Planted) -> None:
    orin.answers["ros"] = {**orin.answers["ros"], "cropseg_msgs": False}
    assert "colcon build" in by_name(orin)["ros 2"].remedy


def test_the_defaults_of_fast_dds(orin: Planted) -> None:
    assert "fastdds.xml" in problems(orin)["Fast DDS defaults"].remedy
    tuned = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/x.xml", "MALLOC_MMAP_THRESHOLD_": "1"}
    changed = Planted(**{**vars(orin), "environ": {**orin.environ, **tuned}})
    assert "Fast DDS defaults" not in problems(changed)


def test_a_check_that_breaks_is_a_finding_and_hides_nothing(
    orin: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cropseg_edge.doctor.examine import CHECKS

    def breaks(_: System) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(CHECKS, "memory", breaks)
    found = by_name(orin)
    assert "itself failed: ZeroDivisionError" in found["memory"].found
    assert list(found)[-1] == "known"
    assert "camera" in found


def test_an_empty_machine_has_findings_and_no_exception(tmp_path: Path) -> None:
    found = by_name(Planted(root=tmp_path, environ={}, answers={}))
    assert found["jetpack"].status is Status.ABSENT
    assert found["numpy"].status is Status.FAIL
    assert not [finding for finding in found.values() if "itself failed" in finding.found]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "died of signal 6"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
        ("print('hello')", "exit code 0"),
        ("raise SystemExit('no such thing')", "no such thing"),
    ],
    ids=["crash", "hang", "nonsense", "exit"],
)
def test_a_probe_that_crashes_or_hangs_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, said: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    timeout = 0.5 if "sleep" in code else 30
    assert said in System().probe("numpy", timeout=timeout)["error"]


def test_files_of_the_current_folder_are_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "base64.py").write_text("raise SystemExit('of the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert "version" in System().probe("numpy")


def test_a_command_that_hangs_or_fails_has_no_answer(tmp_path: Path) -> None:
    for name, body in {"slow": "exec sleep 60", "bad": "exit 3", "good": "echo yes"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    system = System(environ={"PATH": f"{tmp_path}{os.pathsep}/bin"})
    assert system.run("slow", timeout=0.2) is None
    assert system.run("bad") is None
    assert system.run("not there") is None
    assert system.run("good") == "yes\n"


def test_the_doctor_itself_needs_none_of_what_it_examines() -> None:
    code = (
        "import sys, cropseg_edge.cli.doctor, cropseg_edge.doctor\n"
        "print([m for m in ('numpy', 'cv2', 'onnxruntime', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.3.0.30", (10, 3, 0, 30)), ("2.0rc1", (2, 0)), ("", ()), (None, ()), ("unknown", ())],
)
def test_versions_are_read_as_far_as_they_go(text: object, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


def test_every_known_problem_says_what_to_do() -> None:
    for problem in PROBLEMS:
        assert problem.symptom
        assert problem.remedy
        assert all(source.startswith("https://") for source in problem.sources)


def test_the_command_tells_and_writes(
    cropseg: Cropseg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orin: Planted
) -> None:
    monkeypatch.setattr("cropseg_edge.doctor.System", lambda: orin)
    result = cropseg("doctor", "--json", tmp_path / "doctor.json")
    assert result.code == 0, result
    assert "ok      board        NVIDIA Jetson Orin Nano" in result.out
    assert "> sudo nvpmodel -m 2" in result.out
    assert "`cropseg run` can work here" in result.out
    document = json.loads((tmp_path / "doctor.json").read_text())
    assert document["broken"] is False
    assert document["findings"][1]["data"]["l4t"] == "36.4.3"


def test_a_folder_whose_name_is_not_utf_8_can_be_written(
    cropseg: Cropseg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orin: Planted
) -> None:
    orin.with_answer("engines", folder="/data/\udcff", engines={})
    monkeypatch.setattr("cropseg_edge.doctor.System", lambda: orin)
    result = cropseg("doctor", "--json", tmp_path / "doctor.json")
    assert result.code == 0, result
    found = json.loads((tmp_path / "doctor.json").read_text("utf-8"))["findings"]
    assert any(finding["data"].get("folder") == "/data/\udcff" for finding in found)


def test_the_command_fails_where_frames_cannot_be_segmented(
    cropseg: Cropseg, monkeypatch: pytest.MonkeyPatch, orin: Planted
) -> None:
    orin.with_answer("numpy", error="ImportError: broken")
    monkeypatch.setattr("cropseg_edge.doctor.System", lambda: orin)
    result = cropseg("doctor", "--json", "-")
    assert result.code == 1
    assert json.loads(result.out)["broken"] is True
