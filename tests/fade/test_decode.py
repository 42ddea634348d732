"""Probabilities to labels: sampled at pixel centres, clamped at borders, not silent on NaN."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge.errors import EngineError
from cropseg_edge.fade import Affine, decode, stage
from cropseg_edge.fade.compiled import library


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(stage, "library", lambda: None)
    elif library() is None:
        pytest.skip("no compiled library in this checkout")


def random_probabilities(height: int, width: int, classes: int = 3) -> NDArray[np.float32]:
    raw = np.random.default_rng(height * width).random((classes, height, width)) ** 3
    return (raw / raw.sum(0)).astype(np.float32)


def sample(p: NDArray[np.float32], affine: Affine, y: int, x: int) -> NDArray[np.float64]:
    """Bilinear interpolation at one pixel, in float64."""
    gx = min(max(affine.x_scale * x + affine.x_offset, 0), p.shape[2] - 1)
    gy = min(max(affine.y_scale * y + affine.y_offset, 0), p.shape[1] - 1)
    x0, y0 = int(gx), int(gy)
    x1, y1 = min(x0 + 1, p.shape[2] - 1), min(y0 + 1, p.shape[1] - 1)
    fx, fy = gx - x0, gy - y0
    top = p[:, y0, x0] * (1.0 - fx) + p[:, y0, x1] * fx
    bottom = p[:, y1, x0] * (1.0 - fx) + p[:, y1, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (5, 1), (2, 2), (24, 32)])
@pytest.mark.parametrize("size", [(16, 16), (17, 131), (70, 33)])
def test_every_pixel_is_the_bilinear_sample(grid: tuple[int, int], size: tuple[int, int]) -> None:
    p = random_probabilities(*grid)
    affine = Affine(grid[1] / size[1], -0.3, 1.3 * grid[0] / size[0], -1.0)
    labels, confidence, finite = decode(p, affine, *size)
    assert finite
    for y in range(size[0]):
        for x in range(size[1]):
            expected = sample(p, affine, y, x)
            label, plants = labels[y, x], expected[1:].sum()
            if label == 0:
                assert expected[0] > plants - 1e-5
            else:
                assert plants > expected[0] - 1e-5
                assert expected[label] == pytest.approx(expected[1:].max(), abs=1e-5)
            assert abs(confidence[y, x] - expected[label] * 255) <= 0.51


def test_identity_keeps_every_label() -> None:
    p = random_probabilities(40, 70)
    labels, confidence, _ = decode(p, Affine(1, 0, 1, 0), 40, 70)
    expected = np.where(p[0] > p[1] + p[2], 0, 1 + p[1:].argmax(0))
    assert (labels == expected).all()
    chosen = np.take_along_axis(p, expected[None], 0)[0]
    assert np.abs(confidence - chosen * 255).max() <= 0.51


@pytest.mark.parametrize(
    ("probabilities", "label"),
    [
        ((0.4, 0.35, 0.25), 1),
        ((0.45, 0.2, 0.35), 2),
        ((0.6, 0.3, 0.1), 0),
        ((0.5, 0.25, 0.25), 1),
        ((0, 0, 0), 1),
    ],
)
def test_a_plant_of_uncertain_kind_is_a_plant(probabilities: tuple[float, ...], label: int) -> None:
    p = np.array(probabilities, np.float32).reshape(3, 1, 1).repeat(2, 1).repeat(2, 2)
    labels, confidence, _ = decode(np.ascontiguousarray(p), Affine(1, 0, 1, 0), 20, 20)
    assert (labels == label).all()
    assert np.abs(confidence - probabilities[label] * 255).max() <= 0.51


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 1.5])
@pytest.mark.parametrize("at", [(0, 0, 0), (2, 23, 31), (1, 7, 5)])
def test_one_impossible_probability_makes_everything_unknown(
    value: float, at: tuple[int, int, int]
) -> None:
    p = random_probabilities(24, 32)
    p[at] = value
    labels, confidence, finite = decode(p, Affine(0.5, 0, 0.5, 0), 48, 64)
    assert not finite
    assert (labels == 255).all()
    assert (confidence == 0).all()


def test_a_view_is_refused() -> None:
    with pytest.raises(EngineError, match="contiguous"):
        decode(random_probabilities(24, 32)[:, ::2], Affine(1, 0, 1, 0), 20, 20)


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_share_the_rows_and_change_nothing(threads: int) -> None:
    p, affine = random_probabilities(24, 32), Affine(0.4, -0.3, 1.3, -1.0)
    whole, parts = decode(p, affine, 17, 80), decode(p, affine, 17, 80, threads)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.confidence, whole.confidence)
