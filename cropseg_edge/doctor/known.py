"""Known problems: combinations that others have met, as a table with remedies and sources."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cropseg_edge.doctor.board import package_version
from cropseg_edge.doctor.finding import Finding, Status, version
from cropseg_edge.doctor.system import System
from cropseg_edge.engines.tensorrt.known_issues import known_issues

Found = Mapping[str, Finding]
_GITHUB = "https://github.com/"
DISTRIBUTION = ("/usr/lib/python3", "/opt/ros/")  # where apt puts Python packages


@dataclass(frozen=True)
class KnownProblem:
    """A row of the table.

    Attributes:
        name: short, for lists.
        meets: whether a machine has it, from its findings by check name.
        symptom: what is seen.
        remedy: what to type or do.
        sources: where it is described.
        status: FAIL where `cropseg run` cannot work with it.
    """

    name: str
    meets: Callable[[Found, System], bool]
    symptom: str
    remedy: str
    sources: tuple[str, ...] = ()
    status: Status = Status.WARN


def known(found: Found, system: System) -> list[Finding]:
    """The known problems of this machine: rows of the table, and the engine's own table."""
    rows = [
        Finding("known", row.status, f"{row.name}: {row.symptom}", row.remedy, row.sources)
        for row in PROBLEMS
        if row.meets(found, system)
    ]
    operators = _get(found, "bundle", "operators", [])
    for issue in known_issues(str(_get(found, "tensorrt", "version", ""))):
        affects = not issue.operator or issue.operator in operators
        text = f"{issue.name}: {issue.symptom}"
        sources = tuple(issue.sources)
        if affects:
            rows.append(Finding("known", Status.WARN, text, issue.remedy, sources))
        else:
            text += f"; the shipped bundle has no {issue.operator} and is not affected"
            rows.append(Finding("known", Status.OK, text, "", sources))
    return rows


def _get(found: Found, check: str, key: str, default: Any = None) -> Any:
    return found[check].data.get(key, default) if check in found else default


def _old_jetpack(found: Found, _: System) -> bool:
    l4t = version(_get(found, "jetpack", "l4t"))
    tensorrt = version(_get(found, "tensorrt", "version"))
    return bool(l4t) and (l4t < (36, 4) or () < tensorrt < (10,))


def _numpy_2_with_apt(found: Found, system: System) -> bool:
    """NumPy 2 beside packages of the distribution, whose own NumPy is 1."""
    if version(_get(found, "numpy", "version")) < (2,):
        return False
    if "numpy" in str(_get(found, "opencv", "error", "")).lower():
        return True
    built_for = version(package_version(system, "python3-numpy").rpartition(":")[2])
    files = [str(_get(found, check, "file", "")) for check in ("opencv", "tensorrt", "ros 2")]
    return () < built_for < (2,) and any(file.startswith(DISTRIBUTION) for file in files)


def _wrong_onnxruntime(found: Found, _: System) -> bool:
    # FADE's kernels may say the same, and are not ONNX Runtime's.
    providers = [finding.data for finding in found.values() if "provider" in finding.data]
    errors = [str(data.get("error", "")) for data in providers]
    return any("no kernel image" in e or "NoKernelImageForDevice" in e for e in errors)


def _not_in_video(found: Found, system: System) -> bool:
    on_jetson = _get(found, "jetpack", "l4t") is not None
    return on_jetson and system.user != "root" and "video" not in system.groups


def _container(found: Found, system: System) -> bool:
    return _get(found, "jetpack", "l4t") is not None and bool(system.glob("/.dockerenv"))


def _fast_dds_defaults(found: Found, system: System) -> bool:
    fast = "fastrtps" in str(_get(found, "ros 2", "rmw", ""))
    profile = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    tuned = any(name in system.environ for name in profile)
    malloc = "MALLOC_MMAP_THRESHOLD_" in system.environ
    sourced = bool(_get(found, "ros 2", "distro"))
    return sourced and fast and not (tuned and malloc)


PROBLEMS = (
    KnownProblem(
        "old JetPack",
        _old_jetpack,
        "JetPack 6.0 and older bring TensorRT 8.6, for which this project builds no engine; "
        "ONNX Runtime on the CPU works",
        "flash JetPack 6.2 or 7.2, or upgrade by apt: "
        "https://docs.nvidia.com/jetson/jetpack/install-setup/",
    ),
    KnownProblem(
        "numpy 2 with apt packages",
        _numpy_2_with_apt,
        "rclpy and OpenCV of this distribution were built for NumPy 1 and fail with 2",
        "pip install 'numpy<2' 'opencv-python-headless<4.12'",
        (
            _GITHUB + "ros-perception/vision_opencv/issues/535",
            _GITHUB + "mgonzs13/yolo_ros/issues/75",
        ),
    ),
    KnownProblem(
        "onnxruntime-gpu for another GPU",
        _wrong_onnxruntime,
        "its wheel has no kernels for this GPU (wheels of PyPI are built for servers)",
        "pip uninstall onnxruntime-gpu; pip install onnxruntime   # the GPU is TensorRT's here",
        (
            _GITHUB + "microsoft/onnxruntime/issues/3117",
            "https://github.com/straga/jetson-jp7-onnxruntime",
        ),
    ),
    KnownProblem(
        "not in group video",
        _not_in_video,
        "cameras and, on JetPack 6, the GPU's device files belong to the groups video and render",
        "sudo usermod -aG video,render $USER   # then log in again",
    ),
    KnownProblem(
        "in a container",
        _container,
        "the container must be started with the NVIDIA runtime, and an engine built in it is "
        "only for the same image",
        "docker run --runtime nvidia --device /dev/video0 --group-add video ...",
    ),
    KnownProblem(
        "Fast DDS defaults",
        _fast_dds_defaults,
        "in this shell large images are late or lost; the launch file sets this for its own node, "
        "the camera's process needs it too",
        "export FASTRTPS_DEFAULT_PROFILES_FILE="
        "$(ros2 pkg prefix cropseg_ros)/share/cropseg_ros/config/fastdds.xml\n"
        "export MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=536870912 "
        "MALLOC_TOP_PAD_=67108864",
        (_GITHUB + "ros2/rmw_fastrtps/issues/757", _GITHUB + "ros2/rclpy/issues/763"),
    ),
)
