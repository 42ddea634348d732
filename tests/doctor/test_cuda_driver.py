"""CUDA's driver as the doctor asks it: a library of ours takes its place."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cropseg_edge.doctor import System

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a driver with")

DRIVER = """
#include <string.h>
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin", length); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return 0;
}
"""
RUNTIME = "int cudaRuntimeGetVersion(int *version) { *version = 12060; return 0; }"


def system(folder: Path, init: int) -> System:
    for name, source in {"libcuda.so.1": DRIVER, "libcudart.so": RUNTIME}.items():
        command = [str(COMPILER), "-shared", "-fPIC", f"-DINIT={init}", "-xc", "-"]
        subprocess.run(
            [*command, "-o", str(folder / name)], input=source.encode(), check=True, timeout=60
        )
    return System(environ={**os.environ, "LD_LIBRARY_PATH": str(folder)})


def test_driver_runtime_and_device_are_told(tmp_path: Path) -> None:
    assert system(tmp_path, init=0).probe("cuda") == {
        "driver": "12.6",
        "runtime": "12.6",
        "devices": [{"name": "Orin", "capability": "8.7"}],
    }


def test_a_driver_that_cannot_start_says_so(tmp_path: Path) -> None:
    answer = system(tmp_path, init=999).probe("cuda")
    assert answer["error"] == "cuInit gave error 999"
    assert answer["devices"] == []
