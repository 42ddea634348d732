"""What the doctor says of Jetsons, planted as file trees: healthy ones, and one fault at a time."""

from pathlib import Path

import pytest

from cropseg_edge.doctor import Finding, Status, broken, examine
from cropseg_edge.doctor.power import read_clocks, watts
from cropseg_edge.doctor.storage import memory
from tests.doctor.conftest import Planted, package, plant


def by_name(system: Planted) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(system)}


def problems(system: Planted) -> dict[str, Finding]:
    known = [finding for finding in examine(system) if finding.check == "known"]
    return {finding.found.partition(":")[0]: finding for finding in known}


def test_an_orin_nano_on_jetpack_6_2_is_recognised(orin: Planted) -> None:
    found = by_name(orin)
    assert "Orin Nano" in found["board"].found
    assert found["jetpack"].found == "JetPack 6.2 (L4T 36.4.3)"
    assert found["clocks"].data["gpu"] == {"mhz": 306.0, "min_mhz": 306.0, "max_mhz": 612.0}
    assert "scaled by load" in found["clocks"].found
    assert found["thermal"].found.startswith("50 °C (gpu-thermal)")
    assert "oc3 37" in found["thermal"].found
    assert found["thermal"].status is Status.OK
    assert found["memory"].found == "5468 of 7617 MB free, 8191 MB of swap on disk"
    assert found["cuda"].found == "driver 12.6, runtime 12.6, no nvcc, Orin sm_87"
    assert found["tensorrt"].status is Status.OK
    assert found["camera"].found == "/dev/video0 USB Camera"
    assert not broken(list(found.values()))


def test_a_thor_on_jetpack_7_2_is_recognised(thor: Planted) -> None:
    found = by_name(thor)
    assert found["jetpack"].found == "JetPack 7.2 (L4T 39.2.0)"
    assert found["power mode"].found == "MAXN"
    assert found["power mode"].status is Status.OK
    assert "held at the maximum" in found["clocks"].found
    assert "nvcc 13.2, NVIDIA Thor sm_110" in found["cuda"].found
    assert found["tensorrt"].found.startswith("10.16.2.10")


def test_a_slower_power_mode_is_named_with_the_command_for_the_fastest(orin: Planted) -> None:
    finding = by_name(orin)["power mode"]
    assert finding.status is Status.WARN
    assert finding.found.startswith("15W; MAXN_SUPER is faster")
    assert finding.remedy.startswith("sudo nvpmodel -m 2")


def test_watts_by_rail(orin: Planted, thor: Planted) -> None:
    assert watts(orin) == pytest.approx({"VDD_IN": 5.08, "VDD_CPU_GPU_CV": 1.268, "ina238": 42.5})


def test_clocks_of_no_board_are_empty(tmp_path: Path) -> None:
    assert read_clocks(Planted(root=tmp_path)) == {}


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [("R36 (release), REVISION: 4.0", "6.1"), ("R36 (release), REVISION: 5.0", "6.2.2"),
     ("R36 (release), REVISION: 4.7", "6.2.x"), ("R38 (release), REVISION: 4.0", "7.1")],
)  # fmt: skip
def test_jetpack_is_told_from_l4t(orin: Planted, release: str, jetpack: str) -> None:
    plant(orin.root, {"/etc/nv_tegra_release": f"# {release}, GCID: 1", "/var/lib/dpkg/status": ""})
    finding = by_name(orin)["jetpack"]
    assert finding.data["jetpack"] == jetpack
    assert finding.status is Status.WARN
    assert "sudo apt install nvidia-jetpack" in finding.remedy


def test_a_removed_package_does_not_count(orin: Planted) -> None:
    removed = package("nvidia-jetpack", "6.2+b77").replace(
        "install ok installed", "deinstall ok config-files"
    )
    plant(orin.root, {"/var/lib/dpkg/status": removed})
    assert "libraries are not installed" in by_name(orin)["jetpack"].found


