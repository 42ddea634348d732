"""Loading and launching through pycuda, with a pycuda that is played: what it is asked to do."""

import struct
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cropseg_edge.errors import DeviceMemoryError, EngineError
from cropseg_edge.fade import Affine
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs
from cropseg_edge.fade.cuda.kernels import PARAMETERS

INPUTS = DeviceInputs(0x1000, 0x2000, 0x3000, 0x4000, 0x5000)


class Played(ModuleType):
    """As much of pycuda.driver as is used; launches are recorded as the driver would get them."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001 (its name in pycuda)
        pass

    device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT="multiprocessors")

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.capability = (8, 7)
        self.context = self.loads = self.launches = True
        self.failure: type[Exception] = self.Error
        self.image = b""
        self.launched: list[tuple[str, Any, Any, Any, bytes]] = []
        self.Context = SimpleNamespace(get_device=self._device)

    def _device(self) -> Any:
        if not self.context:
            raise self.Error("context invalid")
        return SimpleNamespace(
            compute_capability=lambda: self.capability,
            get_attribute={"multiprocessors": 16}.__getitem__,
            name=lambda: "Orin",
        )

    def get_driver_version(self) -> int:
        return 12060

    def module_from_buffer(self, image: bytes) -> Any:
        if not self.loads:
            raise self.Error("no kernel image is available")
        self.image = image
        return SimpleNamespace(get_function=lambda name: SimpleNamespace(
            prepare=lambda codes: self._function(name, codes)))  # fmt: skip

    def _function(self, name: str, codes: str) -> Any:
        def launch(grid: Any, block: Any, stream: Any, *arguments: Any) -> None:
            if not self.launches:
                raise self.failure("launch failed")
            self.launched.append((name, grid, block, stream, struct.pack(codes, *arguments)))

        return SimpleNamespace(prepared_async_call=launch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Played:
    played, package = Played(), ModuleType("pycuda")
    package.driver = played  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", played)
    return played


def test_machine_code_of_the_device_is_loaded(cuda: Played) -> None:
    CudaFade()
    assert cuda.image.startswith(b"\x7fELF")
    cuda.capability = (12, 0)
    CudaFade()
    assert cuda.image.lstrip().startswith(b"//"), "PTX text"


def test_every_stage_is_launched_on_the_stream_with_its_parameters(cuda: Played) -> None:
    fade = CudaFade("float16", "nhwc")
    stream: Any = object()
    fade.clear(0x10, stream)
    fade.upsample(INPUTS, 256, 64, 64, 0x6000, stream)
    fade.probabilities(INPUTS, 3, 5, 7, 0x6000, 0x10, stream)
    fade.labels(INPUTS, 3, 5, 7, 0x7000, 0x8000, 0x10, stream)
    fade.probabilities(INPUTS, 3, 5, 7, 0x6000, 0x10, stream, side=2)
    fade.decode(0x6000, 3, 20, 28, Affine(0.5, -0.25, 2, 0), 90, 120, 0x7000, 0x8000, 0x10, stream)
    names = [name for name, *_ in cuda.launched]
    assert names == [
        "clear", "upsample_f16_nhwc", "probabilities_f16", "labels_f16", "conceal",
        "probabilities_f16_s2", "check", "decode",
    ]  # fmt: skip
    for name, grid, block, used, packed in cuda.launched:
        assert len(grid) == len(block) == 3
        assert block == (128, 1, 1)
        assert used is stream
        assert len(packed) == struct.calcsize(PARAMETERS[name])
    upsample = struct.unpack(PARAMETERS["upsample_f16_nhwc"], cuda.launched[1][-1])
    assert upsample[:9] == (*INPUTS, 0x6000, 256, 64, 64)
    decode = struct.unpack(PARAMETERS["decode"], cuda.launched[-1][-1])
    assert decode[4:] == (3, 20, 28, 1 << 31, -(1 << 30), 2 << 32, 0, 90, 120)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"context": False}, r"no CUDA context is current .*make one first"),
        ({"capability": (5, 3)}, r"no FADE kernels for this GPU.*5\.3.*compile sm_53"),
        ({"loads": False}, r"driver of CUDA 12\.6 refuses .*sm_87.* for Orin.*update the driver"),
    ],
)
def test_what_is_missing_is_said(cuda: Played, fault: dict[str, Any], message: str) -> None:
    vars(cuda).update(fault)
    with pytest.raises(EngineError, match=message):
        CudaFade()


def test_without_pycuda_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(EngineError, match=r"needs pycuda.*pip install"):
        CudaFade()


def test_a_failed_launch_names_the_kernel(cuda: Played) -> None:
    fade = CudaFade()
    cuda.launches = False
    with pytest.raises(EngineError, match=r"launching clear .*launch failed") as caught:
        fade.clear(0x10)
    assert not isinstance(caught.value, DeviceMemoryError)
    cuda.failure = cuda.MemoryError
    with pytest.raises(DeviceMemoryError):
        fade.clear(0x10)


def test_closing_twice_is_fine_and_a_closed_one_says_so(cuda: Played) -> None:
    fade = CudaFade()
    fade.close()
    fade.close()
    with pytest.raises(EngineError, match="closed"):
        fade.clear(0x10)
