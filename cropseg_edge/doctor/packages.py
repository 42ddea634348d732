"""The Python packages that every frame goes through, each proven by using it."""

import platform
from pathlib import Path

from cropseg_edge.doctor.board import l4t_release
from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System

_INSTALL = "pip install ."
_REMOTE = ("AzureExecutionProvider",)  # calls a service; never used here


def python(system: System) -> Finding:
    """This Python and the environment that it runs in."""
    kind = f"virtual environment {system.prefix}" if system.in_venv else "no virtual environment"
    found = f"{platform.python_version()}, {kind}"
    data = {"version": platform.python_version(), "prefix": str(system.prefix)}
    return Finding("python", Status.OK, found, data=data)


def numpy(system: System) -> Finding:
    """NumPy; with packages of apt that were built for NumPy 1, below 2."""
    answer = system.probe("numpy")
    if "error" in answer:
        return Finding("numpy", Status.FAIL, answer["error"], _INSTALL, data=answer)
    return Finding("numpy", Status.OK, f"{answer['version']} ({answer['file']})", data=answer)


def opencv(system: System) -> Finding:
    """OpenCV, and which cameras it can open."""
    answer = system.probe("opencv")
    if "error" in answer:
        remedy = "pip install 'numpy<2'   # if the message is about NumPy; otherwise " + _INSTALL
        return Finding("opencv", Status.FAIL, answer["error"], remedy, data=answer)
    names = {"v4l2": "V4L2", "gstreamer": "GStreamer", "ffmpeg": "FFmpeg"}
    has = [name for key, name in names.items() if answer.get(key)]
    lacks = [name for key, name in names.items() if not answer.get(key)]
    found = f"{answer['version']}, with {', '.join(has) or 'no video input'}"
    if lacks:
        found += f", without {', '.join(lacks)}"
    if "GStreamer" in lacks and l4t_release(system) is not None:
        remedy = (
            "for CSI cameras and hardware decoding (USB and RTSP cameras work without) use "
            "JetPack's OpenCV:\n"
            "pip uninstall opencv-python-headless && sudo apt install libopencv-python   "
            "# on JetPack 7: python3-opencv"
        )
        return Finding("opencv", Status.WARN, found, remedy, data=answer)
    return Finding("opencv", Status.OK, found, data=answer)


def simplejpeg(system: System) -> Finding:
    """The decoder of JPEG that tells where data are damaged."""
    answer = system.probe("simplejpeg")
    if "error" in answer:
        return Finding("simplejpeg", Status.FAIL, answer["error"], _INSTALL, data=answer)
    return Finding("simplejpeg", Status.OK, f"{answer['version']} decoded a JPEG", data=answer)


def onnxruntime(system: System) -> list[Finding]:
    """ONNX Runtime, and every provider that it offers, each proven by running a convolution."""
    answer = system.probe("onnxruntime")
    if "error" in answer:
        return [
            Finding(
                "onnxruntime",
                Status.FAIL,
                answer["error"],
                "pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime",
                data=answer,
            )
        ]
    installed = answer.get("distributions", [])
    head = Finding("onnxruntime", Status.OK, answer["version"], data=answer)
    if len(installed) > 1:
        head = Finding(
            "onnxruntime",
            Status.WARN,
            f"{answer['version']}; {' and '.join(installed)} overwrite each other's files",
            f"pip uninstall {' '.join(installed)}; pip install onnxruntime",
            data=answer,
        )
    offered = [name for name in answer.get("providers", []) if name not in _REMOTE]
    return [head, *(_provider(system, name) for name in offered), _int8(system)]


def _provider(system: System, name: str) -> Finding:
    check = f"  {name.removesuffix('ExecutionProvider')}"
    answer = system.probe("provider", name)
    data = {"provider": name, **answer}
    if "error" not in answer:
        return Finding(check, Status.OK, "ran a convolution", data=data)
    found = f"offered, but does not run: {answer['error']}"
    if name == "CPUExecutionProvider":
        remedy = "pip install --force-reinstall onnxruntime"
        return Finding(check, Status.FAIL, found, remedy, data=data)
    remedy = "nothing to do: cropseg uses its own TensorRT engine, and this provider's CPU sibling"
    return Finding(check, Status.WARN, found, remedy, data=data)


