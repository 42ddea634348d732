"""FADE, compiled and in NumPy, against the float64 reference; non-finite numbers never hide."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cropseg_edge.errors import EngineError
from cropseg_edge.fade import fade_probabilities, fade_upsample, stage
from cropseg_edge.fade.compiled import library
from cropseg_edge.fade.reference import fade_reference, softmax_reference

Floats = NDArray[np.float32]


@pytest.fixture(params=["compiled", "numpy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(stage, "library", lambda: None)
    elif library() is None:
        pytest.skip("no compiled library in this checkout: python setup.py build_ext --inplace")
    return str(request.param)


def make(
    channels: int,
    height: int,
    width: int,
    gated: bool,
    spread: float = 2,
    seed: int = 0,
    side: int = 1,
) -> list[Floats]:
    rng = np.random.default_rng(seed)

    def normal(scale: float, *shape: int) -> Floats:
        return rng.normal(0, scale, shape).astype(np.float32)

    tensors = [
        normal(1, 1, channels, height, width),
        normal(spread, 1, 25, 2 * height, 2 * width),
        normal(spread, 1, 25, height, width),
    ]
    if gated:
        guide = normal(1, 1, side**2 * channels, 2 * height, 2 * width)
        tensors += [guide, normal(2, 1, 1, height, width)]
    return tensors


def both_agree(check: Callable[[], None]) -> None:
    """Run a check with each backend (hypothesis does not mix with function fixtures)."""
    original = stage.library
    for replacement in (original, lambda: None):
        stage.library = replacement  # type: ignore[assignment]
        try:
            check()
        finally:
            stage.library = original


@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([1, 2, 3, 5]),
    height=st.integers(1, 7),
    width=st.integers(1, 9) | st.just(37),
    gated=st.booleans(),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    seed=st.integers(0, 1000),
    side=st.sampled_from([1, 2]),
)
def test_any_shape_agrees_with_the_equations(
    channels: int, height: int, width: int, gated: bool, spread: float, seed: int, side: int
) -> None:
    tensors = make(channels, height, width, gated, spread, seed, side)
    expected = fade_reference(*tensors)

    def check() -> None:
        # 1e-5 for scores of order 1; the sum of two float32 kernel logits of 60 is only known
        # to 4e-6, which is relative in the weights
        np.testing.assert_allclose(fade_upsample(*tensors), expected, atol=1e-5 + spread * 1e-6)
        np.testing.assert_allclose(
            fade_probabilities(*tensors), softmax_reference(expected), atol=1e-5
        )

    both_agree(check)


@pytest.mark.parametrize("channels", [64, 255, 256])
def test_many_channels_agree_with_the_equations(backend: str, channels: int) -> None:
    tensors = make(channels, 3, 5, gated=True)
    expected = fade_reference(*tensors)
    np.testing.assert_allclose(fade_upsample(*tensors), expected, atol=1e-5)
    np.testing.assert_allclose(fade_probabilities(*tensors), softmax_reference(expected), atol=1e-5)


@pytest.mark.parametrize("extreme", [80.0, -80.0])
def test_large_kernel_logits_neither_overflow_nor_vanish(backend: str, extreme: float) -> None:
    tensors = make(3, 4, 6, gated=True)
    tensors[1][:, ::3] = extreme
    tensors[2][:, ::2] = extreme
    np.testing.assert_allclose(fade_upsample(*tensors), fade_reference(*tensors), atol=1e-5)


@pytest.mark.parametrize("extreme", [80.0, -80.0])
def test_large_class_scores_give_exact_probabilities(backend: str, extreme: float) -> None:
    tensors = make(3, 4, 6, gated=False)
    tensors[0][0, 1] = extreme
    expected = softmax_reference(fade_reference(*tensors))
    np.testing.assert_allclose(fade_probabilities(*tensors), expected, atol=2e-5)


def test_one_hot_kernels_copy_one_neighbour_and_zeros_from_outside(backend: str) -> None:
    logits = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4) + 1
    high = np.full((1, 25, 6, 8), -100, np.float32)
    high[:, 5 * (-1 + 2) + (2 + 2)] = 100  # r = -1, s = 2
    out = fade_upsample(logits, high, np.zeros((1, 25, 3, 4), np.float32))[0, 0]
    for y in range(6):
        for x in range(8):
            u, v = y // 2 - 1, x // 2 + 2
            expected = logits[0, 0, u, v] if u >= 0 and v < 4 else 0
            assert out[y, x] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", range(5))
@pytest.mark.parametrize("side", [1, 2])
def test_a_non_finite_input_gives_nan_and_no_class(
    backend: str, side: int, tensor: int, value: float
) -> None:
    tensors = make(3, 6, 40, gated=True, side=side)
    tensors[tensor][0, 0, 2, 3] = value
    probabilities = fade_probabilities(*tensors)
    touched = ~np.isfinite(probabilities)
    assert touched.any()
    assert (touched.all(0) == touched.any(0)).all(), "a pixel is NaN in every class or in none"
    y, x = (side * at for at in ((2, 3) if tensor in (1, 3) else (4, 6)))
    assert np.isnan(probabilities[:, y, x]).all()
    assert np.isfinite(probabilities[:, :, side * 40 :]).all(), "far pixels are not touched"
    assert not np.isfinite(fade_upsample(*tensors)[0, :, y, x]).all()


def test_the_output_buffer_is_used_again(backend: str) -> None:
    tensors = make(3, 4, 6, gated=True)
    out = np.empty((3, 8, 12), np.float32)
    assert fade_probabilities(*tensors, out=out) is out


@pytest.mark.parametrize("tensor", range(5))
def test_a_shape_or_dtype_that_does_not_fit_is_refused(backend: str, tensor: int) -> None:
    for change in (lambda x: x[..., :-1].copy(), lambda x: x.astype(np.float64), np.flip):
        tensors = make(3, 4, 6, gated=True)
        tensors[tensor] = change(tensors[tensor])
        with pytest.raises(EngineError, match="must be"):
            fade_upsample(*tensors)


def test_guide_without_gate_is_refused() -> None:
    with pytest.raises(EngineError, match="together"):
        fade_upsample(*make(3, 2, 2, gated=True)[:4])


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_share_the_rows_of_fade_and_change_nothing(backend: str, threads: int) -> None:
    tensors = make(3, 5, 7, gated=True, seed=3)
    np.testing.assert_array_equal(
        fade_probabilities(*tensors, threads=threads), fade_probabilities(*tensors)
    )