def test_jetpack_6_0_is_known_to_be_too_old(orin: Planted) -> None:
    plant(orin.root, {"/etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 1"})
    finding = problems(orin)["old JetPack"]
    assert "TensorRT 8.6" in finding.found
    assert "6.2" in finding.remedy


def test_tensorrt_hidden_by_a_virtual_environment(orin: Planted) -> None:
    orin.with_answer("tensorrt", error="ModuleNotFoundError: No module named 'tensorrt'")
    plant(orin.root, {"/venv/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false"})
    finding = by_name(orin)["tensorrt"]
    assert finding.status is Status.WARN
    assert "hidden from this virtual environment" in finding.found
    assert "/venv/pyvenv.cfg" in finding.remedy
    assert "--system-site-packages" in finding.remedy


def test_tensorrt_not_installed(orin: Planted) -> None:
    orin.with_answer("tensorrt", error="ModuleNotFoundError: No module named 'tensorrt'")
    (orin.root / "usr/lib/python3.10/dist-packages/tensorrt/__init__.py").unlink()
    (orin.root / "usr/lib/python3.10/dist-packages/tensorrt").rmdir()
    assert "python3-libnvinfer" in by_name(orin)["tensorrt"].remedy


def test_tensorrt_of_another_python(orin: Planted) -> None:
    orin.with_answer("tensorrt", error="ImportError: no module named tensorrt.tensorrt")
    finding = by_name(orin)["tensorrt"]
    assert "cannot be imported" in finding.found
    assert "/usr/bin/python3" in finding.remedy


def test_a_wheel_in_the_place_of_jetpacks_tensorrt(orin: Planted) -> None:
    orin.with_answer("tensorrt", version="11.4.0", file="/venv/site-packages/tensorrt/__init__.py")
    finding = by_name(orin)["tensorrt"]
    assert "not JetPack's 10.3.0.30" in finding.found
    assert finding.remedy.startswith("pip uninstall tensorrt")


def test_fp16_transformers_on_tensorrt_10_3_are_known_with_sources(orin: Planted) -> None:
    finding = problems(orin)["vit-fp16"]
    assert finding.status is Status.WARN
    assert "https://github.com/NVIDIA/TensorRT/issues/4723" in finding.sources


def test_gridsample_matters_only_to_a_bundle_that_has_it(thor: Planted) -> None:
    assert problems(thor)["gridsample"].status is Status.OK
    thor.answers["bundle"] = {**thor.answers["bundle"], "operators": ["GridSample"]}
    assert problems(thor)["gridsample"].status is Status.WARN


@pytest.mark.parametrize(
    ("built", "remedy"),
    [
        ({}, "cropseg build"),
        ({"fp16": "quarantined (IoU 0.4)"}, "cropseg build --force"),
        ({"fp16": "not tried, TensorRT 10.3.0"}, "cropseg verify"),
        ({"fp16": "cannot be used: accepted by 0.0.1; run `cropseg verify`"}, "cropseg verify"),
        ({"fp16": "cannot be used: it was built for something else"}, "cropseg build"),
    ],
)
def test_a_jetson_without_an_accepted_engine(
    orin: Planted, built: dict[str, str], remedy: str
) -> None:
    orin.with_answer("engines", folder="/cache", engines=built)
    finding = by_name(orin)["engines"]
    assert finding.status is Status.WARN
    assert finding.remedy == remedy


def test_fades_kernels_that_do_not_load(orin: Planted) -> None:
    assert by_name(orin)["fade cuda"].status is Status.OK
    orin.with_answer("cuda_fade", error="EngineError: no kernels for sm_72")
    assert by_name(orin)["fade cuda"].status is Status.WARN
    orin.with_answer("cuda_fade", error="ModuleNotFoundError: No module named 'pycuda'")
    assert by_name(orin)["fade cuda"].status is Status.ABSENT


