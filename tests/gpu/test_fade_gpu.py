"""The FADE kernels on a GPU, against float64 and against the same source run on the host.

Needs a GPU, its driver and pycuda; skipped with the reason elsewhere.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cropseg_edge.errors import EngineError
from cropseg_edge.fade import Affine, fade_probabilities, fade_upsample
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs, StageStatus
from cropseg_edge.fade.cuda.kernels import DType, Layout
from cropseg_edge.fade.reference import fade_reference
from cropseg_edge.letterbox import Letterbox
from tests.fade.host_kernels import Array, HostFade, grid_of, side_of, to_layout
from tests.fade.test_cuda_kernels import DTYPES, LAYOUTS, SIDES, rounded
from tests.fade.test_cuda_preprocess import picture, spec_of
from tests.fade.test_cuda_tensor import two_roundings
from tests.fade.test_decode import random_probabilities
from tests.fade.test_fade import make


@pytest.fixture(scope="module")
def cuda() -> Iterator[Any]:
    """pycuda.driver with the first GPU's primary context current."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        pytest.skip(f"no pycuda: {error}")
    try:
        driver.init()
        context = driver.Device(0).retain_primary_context()
    except driver.Error as error:
        pytest.skip(f"no GPU: {error}")
    context.push()
    yield driver
    context.pop()


class GpuFade:
    """`CudaFade` on NumPy arrays, each uploaded before and downloaded after."""

    def __init__(
        self,
        cuda: Any,
        dtype: DType = "float32",
        layout: Layout = "nchw",
        tensor_cores: bool = False,
    ) -> None:
        self._cuda, self._dtype, self._layout = cuda, np.dtype(dtype), layout
        try:
            self.fade = CudaFade(dtype, layout, tensor_cores=tensor_cores)
        except EngineError as error:
            pytest.fail(str(error))
        self._held: list[Any] = []
        self._status = self.upload(np.full(1, -1, np.int32))
        self.fade.clear(self._status)

    @property
    def status(self) -> StageStatus:
        return StageStatus(int(self.download(self._status, (1,), np.int32)[0]))

    def upload(self, values: Array) -> int:
        self._held.append(self._cuda.to_device(np.ascontiguousarray(values)))
        return int(self._held[-1])

    def download(self, address: int, shape: tuple[int, ...], dtype: Any) -> Array:
        result = np.empty(shape, dtype)
        self._cuda.memcpy_dtoh(result, address)  # waits for what was launched before
        return result

    def inputs(self, tensors: list[Array], layout: Layout) -> DeviceInputs:
        layouts: list[Layout] = [layout, "nchw", "nchw", layout, "nchw"]
        return DeviceInputs(
            *(
                self.upload(to_layout(x.astype(self._dtype), one))
                for x, one in zip(tensors, layouts, strict=False)
            )
        )

    def upsample(self, tensors: list[Array]) -> Array:
        channels, h, w = tensors[0].shape[1:]
        like = to_layout(np.zeros((1, channels, *grid_of(tensors)), self._dtype), self._layout)
        out, side = self.upload(like), side_of(tensors)
        self.fade.upsample(self.inputs(tensors, self._layout), channels, h, w, out, side=side)
        result = self.download(out, like.shape, self._dtype)
        planes = result if self._layout == "nchw" else np.moveaxis(result, -1, 1)
        return planes.astype(np.float64)

    def probabilities(self, tensors: list[Array]) -> Array:
        channels, h, w = tensors[0].shape[1:]
        shape = (channels, *grid_of(tensors))
        out = self.upload(np.zeros(shape, np.float32))
        self.fade.probabilities(
            self.inputs(tensors, "nchw"), channels, h, w, out, self._status, side=side_of(tensors)
        )
        return self.download(out, shape, np.float32)

    def labels(self, tensors: list[Array]) -> tuple[Array, Array]:
        channels, h, w = tensors[0].shape[1:]
        size = grid_of(tensors)
        both = [self.upload(np.zeros(size, np.uint8)) for _ in range(2)]
        self.fade.labels(
            self.inputs(tensors, "nchw"), channels, h, w, *both, self._status, side=side_of(tensors)
        )
        labels, confidence = (self.download(x, size, np.uint8) for x in both)
        return labels, confidence

    def decode(self, p: Array, affine: Affine, height: int, width: int) -> tuple[Array, Array]:
        both = [self.upload(np.zeros((height, width), np.uint8)) for _ in range(2)]
        self.fade.decode(self.upload(p), *p.shape, affine, height, width, *both, self._status)
        labels, confidence = (self.download(x, (height, width), np.uint8) for x in both)
        return labels, confidence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("gated", "side"), [(True, 1), (True, 2), (False, 1)])
