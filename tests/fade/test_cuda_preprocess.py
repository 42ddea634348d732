"""The preprocessing kernel, run on the host, against the CPU's letterbox.

Differences are counted in grey levels of the resized picture. Both compute bilinear samples in the
same integers, but OpenCV finds the weights in float32 (the kernel's are exact), averages areas in
an order of its own, and takes other roundings on other processors: a level may round the other
way. Where nothing is scaled, or exactly halved, levels are equal; what is left then is float32
rounding of the normalisation, 1e-5 of a level.
"""

import numpy as np
import pytest

from cropseg_edge.bundle import InputSpec
from cropseg_edge.fade.cuda.kernels import DType
from cropseg_edge.letterbox import Letterbox
from tests.fade.host_kernels import Array, HostFade

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def spec_of(height: int, width: int, color_order: str = "rgb") -> InputSpec:
    return InputSpec(
        tensor="image", width=width, height=height, mean=MEAN, std=STD, color_order=color_order
    )  # type: ignore[arg-type]


def picture(height: int, width: int) -> Array:
    """A coarse pattern with noise on it: edges, gradients and texture."""
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3))
    image = coarse.repeat(7, 0).repeat(7, 1)[:height, :width] + rng.integers(
        -20, 21, (height, width, 3)
    )
    return image.clip(0, 255).astype(np.uint8)


def levels_apart(height: int, width: int, spec: InputSpec, dtype: DType = "float32") -> Array:
    """|kernel - letterbox| of every value of the network's input, in grey levels."""
    image, letterbox = picture(height, width), Letterbox(spec)
    expected = letterbox.fill(image)[0]
    result = HostFade().preprocess(image, spec, letterbox.fit(height, width), dtype)
    outside = expected == 0
    assert (result[outside] == 0).all(), "the border is the mean colour"
    return np.abs(result.astype(np.float32) - expected) * np.array(STD, np.float32)[:, None, None]


@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
@pytest.mark.parametrize("size", [(48, 64), (96, 128), (40, 64), (48, 30), (96, 60)])
def test_unscaled_and_halved_pictures_have_equal_levels(
    size: tuple[int, int], color_order: str
) -> None:
    assert levels_apart(*size, spec_of(48, 64, color_order)).max() < 1e-4


@pytest.mark.parametrize(
    "size", [(60, 80), (72, 100), (20, 31), (144, 192), (17, 200), (150, 200), (480, 641)]
)
def test_scaled_pictures_differ_by_a_rounded_level_at_most(size: tuple[int, int]) -> None:
    apart = levels_apart(*size, spec_of(48, 64))
    assert apart.max() < 1.01
    assert (apart > 0.5).mean() < 0.02


def test_pictures_halved_more_than_once_round_once() -> None:
    apart = levels_apart(4 * 60, 4 * 80, spec_of(48, 64))
    assert apart.max() < 2.01, "OpenCV rounds after every halving"
    assert apart.mean() < 0.5


def test_a_camera_frame_fits_the_network() -> None:
    apart = levels_apart(1080, 1920, spec_of(480, 640))
    assert apart.max() < 1.01
    assert (apart > 0.5).mean() < 0.02


def test_half_precision_is_the_rounded_single_precision() -> None:
    # 2^-11 of at most 2.7 (255 normalised), times std
    assert levels_apart(48, 64, spec_of(48, 64), "float16").max() <= 2.7 * 2**-11 * max(STD)
