"""The CUDA kernels, run on the host by their own launch code, against float64 and the CPU path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropseg_edge.errors import EngineError
from cropseg_edge.fade import Affine, decode, fade_probabilities
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs, StageStatus
from cropseg_edge.fade.cuda.kernels import DType, Layout
from cropseg_edge.fade.reference import fade_reference, softmax_reference
from tests.fade.host_kernels import Array, HostFade, HostLauncher
from tests.fade.test_decode import random_probabilities
from tests.fade.test_fade import make

LAYOUTS = ["nchw", "nhwc"]
DTYPES = ["float16", "float32"]
SIDES = [1, 2]


def rounded(tensors: list[Array], dtype: DType) -> list[Array]:
    """The tensors as their storage holds them, in float32: errors of storage are not errors."""
    return [x.astype(dtype).astype(np.float32) for x in tensors]


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([1, 2, 3, 5, 8, 17, 64, 129, 256]),
    height=st.integers(1, 9),
    width=st.integers(1, 9) | st.just(35),
    gated=st.booleans(),
    side=st.sampled_from(SIDES),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    multiprocessors=st.sampled_from([1, 8, 132]),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_equations(
    channels: int, height: int, width: int, gated: bool, side: int, dtype: DType, layout: Layout,
    spread: float, multiprocessors: int, seed: int,
) -> None:  # fmt: skip
    height, width = (min(height, 4), min(width, 5)) if channels > 64 else (height, width)
    tensors = rounded(make(channels, height, width, gated, spread, seed, side), dtype)
    expected = fade_reference(*tensors)
    result = HostFade(dtype, layout, multiprocessors).upsample(tensors)
    # 1e-5 of float32 sums; an FP16 output is rounded to 11 bits
    storage = 2**-11 * np.abs(expected).max() if dtype == "float16" else 0
    np.testing.assert_allclose(result, expected, atol=1e-5 + spread * 1e-6 + storage, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    classes=st.sampled_from([1, 2, 3, 5, 20]),
    height=st.integers(1, 7),
    width=st.integers(1, 9) | st.just(35),
    gated=st.booleans(),
    side=st.sampled_from(SIDES),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_probabilities_agree_with_the_equations(
    classes: int, height: int, width: int, gated: bool, side: int, dtype: DType, spread: float,
    seed: int,
) -> None:  # fmt: skip
    tensors = rounded(make(classes, height, width, gated, spread, seed, side), dtype)
    host = HostFade(dtype)
    expected = softmax_reference(fade_reference(*tensors))
    np.testing.assert_allclose(host.probabilities(tensors), expected, atol=1e-5 + spread * 1e-6)
    assert host.status == 0


@settings(max_examples=30, deadline=None)
@given(
    classes=st.sampled_from([2, 3, 6]),
    height=st.integers(1, 7),
    width=st.integers(1, 9) | st.just(35),
    side=st.sampled_from(SIDES),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_labels_follow_the_rule_of_decode(
    classes: int, height: int, width: int, side: int, dtype: DType, seed: int
) -> None:
    tensors = rounded(make(classes, height, width, True, 2.0, seed, side), dtype)
    p = fade_probabilities(*tensors)
    expected = decode(p, Affine(1, 0, 1, 0), *p.shape[1:])
    labels, confidence = HostFade(dtype).labels(tensors)
    others = np.sort(p[1:], axis=0)[::-1]
    close = np.abs(p[0] - p[1:].sum(0)) < 1e-5
    if classes > 2:
        close |= others[0] - others[1] < 1e-5
    assert ((labels == expected.labels) | close).all()
    assert (np.abs(confidence.astype(int) - expected.confidence)[~close] <= 1).all()


@pytest.mark.parametrize("extreme", [80.0, -80.0, 3e4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_kernel_logits_neither_overflow_nor_vanish(layout: Layout, extreme: float) -> None:
    tensors = make(8, 4, 6, gated=True)
    tensors[1][:, ::3] = extreme
    tensors[2][:, ::2] = extreme
    result = HostFade("float32", layout).upsample(tensors)
    np.testing.assert_allclose(result, fade_reference(*tensors), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_kernels_copy_one_neighbour_and_zeros_from_outside(
    dtype: DType, layout: Layout
) -> None:
    h, w = 9, 34
    bits = np.random.default_rng(0).integers(0, 0x7C00, (1, 11, h, w)).astype(np.uint16)
    bits[0, 0, 5, 5] = 0x7BFF  # the largest, 65504
    logits = bits.view(np.float16).astype(np.float32)  # any finite FP16 number, subnormal too
    high = np.full((1, 25, 2 * h, 2 * w), -200, np.float32)
    high[:, 5 * (-1 + 2) + (2 + 2)] = 200  # r = -1, s = 2
    result = HostFade(dtype, layout).upsample([logits, high, np.zeros((1, 25, h, w), np.float32)])
    neighbour = np.pad(logits, ((0, 0), (0, 0), (1, 0), (0, 2)))[:, :, :-1, 2:]
    np.testing.assert_array_equal(result, neighbour.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("tensor", range(5))
def test_a_non_finite_input_gives_nan_and_no_class(
    dtype: DType, side: int, tensor: int, value: float
) -> None:
    tensors = make(3, 6, 40, gated=True, side=side)
    tensors[tensor][0, 0, 2, 3] = value
    # what is bad, a pixel of the high resolution or a cell, makes a block of the grid so
    y, x, block = (2, 3, 1) if tensor == 3 else (2, 3, side) if tensor == 1 else (4, 6, 2 * side)
    bad = (..., slice(side * y, side * y + block), slice(side * x, side * x + block))
    far = (..., slice(40 * side, None))
    for layout in ("nchw", "nhwc"):
        upsampled = HostFade(dtype, layout).upsample(tensors)
        assert not np.isfinite(upsampled[0][bad]).all(0).any()
        assert np.isfinite(upsampled[far]).all(), "far pixels are not touched"
    host = HostFade(dtype)
    p = host.probabilities(tensors)
    assert np.isnan(p[bad]).all()
    assert (np.isnan(p).all(0) == np.isnan(p).any(0)).all()
    assert np.isfinite(p[far]).all()
    assert StageStatus.NON_FINITE in host.status
    labels, confidence, finite = host.decode(p, Affine(0.5, 0, 0.5, 0), 24 * side, 160 * side)
    assert not finite
    assert (labels == 255).all()
    assert (confidence == 0).all()
    host = HostFade(dtype)
    labels, confidence = host.labels(tensors)
    assert StageStatus.NON_FINITE in host.status
    assert (labels == 255).all()
    assert (confidence == 0).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("tensor", [0, 3])
def test_a_saturated_score_is_seen(tensor: int, side: int) -> None:
    for value, bits in [(65504.0, StageStatus.SATURATED), (-65504.0, StageStatus.SATURATED),
                        (65472.0, StageStatus(0))]:  # fmt: skip
        tensors = make(3, 5, 6, gated=True, side=side)
        tensors[tensor][0, -1, 4, 5] = value
        host = HostFade("float16")
        host.probabilities(tensors)
        assert host.status == bits
        host = HostFade("float16")
        host.labels(tensors)
        assert host.status == bits


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (5, 1), (2, 2), (24, 32)])
@pytest.mark.parametrize("size", [(16, 16), (17, 131), (70, 132)])
def test_decoding_agrees_with_the_cpu(grid: tuple[int, int], size: tuple[int, int]) -> None:
    p = random_probabilities(*grid)
    affine = Affine(grid[1] / size[1], -0.3, 1.3 * grid[0] / size[0], -1.0)
    expected, result = decode(p, affine, *size), HostFade().decode(p, affine, *size)
    assert result.finite
    assert (result.labels != expected.labels).mean() < 1e-3, "but for ties to 1e-6"
    same = result.labels == expected.labels
    assert np.abs(result.confidence.astype(int) - expected.confidence)[same].max() <= 1


def test_a_wide_frames_last_columns_are_as_exact_as_the_first() -> None:
    p = random_probabilities(2, 1024)
    affine = Affine(1024 / 8192, 0.5 * 1024 / 8192 - 0.5, 0.125, -0.4375)
    expected, result = decode(p, affine, 16, 8192), HostFade().decode(p, affine, 16, 8192)
    assert (result.labels != expected.labels).mean() < 1e-3
    difference = np.abs(result.confidence.astype(int) - expected.confidence)
    assert (difference[result.labels == expected.labels] != 0).mean() < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 1.5])
@pytest.mark.parametrize("at", [(0, 0, 0), (2, 23, 31), (1, 7, 5)])
def test_one_impossible_probability_makes_everything_unknown(
    value: float, at: tuple[int, int, int]
) -> None:
    p = random_probabilities(24, 32)
    p[at] = value
    labels, confidence, finite = HostFade().decode(p, Affine(0.5, 0, 0.5, 0), 48, 64)
    assert not finite
    assert (labels == 255).all()
    assert (confidence == 0).all()


def test_a_constant_grid_does_not_vary() -> None:
    p = np.full((3, 4, 5), 1 / 3, np.float32)
    p[0] += 0.1
    host = HostFade()
    host.decode(p, Affine(1, 0, 1, 0), 4, 5)
    assert StageStatus.VARIES not in host.status
    p[1, 3, 4] += 0.01
    host.decode(p, Affine(1, 0, 1, 0), 4, 5)
    assert StageStatus.VARIES in host.status


def test_addresses_and_sizes_that_do_not_fit_are_refused() -> None:
    fade = CudaFade(launcher=HostLauncher())
    for inputs, out in [
        (DeviceInputs(8, 16, 16), 16), (DeviceInputs(16, 16, 16), 0), (DeviceInputs(0, 16, 16), 16)
    ]:  # fmt: skip
        with pytest.raises(EngineError, match="multiples of 16"):
            fade.upsample(inputs, 3, 4, 5, out)
    with pytest.raises(EngineError, match="together"):
        fade.upsample(DeviceInputs(16, 16, 16, 16), 3, 4, 5, 16)
    for inputs, side in [(DeviceInputs(16, 16, 16), 2), (DeviceInputs(16, 16, 16, 16, 16), 3)]:
        with pytest.raises(EngineError, match=rf"sub-pixels a side.*got {side}"):
            fade.probabilities(inputs, 3, 4, 5, 16, 16, side=side)
    with pytest.raises(EngineError, match="positive"):
        fade.upsample(DeviceInputs(16, 16, 16), 3, 0, 5, 16)
    for classes in (1, 255):
        with pytest.raises(EngineError, match="2 to 254 classes"):
            fade.labels(DeviceInputs(16, 16, 16), classes, 4, 5, 16, 16, 16)


@pytest.mark.parametrize(("dtype", "layout"), [("bfloat16", "nchw"), ("float16", "hwc8")])
def test_other_types_and_layouts_are_refused(dtype: DType, layout: Layout) -> None:
    with pytest.raises(EngineError, match=r"float16 or float32, nchw or nhwc; got"):
        CudaFade(dtype, layout, HostLauncher())