@pytest.mark.parametrize("shape", [(3, 5, 7), (17, 1, 33), (64, 9, 2), (256, 4, 5), (8, 33, 35)])
def test_upsampling_agrees_with_the_equations(
    cuda: Any, dtype: DType, layout: Layout, gated: bool, side: int, shape: tuple[int, int, int]
) -> None:
    tensors = rounded(make(*shape, gated, 3.0, side=side), dtype)
    expected = fade_reference(*tensors)
    storage = 2**-11 * np.abs(expected).max() if dtype == "float16" else 0
    result = GpuFade(cuda, dtype, layout).upsample(tensors)
    np.testing.assert_allclose(result, expected, atol=2e-5 + storage, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_map_agrees_with_the_cpu(cuda: Any, layout: Layout) -> None:
    tensors = rounded(make(256, 65, 63, True), "float16")
    expected = fade_upsample(*tensors)
    result = GpuFade(cuda, "float16", layout).upsample(tensors)
    np.testing.assert_allclose(result, expected, atol=2e-5 + 2**-11 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(
    "shape", [(8, 5, 6), (16, 1, 34), (72, 9, 2), (40, 33, 36), (256, 65, 62), (256, 128, 128)]
)
def test_tensor_cores_agree_with_the_cpu(
    cuda: Any, gated: bool, layout: Layout, shape: tuple[int, int, int]
) -> None:
    tensors = rounded(make(*shape, gated, 3.0), "float16")
    expected = fade_upsample(*tensors)
    result = GpuFade(cuda, "float16", layout, tensor_cores=True).upsample(tensors)
    bound = 2e-5 + two_roundings(tensors, expected)
    np.testing.assert_allclose(result, expected, atol=bound, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("tensor", range(5))
def test_on_tensor_cores_a_bad_input_spoils_what_it_does_on_the_host(
    cuda: Any, tensor: int, value: float, layout: Layout
) -> None:
    tensors = rounded(make(72, 7, 38, gated=True), "float16")
    tensors[tensor].flat[[0, -1, 100]] = value
    result = GpuFade(cuda, "float16", layout, tensor_cores=True).upsample(tensors)
    expected = HostFade("float16", layout, tensor_cores=True).upsample(tensors)
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("classes", [3, 5])
def test_probabilities_and_labels_agree_with_the_host(
    cuda: Any, classes: int, side: int, dtype: DType
) -> None:
    tensors = rounded(make(classes, 61, 83, True, side=side), dtype)
    gpu, host = GpuFade(cuda, dtype), HostFade(dtype)
    np.testing.assert_allclose(gpu.probabilities(tensors), fade_probabilities(*tensors), atol=2e-5)
    labels, confidence = gpu.labels(tensors)
    expected, expected_confidence = host.labels(tensors)
    same = labels == expected
    assert same.mean() > 0.999
    assert np.abs(confidence.astype(int) - expected_confidence)[same].max() <= 1
    assert gpu.status == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("tensor", range(5))
def test_a_non_finite_input_never_becomes_a_class(
    cuda: Any, tensor: int, side: int, value: float
) -> None:
    tensors = make(3, 6, 40, gated=True, side=side)
    tensors[tensor][0, 0, 2, 3] = value
    y, x = (side * at for at in ((2, 3) if tensor in (1, 3) else (4, 6)))
    for dtype in DTYPES:
        gpu = GpuFade(cuda, dtype)
        p = gpu.probabilities(tensors)
        assert np.isnan(p[:, y, x]).all()
        assert np.isfinite(p[..., 40 * side :]).all()
        assert StageStatus.NON_FINITE in gpu.status
        for labels, confidence in (
            gpu.decode(p, Affine(0.5, 0, 0.5, 0), 24, 160), GpuFade(cuda, dtype).labels(tensors)
        ):  # fmt: skip
            assert (labels == 255).all()
            assert (confidence == 0).all()


@pytest.mark.parametrize("size", [(17, 131), (480, 640), (1080, 1920)])
def test_decoding_agrees_with_the_host(cuda: Any, size: tuple[int, int]) -> None:
    p = random_probabilities(60, 80)
    affine = Affine(80 / size[1], -0.3, 1.3 * 60 / size[0], -1.0)
    gpu = GpuFade(cuda)
    labels, confidence = gpu.decode(p, affine, *size)
    expected = HostFade().decode(p, affine, *size)
    same = labels == expected.labels
    assert same.mean() > 0.999
    assert np.abs(confidence.astype(int) - expected.confidence)[same].max() <= 1
    assert gpu.status == StageStatus.VARIES


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (72, 100), (480, 641), (17, 200)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_preprocessing_agrees_with_the_host(cuda: Any, size: tuple[int, int], dtype: DType) -> None:
    image, spec = picture(*size), spec_of(48, 64)
    fit = Letterbox(spec).fit(*size)
    gpu = GpuFade(cuda)
    out = gpu.upload(np.ones((3, 48, 64), dtype))
    gpu.fade.preprocess(gpu.upload(image), *size, spec, fit, out, dtype)
    result = gpu.download(out, (3, 48, 64), dtype)
    expected = HostFade().preprocess(image, spec, fit, dtype)
    apart = np.abs(result.astype(np.float64) - expected) * 58.4  # grey levels, at most
    assert apart.max() < 1.05
    assert (apart > 0.1).mean() < 0.01


@pytest.mark.parametrize("tensor_cores", [False, True])
def test_steady_state_allocates_nothing(cuda: Any, tensor_cores: bool) -> None:
    gpu = GpuFade(cuda, "float16", tensor_cores=tensor_cores)
    inputs, stream = gpu.inputs(make(256, 64, 64, True), "nchw"), cuda.Stream()
    out = gpu.upload(np.zeros((256, 128, 128), np.float16))
    gpu.fade.upsample(inputs, 256, 64, 64, out, stream)
    stream.synchronize()
    free, _ = cuda.mem_get_info()
    for _ in range(100):
        gpu.fade.upsample(inputs, 256, 64, 64, out, stream)
    stream.synchronize()
    assert cuda.mem_get_info()[0] == free