def test_a_disk_that_is_full(orin: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_name(orin)["disk"].status is Status.OK
    monkeypatch.setattr(Planted, "free_bytes", lambda *_: 90_000_000)
    finding = by_name(orin)["disk"]
    assert finding.status is Status.WARN
    assert "XDG_CACHE_HOME" in finding.remedy


def test_pycuda_missing_comes_with_its_build(orin: Planted) -> None:
    orin.with_answer("pycuda", error="ModuleNotFoundError: No module named 'pycuda'")
    finding = by_name(orin)["pycuda"]
    assert finding.status is Status.WARN
    assert "CUDA_ROOT=/usr/local/cuda" in finding.remedy


def test_pycuda_that_cannot_be_used_is_built_again_though_it_is_there(orin: Planted) -> None:
    orin.with_answer("pycuda", version="2024.1.2", error="libcurand.so.10: cannot open")
    remedy = by_name(orin)["pycuda"].remedy
    assert "--force-reinstall --no-deps --no-binary pycuda --no-cache-dir" in remedy


def test_no_device_and_not_in_group_video(orin: Planted) -> None:
    orin.with_answer("cuda", devices=[], runtime="12.6", error="cuInit gave error 999")
    outside = Planted(**{**vars(orin), "groups": frozenset({"farmer"})})
    assert "usermod -aG video,render farmer" in by_name(outside)["cuda"].remedy
    assert "not in group video" in problems(outside)


def test_a_camera_that_the_user_may_not_open(orin: Planted) -> None:
    closed = Planted(**{**vars(orin), "closed": ("/dev/video0",)})
    finding = by_name(closed)["camera"]
    assert finding.status is Status.WARN
    assert "usermod -aG video farmer" in finding.remedy


def test_a_camera_that_another_program_holds(orin: Planted) -> None:
    (orin.root / "proc/4711/fd").mkdir(parents=True)
    (orin.root / "proc/4711/fd/7").symlink_to("/dev/video0")
    plant(orin.root, {"/proc/4711/comm": "guvcview"})
    assert "held by guvcview (4711)" in by_name(orin)["camera"].found


def test_a_csi_camera_comes_with_its_pipeline(orin: Planted) -> None:
    plant(orin.root, {"/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010"})
    assert "nvarguscamerasrc" in by_name(orin)["camera"].remedy


@pytest.mark.parametrize(
    "files",
    [
        {"/proc/meminfo": "MemTotal: 7800000 kB\nMemAvailable: 2000000 kB"},
        {"/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 3900000 0 5"},
        {"/proc/swaps": "Filename Type Size Used Priority\n/swapfile file 1000000 0 -2"},
    ],
    ids=["little memory, enough swap", "swap in memory only", "little swap"],
)
def test_low_memory_is_said_before_a_build(
    orin: Planted, files: dict[str, object], request: pytest.FixtureRequest
) -> None:
    plant(orin.root, files)
    finding = by_name(orin)["memory"]
    added = {"swap in memory only": "swapon /swapfile", "little swap": "swapon /swapfile2"}
    expected = added.get(request.node.callspec.id, "multi-user.target)")
    assert finding.status is Status.WARN
    assert finding.remedy.endswith(expected)


def test_low_memory_of_a_laptop_is_no_matter_of_jetson_commands(tmp_path: Path) -> None:
    plant(tmp_path, {"/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 1000000 kB"})
    finding = memory(Planted(root=tmp_path))
    assert (finding.status, finding.remedy) == (Status.OK, "")


def test_heat_and_low_voltage_are_warnings(orin: Planted) -> None:
    plant(orin.root, {"/sys/class/hwmon/hwmon2/oc1_event_cnt": 3})
    assert "supply" in by_name(orin)["thermal"].remedy
    plant(orin.root, {"/sys/class/thermal/thermal_zone1/temp": 96000})
    assert "fan" in by_name(orin)["thermal"].remedy
