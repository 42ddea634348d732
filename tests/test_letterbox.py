"""The compiled letterbox gives the levels of OpenCV's, for every size of picture.

Both compute with OpenCV's integers, but find an output's place in float64 and float32: where that
changes a weight of 11 bits, a level may round the other way, by one of 255.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge import letterbox
from cropseg_edge.bundle import InputSpec
from cropseg_edge.fade import Affine, compiled, decode, stage
from cropseg_edge.letterbox import Letterbox

FADE = Path(compiled.__file__).parent
STD = np.array((58.395, 57.12, 57.375), np.float32)
EXACT = [(960, 1280), (720, 1280), (1080, 1920), (1440, 2560), (2160, 3840)]
OTHER = [(480, 640), (600, 800), (1079, 1919), (2048, 2448), (77, 333), (509, 61), (16, 5000)]


def spec(color_order: str = "rgb") -> InputSpec:
    return InputSpec(
        tensor="image", width=1280, height=960, mean=(123.675, 116.28, 103.53),
        std=tuple(STD.tolist()), color_order=color_order,
    )  # type: ignore[arg-type]  # fmt: skip


def picture(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (5, 5), 1), np.uint8)


def levels_apart(
    image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, color_order: str = "rgb"
) -> NDArray[np.float32]:
    result = Letterbox(spec(color_order), threads=2).fill(image)
    with monkeypatch.context() as patch:
        patch.setattr(letterbox, "library", lambda: None)
        expected = Letterbox(spec(color_order)).fill(image)
    return np.abs(result - expected)[0] * STD[:, None, None]


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if compiled.library() is None:
        pytest.skip("no compiled library in this checkout")


@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
@pytest.mark.parametrize("size", EXACT)
def test_usual_cameras_get_the_same_levels(
    size: tuple[int, int], color_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levels_apart(picture(*size), monkeypatch, color_order).max() < 1e-4


@pytest.mark.parametrize("size", OTHER)
def test_other_sizes_differ_by_a_rounded_level_at_most(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = levels_apart(picture(*size), monkeypatch)
    assert apart.max() < 1.01
    assert (apart > 0.5).mean() < 0.01


def test_views_need_not_be_contiguous() -> None:
    image = picture(300, 401)
    expected = Letterbox(spec()).fill(image).copy()
    wide = np.zeros((300, 500, 3), np.uint8)
    wide[:, 7:408] = image
    upside_down = np.ascontiguousarray(image[::-1])[::-1]
    other_order = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    for view in (wide[:, 7:408], upside_down, other_order):
        np.testing.assert_array_equal(Letterbox(spec()).fill(view), expected)


def test_one_letterbox_takes_pictures_of_any_size_in_turn() -> None:
    box = Letterbox(spec())
    for size in (*OTHER, *EXACT):
        np.testing.assert_array_equal(
            box.fill(picture(*size)), Letterbox(spec()).fill(picture(*size))
        )


@pytest.mark.parametrize("supports", ["x[3]!='5'", "0"], ids=["avx2", "baseline"])
def test_every_family_of_processors_gets_the_same_results(
    supports: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++: only this processor's own family is tested")
    path = tmp_path / "family.so"
    define = f"-D__builtin_cpu_supports(x)=({supports})"
    options = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, define, *FADE.glob("*.cpp"), "-o", path], check=True)
    family = compiled._with_signatures(ctypes.CDLL(str(path)))
    p = np.random.default_rng(0).dirichlet((1, 1, 1), (40, 61)).astype(np.float32)
    grid = np.ascontiguousarray(p.transpose(2, 0, 1))
    for size in OTHER[2:]:
        affine = Affine(61 / size[1], -0.3, 40 / size[0], 0.2)
        expected = Letterbox(spec()).fill(picture(*size)), *decode(grid, affine, *size)[:2]
        with monkeypatch.context() as patch:
            patch.setattr(letterbox, "library", lambda: family)
            patch.setattr(stage, "library", lambda: family)
            result = Letterbox(spec()).fill(picture(*size)), *decode(grid, affine, *size)[:2]
        np.testing.assert_allclose(result[0], expected[0], atol=1e-5)
        assert (result[1] != expected[1]).mean() < 1e-5, "rounding with and without FMA, at ties"
        assert np.abs(result[2].astype(int) - expected[2]).max() <= 1
