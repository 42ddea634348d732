"""The part of pycuda.driver that the GPU path uses, on this process's own memory.

Device memory is NumPy memory, its address the real one; streams run at once. Every call that needs
a current context asserts one. `live` counts what is allocated; `budget` is what may be.
"""

import ctypes
import os
import threading
import time

import numpy as np


class Error(Exception):
    """Base, as in pycuda."""


class MemoryError(Error):  # noqa: A001 (its name in pycuda)
    """As in pycuda."""


class LaunchError(Error):
    """As in pycuda."""


class device_attribute:
    """As in pycuda."""

    INTEGRATED, MULTIPROCESSOR_COUNT = "integrated", "multiprocessors"


class host_alloc_flags:
    """As in pycuda."""

    DEVICEMAP = 2


class State:
    """What the tests set and look at."""

    name, capability, integrated, driver = "Orin", (8, 7), True, 12060
    multiprocessors = 8
    budget = int(os.environ.get("FAKE_CUDA_BUDGET", 1 << 30))  # of processes that try an engine
    lost = False
    live: dict[int, int] = {}  # noqa: RUF012 (address -> bytes)
    allocations = 0

    @classmethod
    def reset(cls) -> None:
        cls.name, cls.capability, cls.integrated, cls.driver = "Orin", (8, 7), True, 12060
        cls.multiprocessors = 8
        cls.budget, cls.lost, cls.live, cls.allocations = 1 << 30, False, {}, 0


_stack = threading.local()


def _contexts() -> list:
    if not hasattr(_stack, "contexts"):
        _stack.contexts = []
    return _stack.contexts


def _need_context() -> None:
    if not _contexts():
        raise Error("invalid device context")
    if State.lost:
        raise LaunchError("unspecified launch failure")


class Context:
    """The primary context."""

    def push(self) -> None:
        _contexts().append(self)

    @staticmethod
    def pop() -> None:
        _contexts().pop()

    @staticmethod
    def synchronize() -> None:
        _need_context()

    @staticmethod
    def get_device() -> "Device":
        _need_context()
        return Device(0)


class Device:
    """The one device."""

    def __init__(self, number: int) -> None:
        assert number == 0

    @staticmethod
    def count() -> int:
        return 1

    def name(self) -> str:
        return State.name

    def compute_capability(self) -> tuple[int, int]:
        return State.capability

    def get_attribute(self, attribute: str) -> int:
        known = {"integrated": State.integrated, "multiprocessors": State.multiprocessors}
        return int(known[attribute])

    def retain_primary_context(self) -> Context:
        return Context()


def init() -> None:
    """As in pycuda."""


def get_driver_version() -> int:
    return State.driver


def get_version() -> tuple[int, int, int]:
    return (12, 6, 0)


def mem_get_info() -> tuple[int, int]:
    _need_context()
    return State.budget - sum(State.live.values()), State.budget


class _Memory:
    def __init__(self, size: int) -> None:
        _need_context()
        if sum(State.live.values()) + size > State.budget:
            raise MemoryError(f"cuMemAlloc failed: out of memory ({size} bytes)")
        self._raw = np.full(size + 256, 0xA5, np.uint8)
        self.address = self._raw.ctypes.data + (-self._raw.ctypes.data % 256)
        State.live[self.address] = size
        State.allocations += 1

    def free(self) -> None:
        _need_context()
        del State.live[self.address]


class DeviceAllocation(_Memory):
    """What mem_alloc gives."""

    def __int__(self) -> int:
        return self.address


class PagelockedHostAllocation(_Memory):
    """The base of an array from pagelocked_empty."""

    def __init__(self, size: int, mapped: bool) -> None:
        super().__init__(size)
        self._mapped = mapped
        self.__array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (self.address, False), "version": 3,
        }  # fmt: skip

    def get_device_pointer(self) -> int:
        assert self._mapped
        return self.address


def mem_alloc(size: int) -> DeviceAllocation:
    return DeviceAllocation(size)


def pagelocked_empty(shape: int, dtype: object, mem_flags: int = 0) -> np.ndarray:
    assert dtype is np.uint8
    return np.asarray(PagelockedHostAllocation(shape, mem_flags == host_alloc_flags.DEVICEMAP))


class Stream:
    """Runs everything at once."""

    handle = 0x51

    def __init__(self, flags: int = 0) -> None:
        _need_context()

    def synchronize(self) -> None:
        _need_context()


class Event:
    """Takes the time of the CPU."""

    def __init__(self) -> None:
        _need_context()
        self._time = 0.0

    def record(self, stream: Stream) -> "Event":
        _need_context()
        self._time = time.perf_counter()
        return self

    def time_till(self, other: "Event") -> float:
        return 1e3 * (other._time - self._time)


class Function:
    """A kernel of `fade.cu`, built for the host."""

    def __init__(self, name: str) -> None:
        self._name = name

    def prepare(self, codes: str) -> "Function":
        return self

    def prepared_async_call(
        self, grid: tuple[int, int, int], block: tuple[int, int, int], stream: Stream, *args: float
    ) -> None:
        from tests.fade.host_kernels import library

        _need_context()
        getattr(library(), self._name)(*grid, *args)


class Module:
    """Whatever the binary, its kernels are those of the host."""

    def get_function(self, name: str) -> Function:
        return Function(name)


def module_from_buffer(binary: bytes) -> Module:
    _need_context()
    assert binary
    return Module()


def memcpy_htod_async(dest: DeviceAllocation, src: np.ndarray, stream: Stream) -> None:
    _need_context()
    ctypes.memmove(int(dest), src.ctypes.data, src.nbytes)


def memcpy_dtoh_async(dest: np.ndarray, src: DeviceAllocation, stream: Stream) -> None:
    _need_context()
    ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes)


def memcpy_dtoh(dest: np.ndarray, src: DeviceAllocation) -> None:
    memcpy_dtoh_async(dest, src, Stream())
