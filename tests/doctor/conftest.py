"""Machines to examine: file trees of robots that are not here, and what their commands answer."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cropseg_edge.doctor.system import System

ANSWERS: dict[str, dict[str, Any]] = {
    "numpy": {"version": "1.26.4", "file": "/venv/numpy/__init__.py"},
    "opencv": {
        "version": "4.8.0",
        "file": "/usr/lib/python3.10/dist-packages/cv2/__init__.py",
        "gstreamer": True,
        "v4l2": True,
        "ffmpeg": True,
    },
    "simplejpeg": {"version": "1.9.0", "file": "/venv/simplejpeg/__init__.py", "size": [16, 24, 3]},
    "onnxruntime": {
        "version": "1.20.1",
        "distributions": ["onnxruntime"],
        "providers": ["CPUExecutionProvider"],
    },
    "provider CPUExecutionProvider": {"ran": True},
    "int8": {"exact": True},
    "bundle": {
        "name": "cropseg-nano 0.1.0",
        "sha256": "3e6b50e04ed1" + 52 * "0",
        "engines": {"onnxruntime": ["fp32"], "tensorrt": ["fp32"]},
        "operators": [],
    },
    "fade": {"compiled": True},
    "cuda_fade": {"loaded": True},
    "engines": {
        "folder": "/home/farmer/.cache/cropseg/engines",
        "engines": {"fp16": "accepted, 9.1 ms a frame, TensorRT 10.3.0"},
    },
    "cuda": {
        "devices": [{"name": "Orin", "capability": "8.7"}],
        "driver": "12.6",
        "runtime": "12.6",
    },
    "tensorrt": {
        "version": "10.3.0",
        "file": "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py",
    },
    "pycuda": {"version": "2024.1.2", "device": "Orin"},
    "ros": {
        "file": "/opt/ros/humble/local/lib/python3.10/dist-packages/rclpy/__init__.py",
        "rmw": "rmw_fastrtps_cpp",
        "cropseg_msgs": True,
        "cropseg_ros": True,
    },
}


@dataclass(frozen=True)
class Planted(System):
    """A system whose programs and Python packages answer what a test says."""

    commands: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=lambda: deepcopy(ANSWERS))
    closed: tuple[str, ...] = ()

    def run(self, *command: str, timeout: float = 0) -> str | None:
        return self.commands.get(" ".join(command))

    def probe(self, name: str, *arguments: str, timeout: float = 0) -> dict[str, Any]:
        return self.answers.get(" ".join([name, *arguments]), {"error": "not planted"})

    def may(self, path: str) -> bool:
        return path not in self.closed

    def with_answer(self, name: str, **answer: Any) -> "Planted":
        self.answers[name] = answer
        return self


def plant(root: Path, files: dict[str, object]) -> None:
    """Write files below a root; the keys are absolute paths on the planted machine."""
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")


def package(name: str, version: str) -> str:
    """A paragraph of dpkg's list."""
    return (
        f"Package: {name}\nEssential: no\nStatus: install ok installed\nPriority: standard\n"
        f"Maintainer: NVIDIA\nArchitecture: arm64\nVersion: {version}\nDescription: x\n more\n\n"
    )


