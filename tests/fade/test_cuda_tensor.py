"""`upsample` on tensor cores, emulated on the host: a warp's matrices multiplied by plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropseg_edge.fade.cuda.kernels import DType, Layout, tensor_kernel, upsample_plan
from cropseg_edge.fade.reference import fade_reference
from tests.fade.host_kernels import Array, HostFade
from tests.fade.test_cuda_kernels import LAYOUTS, rounded
from tests.fade.test_fade import make


def upsampled(tensors: list[Array], layout: Layout, multiprocessors: int = 8) -> Array:
    """[1, C, 2h, 2w] float64, by the tensor cores' kernel and no other."""
    host = HostFade("float16", layout, multiprocessors, tensor_cores=True)
    result = host.upsample(tensors)
    assert host.launcher.launched == ["clear", tensor_kernel(layout)]
    return result


def two_roundings(tensors: list[Array], expected: Array) -> float:
    """The error that FP16 allows: the output is rounded to 11 bits, and before it the weights."""
    return float(2**-11 * (np.nanmax(np.abs(expected)) + np.nanmax(np.abs(tensors[0]))))


@settings(max_examples=60, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    channels=st.sampled_from([8, 16, 24, 40, 64, 136, 256]),
    odd=st.booleans(),
    height=st.integers(1, 9),
    width=st.integers(1, 9) | st.sampled_from([18, 35, 36]),
    gated=st.booleans(),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    multiprocessors=st.sampled_from([1, 8, 132]),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_equations(
    layout: Layout, channels: int, odd: bool, height: int, width: int, gated: bool, spread: float,
    multiprocessors: int, seed: int,
) -> None:  # fmt: skip
    height, width = (min(height, 4), min(width, 10)) if channels > 64 else (height, width)
    if layout == "nchw":  # any number of channels, but pairs of columns
        channels, width = channels - odd, width + width % 2
    tensors = rounded(make(channels, height, width, gated, spread, seed), "float16")
    expected = fade_reference(*tensors)
    result = upsampled(tensors, layout, multiprocessors)
    bound = 1e-5 + two_roundings(tensors, expected)
    np.testing.assert_allclose(result, expected, atol=bound, rtol=0)
    error = result - expected
    assert np.sqrt(np.mean(error**2)) < bound / 4, "roundings, which mostly cancel"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_hot_kernels_copy_one_neighbour_and_zeros_from_outside(layout: Layout) -> None:
    h, w = 9, 34
    bits = np.random.default_rng(0).integers(0, 0x7C00, (1, 40, h, w)).astype(np.uint16)
    bits[0, 0, 5, 5] = 0x7BFF  # the largest, 65504
    logits = bits.view(np.float16).astype(np.float32)  # any finite FP16 number, subnormal too
    low = np.zeros((1, 25, h, w), np.float32)
    for r, s in [(-1, 2), (2, -2), (0, 0)]:
        high = np.full((1, 25, 2 * h, 2 * w), -200, np.float32)
        high[:, 5 * (r + 2) + (s + 2)] = 200
        padded = np.pad(logits, ((0, 0), (0, 0), (2, 2), (2, 2)))
        neighbour = padded[:, :, 2 + r : 2 + r + h, 2 + s : 2 + s + w]
        expected = neighbour.repeat(2, 2).repeat(2, 3)
        np.testing.assert_array_equal(upsampled([logits, high, low], layout), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", range(5))
def test_exactly_what_depends_on_a_bad_input_is_bad(
    tensor: int, value: float, layout: Layout
) -> None:
    rng = np.random.default_rng(tensor)
    tensors = rounded(make(72, 7, 38, gated=True), "float16")
    bad = [x.copy() for x in tensors]
    size = tensors[tensor].shape
    places = [0, -1, *(np.ravel_multi_index(rng.integers(0, size), size) for _ in range(3))]
    bad[tensor].flat[places] = value
    tensors[tensor].flat[places] = np.nan  # for the reference, where -inf is a weight of zero
    expected = fade_reference(*tensors)
    result = upsampled(bad, layout)
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))
    good = np.isfinite(expected)
    bound = 1e-5 + two_roundings(tensors, expected)
    np.testing.assert_allclose(result[good], expected[good], atol=bound, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "layout", "side", "channels", "width", "takes"),
    [
        ("float16", "nhwc", 1, 8, 7, True),
        ("float16", "nhwc", 1, 12, 8, False),
        ("float16", "nchw", 1, 3, 8, True),
        ("float16", "nchw", 1, 8, 7, False),
        ("float16", "nhwc", 2, 8, 8, False),
        ("float32", "nhwc", 1, 8, 8, False),
    ],
)
def test_tensor_cores_take_only_what_is_aligned_and_only_when_asked(
    dtype: DType, layout: Layout, side: int, channels: int, width: int, takes: bool
) -> None:
    names = [
        upsample_plan(dtype, layout, side, channels, 8, width, 132, asked)[0]
        for asked in (True, False)
    ]
    assert [name.endswith("_tensor") for name in names] == [takes, False]
