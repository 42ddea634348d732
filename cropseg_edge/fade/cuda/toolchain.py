"""The compilers of the CUDA kernels: nvcc for CUDA 13, NVRTC 12.6 for what CUDA 12.6 must load.

Both come from the machine or from PyPI wheels (`pip install 'cropseg-edge[kernels]'`). A driver
loads machine code of its own CUDA version or an older one, and no newer PTX than it knows:
JetPack 6 has CUDA 12.6, whose PTX is 8.5; CUDA 13 made sm_110 of what 12.8 called sm_101.
"""

import ctypes
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from cropseg_edge.errors import EngineError

SOURCE = Path(__file__).with_name("fade.cu")
_INSTALL = "pip install 'cropseg-edge[kernels]' (Linux on x86-64)"


class Compiled(NamedTuple):
    """What a compiler gave.

    Attributes:
        code: ELF machine code (cubin), or PTX text.
        toolchain: name and version of the compiler.
        log: what it reported, `ptxas -v`'s figures included.
    """

    code: bytes
    toolchain: str
    log: str


class Usage(NamedTuple):
    """What a kernel takes on one architecture, in registers a thread and bytes."""

    registers: int
    shared: int
    spilled: int


def usage(log: str) -> dict[str, Usage]:
    """Every kernel's figures, from the report of `ptxas -v`."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        registers = re.search(r"Used (\d+) registers", part)
        if registers is None:
            continue
        shared = re.search(r"(\d+) bytes smem", part)
        spills = re.findall(r"(\d+) bytes (?:spill|cumulative stack|stack frame)", part)
        found[part.split("'")[0]] = Usage(
            int(registers[1]), int(shared[1]) if shared else 0, sum(map(int, spills))
        )
    return found


class Nvcc(NamedTuple):
    """An nvcc and its version, as "13.0.88"."""

    path: str
    version: str


@cache
def find_nvcc() -> Nvcc:
    """nvcc 13 or newer: the machine's, else that of the PyPI wheels.

    Raises:
        EngineError: there is none.
    """
    candidates = [shutil.which("nvcc"), *(x / "cu13" / "bin" / "nvcc" for x in _wheel_folders())]
    seen = []
    for path in (str(x) for x in candidates if x is not None and Path(x).exists()):
        text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"V(\d+)\.\d+\.\d+", text)
        if version is not None and int(version[1]) >= 13:
            return Nvcc(path, version[0][1:])
        seen.append(f"{path} {version[0] if version else 'of unknown version'}")
    raise EngineError(
        f"no nvcc of CUDA 13 or newer, which sm_110 needs (found: {seen or 'none'}); install that "
        f"toolkit, or {_INSTALL}"
    )


def nvcc(architecture: str, source: Path = SOURCE) -> Compiled:
    """Machine code for one architecture, as "sm_110".

    Raises:
        EngineError: nvcc is missing, or does not compile the source.
    """
    compiler = find_nvcc()
    if shutil.which("g++") is None:
        raise EngineError("nvcc needs g++, which is missing; on Ubuntu: apt install g++")
    with TemporaryDirectory() as folder:
        out = Path(folder) / "fade.cubin"
        options = ["-std=c++17", "-cubin", f"-arch={architecture}", "-Xptxas", "-v", "-o", str(out)]
        command = [compiler.path, *options, str(source)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise EngineError(
                f"{compiler.path} refuses {source.name}: {run.stderr.strip()[-2000:]}"
            )
        return Compiled(out.read_bytes(), f"nvcc {compiler.version}", run.stderr)


def nvrtc(architecture: str, source: Path = SOURCE) -> Compiled:
    """Machine code ("sm_87") or PTX ("compute_75") by NVRTC 12.6; needs no driver.

    Raises:
        EngineError: NVRTC is missing, or does not compile the source.
    """
    library = _nvrtc_library()
    options = [
        f"--gpu-architecture={architecture}", "--std=c++17", f"-I{source.parent}",
        "--ptxas-options=-v",
    ]  # fmt: skip
    program = ctypes.c_void_p()
    text = source.read_bytes()
    library.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None)
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    code = library.nvrtcCompileProgram(program, len(options), array)
    log = _fetch(library, program, "ProgramLog").decode().strip("\0")
    if code != 0:
        raise EngineError(f"NVRTC refuses {source.name}: {log.strip()[-2000:]}")
    kind = "CUBIN" if architecture.startswith("sm_") else "PTX"
    binary = _fetch(library, program, kind)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return Compiled(binary, f"NVRTC {major.value}.{minor.value}", log)


@cache
def _nvrtc_library() -> ctypes.CDLL:
    for folder in _wheel_folders():
        path = folder / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"
        if path.exists():
            return ctypes.CDLL(str(path))
    raise EngineError(f"no NVRTC 12.6 in this environment; {_INSTALL}")


def _wheel_folders() -> list[Path]:
    """The `nvidia` folders that NVIDIA's wheels install into."""
    spec = find_spec("nvidia")
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def _fetch(library: ctypes.CDLL, program: Any, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw
