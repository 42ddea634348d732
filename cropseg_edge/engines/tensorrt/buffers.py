"""Memory that the camera's side and the GPU's side both reach, allocated once and kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SharedBuffer:
    """Page-locked bytes with an address on the GPU.

    Where CPU and GPU share one memory (every Jetson) the GPU works on the bytes themselves;
    elsewhere `upload` and `download` copy. It grows to the largest size asked for and stays so.

    Args:
        cuda: the module `pycuda.driver`; a context is current in every call.
        integrated: CPU and GPU share one memory.
    """

    def __init__(self, cuda: Any, integrated: bool) -> None:
        self._cuda = cuda
        self._integrated = integrated
        self._host: Any = None
        self._device: Any = None

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes; nothing happens where there is enough."""
        if self._host is not None and self._host.nbytes >= size:
            return
        self.free()
        cuda = self._cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if self._integrated else 0
        if not self._integrated:
            self._device = cuda.mem_alloc(size)
        self._host = cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)

    def array(self, *shape: int) -> NDArray[np.uint8]:
        """The first bytes as an array of this shape, on the CPU's side."""
        view: NDArray[np.uint8] = self._host[: int(np.prod(shape))].reshape(shape)
        return view

    @property
    def address(self) -> int:
        """On the GPU's side."""
        if self._integrated:
            return int(self._host.base.get_device_pointer())
        return int(self._device)

    def upload(self, size: int, stream: Any) -> None:
        """Let the GPU see the first bytes, in the order of the stream."""
        if not self._integrated:
            self._cuda.memcpy_htod_async(self._device, self._host[:size], stream)

    def download(self, size: int, stream: Any) -> None:
        """Let the CPU see the first bytes, once the stream has been waited for."""
        if not self._integrated:
            self._cuda.memcpy_dtoh_async(self._host[:size], self._device, stream)

    def free(self) -> None:
        """Free both sides; idempotent."""
        if self._device is not None:
            self._device.free()
        if self._host is not None:
            self._host.base.free()
        self._host = self._device = None
