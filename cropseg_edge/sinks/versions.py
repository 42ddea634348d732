"""What a run ran on: versions of the software, processor, operating system."""

import os
import platform
from importlib import metadata
from pathlib import Path

import cropseg_edge


def _processor() -> str:
    """The processor's name: /proc/cpuinfo on x86, the device tree on a Jetson."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
        return Path("/proc/device-tree/model").read_text().strip("\0\n ")
    except OSError:
        return platform.processor() or platform.machine()


def _version(*distributions: str) -> str:
    """Version of the first distribution that is installed, without importing it."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def versions() -> dict[str, str]:
    """Name to version, for the summary of a run."""
    return {
        "cropseg_edge": cropseg_edge.__version__,
        "python": platform.python_version(),
        "os": platform.platform(terse=True),
        "cpu": f"{_processor()} ({os.cpu_count()} logical cores)",
        "numpy": _version("numpy"),
        "opencv": _version("opencv-python-headless", "opencv-python", "opencv-contrib-python"),
        "simplejpeg": _version("simplejpeg"),
        "onnxruntime": _version("onnxruntime", "onnxruntime-gpu"),
    }
