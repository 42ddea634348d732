"""CUDA's driver, runtime and devices, asked through ctypes: nothing but the libraries is needed."""

import ctypes
from typing import Any


def cuda() -> dict[str, Any]:
    """Versions of driver and runtime, and the devices, through ctypes."""
    answer: dict[str, Any] = {"devices": []}
    if (driver := _load("libcuda.so.1")) is not None:
        number = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) == 0:
            answer["driver"] = _cuda_version(number.value)
        if (code := driver.cuInit(0)) != 0:
            answer["error"] = f"cuInit gave error {code}"
        elif driver.cuDeviceGetCount(ctypes.byref(number)) == 0:
            answer["devices"] = [_device(driver, index) for index in range(number.value)]
    runtime = _load(
        "libcudart.so",
        *(f"libcudart.so.{major}" for major in (14, 13, 12, 11)),
        "/usr/local/cuda/lib64/libcudart.so",
    )
    number = ctypes.c_int()
    if runtime is not None and runtime.cudaRuntimeGetVersion(ctypes.byref(number)) == 0:
        answer["runtime"] = _cuda_version(number.value)
    return answer


def _device(driver: ctypes.CDLL, index: int) -> dict[str, Any]:
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, 256, index)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, index)  # compute capability, major
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)  # compute capability, minor
    return {"name": name.value.decode(), "capability": f"{major.value}.{minor.value}"}


def _load(*names: str) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