@pytest.fixture
def orin(tmp_path: Path) -> Planted:
    """An Orin Nano in its 15 W mode on JetPack 6.2, a USB camera, 8 GB with swap on disk."""
    hwmon, gpu = "/sys/class/hwmon", "/sys/class/devfreq/17000000.gpu"
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq"
    plant(
        tmp_path,
        {
            "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer "
            "Kit Super\0",
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: "
            "generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025",
            "/var/lib/dpkg/status": package("zlib1g", "1.2")
            + package("nvidia-jetpack", "6.2+b77")
            + package("python3-libnvinfer", "10.3.0.30-1+cuda12.5"),
            "/etc/nvpmodel.conf": "< PARAM TYPE=FILE NAME=CPU_ONLINE >\n"
            "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
            "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n"
            "< PM_CONFIG DEFAULT=1 >",
            "/var/lib/nvpmodel/status": "pmode:0000",
            f"{gpu}/cur_freq": 306000000,
            f"{gpu}/min_freq": 306000000,
            f"{gpu}/max_freq": 612000000,
            f"{cpu}/scaling_cur_freq": 729600,
            f"{cpu}/scaling_min_freq": 729600,
            f"{cpu}/scaling_max_freq": 1510400,
            "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "/sys/class/thermal/thermal_zone0/temp": 48500,
            "/sys/class/thermal/thermal_zone1/type": "gpu-thermal",
            "/sys/class/thermal/thermal_zone1/temp": 50250,
            "/sys/class/thermal/thermal_zone2/type": "cv0-thermal",
            "/sys/class/thermal/thermal_zone2/temp": "",
            f"{hwmon}/hwmon1/name": "ina3221",
            f"{hwmon}/hwmon1/in1_label": "VDD_IN",
            f"{hwmon}/hwmon1/in1_input": 5080,
            f"{hwmon}/hwmon1/curr1_input": 1000,
            f"{hwmon}/hwmon1/in2_label": "VDD_CPU_GPU_CV",
            f"{hwmon}/hwmon1/in2_input": 5072,
            f"{hwmon}/hwmon1/curr2_input": 250,
            f"{hwmon}/hwmon1/in4_label": "sum of shunt voltages",
            f"{hwmon}/hwmon2/name": "soctherm_oc",
            f"{hwmon}/hwmon2/oc1_event_cnt": 0,
            f"{hwmon}/hwmon2/oc3_event_cnt": 37,
            "/proc/meminfo": "MemTotal: 7800000 kB\nMemFree: 900000 kB\nMemAvailable: 5600000 kB",
            "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n"
            "/dev/zram0 partition 650000 0 5\n/swapfile file 8388604 0 -2",
            "/dev/video0": "",
            "/dev/video1": "",
            "/sys/class/video4linux/video0/name": "USB Camera",
            "/sys/class/video4linux/video0/index": 0,
            "/sys/class/video4linux/video1/name": "USB Camera",
            "/sys/class/video4linux/video1/index": 1,
            "/opt/ros/humble/setup.bash": "",
            "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
            "/venv/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true",
        },
    )
    return Planted(
        root=tmp_path,
        environ={"ROS_DISTRO": "humble"},
        user="farmer",
        groups=frozenset({"farmer", "video", "render"}),
        prefix=Path("/venv"),
        in_venv=True,
    )


@pytest.fixture
def thor(orin: Planted) -> Planted:
    """The same files, changed to a Thor in MAXN on JetPack 7.2, its clocks held."""
    gpu, hwmon = "/sys/class/devfreq/gpu-gpc-0", "/sys/class/hwmon"
    for path in orin.root.glob("sys/class/devfreq/*/*"):
        path.unlink()
    plant(
        orin.root,
        {
            "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit",
            "/etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic",
            "/var/lib/dpkg/status": package("nvidia-jetpack", "7.2+b1"),
            "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >",
            f"{gpu}/cur_freq": 1575000000,
            f"{gpu}/min_freq": 1575000000,
            f"{gpu}/max_freq": 1575000000,
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": 1510400,
            "/proc/meminfo": "MemTotal: 128000000 kB\nMemAvailable: 100000000 kB",
            f"{hwmon}/hwmon3/name": "ina238",
            f"{hwmon}/hwmon3/power1_input": 42_500_000,
        },
    )
    orin.commands["nvpmodel -q"] = "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n"
    orin.commands["nvcc --version"] = "Cuda compilation tools, release 13.2, V13.2.51\n"
    orin.answers["cuda"] = {
        "devices": [{"name": "NVIDIA Thor", "capability": "11.0"}],
        "driver": "13.2",
        "runtime": "13.2",
    }
    orin.answers["tensorrt"] = {
        "version": "10.16.2.10",
        "file": "/usr/lib/python3.12/dist-packages/tensorrt/__init__.py",
    }
    return orin
