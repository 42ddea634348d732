"""CUDA, TensorRT and pycuda: there, of which version, and visible to this Python."""

from cropseg_edge.doctor.board import l4t_release, package_version
from cropseg_edge.doctor.finding import Finding, Status, version
from cropseg_edge.doctor.system import System

# How pycuda is built where JetPack's CUDA is: its set-up asks nvcc's place and CUDA_ROOT.
PYCUDA = (
    "sudo apt install build-essential python3-dev\n"
    "export CUDA_ROOT=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH "
    "CPATH=/usr/local/cuda/include LIBRARY_PATH=/usr/local/cuda/lib64\n"
    "pip install --no-cache-dir 'pycuda>=2024.1'"
)
# pip leaves alone what is there in a version that fits, and may have kept its own build of it.
_REBUILD = PYCUDA.replace(
    "pip install", "pip install --force-reinstall --no-deps --no-binary pycuda"
)
_LIBRARIES = "sudo apt install nvidia-jetpack"


def cuda(system: System) -> Finding:
    """Driver, runtime, compiler and device."""
    answer = system.probe("cuda")
    nvcc = _nvcc(system)
    devices = answer.get("devices", [])
    parts = [
        f"driver {answer['driver']}" if "driver" in answer else "no driver (libcuda.so.1)",
        f"runtime {answer['runtime']}" if "runtime" in answer else "no runtime (libcudart)",
        f"nvcc {nvcc}" if nvcc else "no nvcc",
        *(f"{device['name']} sm_{device['capability'].replace('.', '')}" for device in devices),
    ]
    data = {**answer, "nvcc": nvcc}
    if "error" in answer:
        parts.append(answer["error"])
    on_jetson = l4t_release(system) is not None
    if not on_jetson:
        status = Status.OK if devices else Status.ABSENT
        return Finding("cuda", status, ", ".join(parts), data=data)
    if not devices:
        return Finding("cuda", Status.WARN, ", ".join(parts), _device_remedy(system), data=data)
    if "runtime" not in answer:
        return Finding("cuda", Status.WARN, ", ".join(parts), _LIBRARIES, data=data)
    return Finding("cuda", Status.OK, ", ".join(parts), data=data)


def _device_remedy(system: System) -> str:
    missing = [name for name in ("video", "render") if name not in system.groups]
    if missing and system.user != "root":
        return f"sudo usermod -aG {','.join(missing)} {system.user}   # then log in again"
    return "inside a container start it with `--runtime nvidia`; otherwise " + _LIBRARIES


def _nvcc(system: System) -> str:
    text = system.run("nvcc", "--version") or ""
    return text.partition("release ")[2].partition(",")[0]


def tensorrt(system: System) -> Finding:
    """TensorRT's Python module: JetPack's, visible to this environment."""
    answer = system.probe("tensorrt")
    if "error" not in answer:
        return _tensorrt_there(system, answer)
    error = answer["error"]
    places = system.glob("/usr/lib/python3*/dist-packages/tensorrt")
    data = {"error": error, "hidden": bool(places)}
    if not places:
        if l4t_release(system) is None:
            return Finding("tensorrt", Status.ABSENT, "not installed", data=data)
        remedy = "sudo apt update && sudo apt install nvidia-jetpack python3-libnvinfer"
        return Finding("tensorrt", Status.WARN, f"not installed ({error})", remedy, data=data)
    if system.in_venv and not _sees_system_packages(system):
        return Finding(
            "tensorrt",
            Status.WARN,
            f"installed in {places[0]}, and hidden from this virtual environment",
            "sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' "
            f"{system.prefix}/pyvenv.cfg\n"
            "or make it anew: python3 -m venv --system-site-packages .venv",
            data=data,
        )
    return Finding(
        "tensorrt",
        Status.WARN,
        f"installed in {places[0]}, but cannot be imported: {error}",
        "use the system's own Python (/usr/bin/python3) for the environment: python3 -m venv "
        "--system-site-packages .venv; if it is that one: "
        "sudo apt install --reinstall python3-libnvinfer",
        data=data,
    )


def _tensorrt_there(system: System, answer: dict[str, str]) -> Finding:
    number, place = answer["version"], answer["file"]
    package = package_version(system, "python3-libnvinfer").partition("-")[0]
    data = {**answer, "package": package}
    if l4t_release(system) is not None and not place.startswith("/usr/lib/python3"):
        return Finding(
            "tensorrt",
            Status.WARN,
            f"{number} from {place}: a wheel, not JetPack's {package or 'own'}",
            "pip uninstall tensorrt tensorrt-cu12 tensorrt-cu13   # then JetPack's is seen",
            data=data,
        )
    return Finding("tensorrt", Status.OK, f"{number} ({place})", data=data)


def _sees_system_packages(system: System) -> bool:
    text = system.read(system.prefix / "pyvenv.cfg") or ""
    lines = dict(line.partition("=")[::2] for line in text.splitlines())
    settings = {key.strip().lower(): value.strip().lower() for key, value in lines.items()}
    return settings.get("include-system-site-packages") == "true"


def pycuda(system: System) -> Finding:
    """pycuda: needed for the TensorRT engine and FADE in CUDA."""
    answer = system.probe("pycuda")
    error = answer.get("error", "")
    if "version" not in answer:
        if l4t_release(system) is None:
            return Finding("pycuda", Status.ABSENT, "not installed", data=answer)
        return Finding("pycuda", Status.WARN, f"not installed ({error})", PYCUDA, data=answer)
    if error:
        remedy = "see `cuda` above; if that is fine, build it again:\n" + _REBUILD
        return Finding(
            "pycuda", Status.WARN, f"{answer['version']} cannot be used: {error}", remedy,
            data=answer,
        )  # fmt: skip
    found = f"{answer['version']} opens {answer['device']}"
    if version(answer["version"]) < (2024, 1):
        return Finding("pycuda", Status.WARN, f"{found}; 2024.1 is needed", PYCUDA, data=answer)
    return Finding("pycuda", Status.OK, found, data=answer)


def cuda_fade(system: System) -> Finding:
    """FADE's CUDA kernels, proven by loading them."""
    answer = system.probe("cuda_fade")
    error = answer.get("error", "")
    if not error:
        return Finding("fade cuda", Status.OK, "its kernels load on this GPU", data=answer)
    if "No module named 'pycuda" in error or l4t_release(system) is None:
        return Finding("fade cuda", Status.ABSENT, f"not tried: {error}", data=answer)
    remedy = "if `cuda` and `pycuda` are fine, report it with --json; ONNX Runtime works without"
    return Finding("fade cuda", Status.WARN, error, remedy, data=answer)
