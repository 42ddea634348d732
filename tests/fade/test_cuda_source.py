"""The CUDA source compiles for every GPU that is served, and what is shipped is what it gives."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cropseg_edge.errors import EngineError
from cropseg_edge.fade.cuda.compile import SHIPPED, source_sha256
from cropseg_edge.fade.cuda.driver import BINARIES, RECORD, choose_binary
from cropseg_edge.fade.cuda.kernels import PARAMETERS, THREADS
from cropseg_edge.fade.cuda.toolchain import Compiled, nvcc, nvrtc, usage

REGISTERS = 65536  # of a multiprocessor, in every architecture here
CUDA_ELF = 190  # the machine number of ELF files with GPU code
PTX_TYPES = {"u64": "Pq", "u32": "i", "f32": "f"}


def shipped(target: str) -> bytes:
    return gzip.decompress((BINARIES / f"{target}.gz").read_bytes())


def compiled_or_skip(compiler: Callable[[str], Compiled], target: str) -> Compiled:
    try:
        return compiler(target)
    except EngineError as error:
        if "refuses" in str(error):
            raise
        pytest.skip(str(error))


def architecture(cubin: bytes) -> int:
    """The SM number in an ELF header; its place moved with CUDA 13."""
    assert cubin[:4] == b"\x7fELF"
    assert int.from_bytes(cubin[18:20], "little") == CUDA_ELF
    flags = int.from_bytes(cubin[48:52], "little")
    return flags >> 8 & 0xFF if cubin[8] >= 8 else flags & 0xFF


def test_shipped_kernels_are_of_this_source() -> None:
    record = json.loads((BINARIES / RECORD).read_text("utf-8"))
    assert set(record) >= set(SHIPPED)
    for target, entry in record.items():
        packed = (BINARIES / f"{target}.gz").read_bytes()
        assert entry["sha256"] == hashlib.sha256(packed).hexdigest(), target
        assert entry["source_sha256"] == source_sha256(), (
            f"{target} was compiled from another source: python -m cropseg_edge.fade.cuda.compile"
        )


def test_shipped_kernels_are_small() -> None:
    assert sum(path.stat().st_size for path in BINARIES.iterdir()) < 1_000_000


@pytest.mark.parametrize("target", [x for x in SHIPPED if x.startswith("sm_")])
def test_shipped_machine_code_is_for_its_gpu_and_has_every_kernel(target: str) -> None:
    cubin = shipped(target)
    assert architecture(cubin) == int(target.removeprefix("sm_"))
    for name in PARAMETERS:
        assert f".text.{name}\0".encode() in cubin


def test_orin_loads_with_cuda_12_6() -> None:
    record = json.loads((BINARIES / RECORD).read_text("utf-8"))
    assert record["sm_87"]["toolchain"] == record["compute_75"]["toolchain"] == "NVRTC 12.6"
    assert shipped("compute_75").endswith(b"\0"), "the driver reads PTX up to a zero"
    version = re.search(r"^\.version (\d+)\.(\d+)$", shipped("compute_75").decode(), re.M)
    assert version is not None
    assert (int(version[1]), int(version[2])) <= (8, 5), "what CUDA 12.6's driver reads"


def test_parameters_are_those_of_the_source() -> None:
    text = shipped("compute_75").decode()
    entries = re.findall(r"\.entry (\w+)\((.*?)\)", text, re.S)
    assert {name for name, _ in entries} == set(PARAMETERS)
    for name, parameters in entries:
        types = re.findall(r"\.param \.(\w+)", parameters)
        assert len(types) == len(PARAMETERS[name]), name
        for code, kind in zip(PARAMETERS[name], types, strict=True):
            assert code in PTX_TYPES[kind], f"{name}: {types}"


@pytest.mark.parametrize(
    ("compiler", "target"),
    [(nvcc, "sm_87"), (nvcc, "sm_110"), (nvcc, "sm_90"), (nvrtc, "sm_87")],
)
def test_kernels_fit_their_gpu_without_spills(
    compiler: Callable[[str], Compiled], target: str
) -> None:
    compiled = compiled_or_skip(compiler, target)
    assert architecture(compiled.code) == int(target.removeprefix("sm_"))
    figures = usage(compiled.log)
    assert set(figures) == set(PARAMETERS)
    for name, kernel in figures.items():
        assert kernel.spilled == 0, f"{name} spills on {target}"
        blocks = 3 if "nchw" in name else 4
        assert kernel.registers * THREADS * blocks <= REGISTERS, f"{name} has too few blocks"
        assert kernel.shared <= 24 * 1024


def test_compiling_again_gives_what_is_shipped() -> None:
    compiled = compiled_or_skip(nvrtc, "compute_75")
    if compiled.toolchain != "NVRTC 12.6":
        pytest.skip(f"shipped kernels are of NVRTC 12.6, here is {compiled.toolchain}")
    assert compiled.code == shipped("compute_75")


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((8, 7), "sm_87.gz"),
        ((9, 0), "sm_90.gz"),
        ((11, 0), "sm_110.gz"),
        ((8, 9), "compute_75.gz"),
        ((12, 1), "compute_75.gz"),
    ],
)
def test_each_gpu_gets_its_machine_code_or_ptx(capability: tuple[int, int], name: str) -> None:
    assert choose_binary(capability).name == name


def test_a_gpu_without_kernels_is_named_with_what_to_do() -> None:
    with pytest.raises(EngineError, match=r"7\.2, shipped are .*sm_87.*compile sm_72"):
        choose_binary((7, 2))


def test_source_that_does_not_compile_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("this is no program\n")
    for compiler in (nvcc, nvrtc):
        with pytest.raises(EngineError, match=r"refuses broken\.cu|no nvcc|no NVRTC|needs g\+\+"):
            compiler("sm_87", source)