def _int8(system: System) -> Finding:
    answer = system.probe("int8")
    if answer.get("exact"):
        return Finding("  INT8", Status.OK, "adds 8-bit products exactly", data=answer)
    found = answer.get("error", "this processor adds 8-bit products in 16 bits, which saturate")
    remedy = "nothing to do: cropseg runs FP32 on the CPU, about half as many frames a second"
    return Finding("  INT8", Status.WARN, found, remedy, data=answer)


def fade(system: System) -> Finding:
    """FADE's compiled library for the CPU."""
    answer = system.probe("fade")
    if answer.get("compiled"):
        return Finding("fade", Status.OK, "compiled library for the CPU", data=answer)
    why = answer.get("error", "not compiled; NumPy and ONNX Runtime do its work, slower")
    remedy = (
        "sudo apt install g++ python3-dev && pip install --force-reinstall --no-deps .   "
        "# in the checkout"
    )
    return Finding("fade", Status.WARN, why, remedy, data=answer)


def bundle(system: System) -> Finding:
    """The bundle that is shipped, whole."""
    answer = system.probe("bundle")
    if "error" in answer:
        return Finding("bundle", Status.FAIL, answer["error"], _INSTALL, data=answer)
    engines = "; ".join(
        f"{engine} {'/'.join(precisions)}" for engine, precisions in answer["engines"].items()
    )
    found = f"{answer['name']}, {answer['sha256'][:12]}, graphs for {engines}"
    return Finding("bundle", Status.OK, found, data=answer)


def ros(system: System) -> Finding:
    """ROS 2: the distribution that is sourced, rclpy, the middleware, our packages."""
    distro = system.environ.get("ROS_DISTRO", "")
    answer = {**system.probe("ros"), "distro": distro}
    setups = system.glob("/opt/ros/*/setup.bash")
    if "error" in answer:
        if not setups and not distro:
            return Finding("ros 2", Status.ABSENT, "not installed", data=answer)
        own = platform.python_version().rpartition(".")[0]
        if distro and (theirs := _python_of(system, distro)) not in ("", own):
            found = f"{distro} is sourced, for Python {theirs}; this is {own}: {answer['error']}"
            remedy = (
                f"make the environment anew: python{theirs} -m venv --system-site-packages .venv"
            )
            return Finding("ros 2", Status.WARN, found, remedy, data=answer)
        setup = setups[-1] if setups else f"/opt/ros/{distro}/setup.bash"
        remedy = f". {setup}   # in an environment with --system-site-packages"
        found = f"{setup} is there, rclpy is not: {answer['error']}"
        return Finding("ros 2", Status.WARN, found, remedy, data=answer)
    rmw = system.environ.get("RMW_IMPLEMENTATION") or answer.get("rmw", "unknown")
    found = f"{distro or 'no ROS_DISTRO'}, rclpy ({answer['file']}), {rmw}"
    lacks = [name for name in ("cropseg_msgs", "cropseg_ros") if not answer.get(name)]
    if lacks:
        found += f"; {' and '.join(lacks)} not sourced"
        if distro:
            # Not `colcon build`: its nodes would start the system's Python, without cropseg_edge.
            remedy = "python3 -m colcon build --base-paths ros2_ws/src && . install/setup.bash"
            return Finding("ros 2", Status.WARN, found, remedy, data=answer)
    return Finding("ros 2", Status.OK, found, data=answer)


def _python_of(system: System, distro: str) -> str:
    """The Python version that a distribution's rclpy was built for; empty if it is not found."""
    for place in ("lib", "local/lib"):
        for path in system.glob(f"/opt/ros/{distro}/{place}/python3*/*-packages/rclpy"):
            return Path(path).parts[-3].removeprefix("python")
    return ""
