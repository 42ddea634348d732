"""What a picture does not show is never called background: dirt, darkness, glare, no colour."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge.frames import Frame, open_source
from cropseg_edge.health import judge
from cropseg_edge.mask import Status

Picture = NDArray[np.uint8]


def field(width: int = 640, height: int = 480) -> Picture:
    """Brown soil with the texture of a sensor's noise, and a plant."""
    image = np.full((height, width, 3), (60, 90, 110), np.uint8)
    image[height // 3 : height // 2, width // 3 : width // 2] = (40, 180, 60)
    return image + np.random.default_rng(0).integers(0, 16, image.shape, dtype=np.uint8)


def verdict(image: Picture) -> tuple[Status, str]:
    return judge(Frame(image, 0, "camera", 0, "name"))


def as_grey(image: Picture) -> Picture:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def as_mosaic(image: Picture) -> Picture:
    mosaic = image[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = image[::2, ::2, 2], image[1::2, 1::2, 0]
    return cv2.cvtColor(mosaic, cv2.COLOR_GRAY2BGR)


def as_grey_jpeg(image: Picture) -> Picture:
    return cv2.imdecode(cv2.imencode(".jpg", as_grey(image))[1], cv2.IMREAD_COLOR)


def with_a_stamp(image: Picture) -> Picture:
    return cv2.putText(as_grey(image), "12:00", (9, 30), 0, 1, (0, 0, 255), 2)


@pytest.mark.parametrize("change", [as_grey, as_mosaic, as_grey_jpeg, with_a_stamp])
def test_a_picture_without_colour_is_invalid(change: Callable[[Picture], Picture]) -> None:
    status, reason = verdict(change(field()))
    assert status is Status.INVALID
    assert "has no colour" in reason
    assert "demosaiced" in reason


@pytest.mark.parametrize("name", ["grey.mp4", "grey.webm"])
def test_a_grey_video_is_invalid(tmp_path: Path, name: str) -> None:
    codec = cv2.VideoWriter.fourcc(*("mp4v" if name.endswith("mp4") else "VP80"))
    writer = cv2.VideoWriter(str(tmp_path / name), codec, 10.0, (320, 240))
    for _ in range(3):
        writer.write(as_grey(field(320, 240)))
    writer.release()
    assert {judge(frame)[0] for frame in open_source(tmp_path / name)} == {Status.INVALID}


def test_a_small_green_plant_on_grey_ground_is_colour() -> None:
    image = as_grey(field())
    image[200:280, 280:360] = field()[160:240, 214:294]
    assert verdict(image) == (Status.OK, "")


@pytest.mark.parametrize(
    ("black", "saturated", "status"),
    [(0.47, 0.46, Status.INVALID), (0.3, 0.3, Status.DEGRADED), (0.1, 0.1, Status.OK)],
)
def test_black_and_saturated_pixels_count_together(
    black: float, saturated: float, status: Status
) -> None:
    image = field()
    lost = np.random.default_rng(1).random(image.shape[:2])
    image[lost < black], image[lost > 1 - saturated] = 0, 255
    found, reason = verdict(image)
    assert found is status
    if status is not Status.OK:
        assert f"{black:.0%} of the pixels are black, {saturated:.0%} saturated" in reason


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (64, 48), (333, 77)])
@pytest.mark.parametrize(
    ("clear", "status"),
    [((0.9, 1), Status.OK), ((0.5, 1), Status.DEGRADED), ((0.25, 0.25), Status.INVALID)],
)
def test_a_lens_that_is_covered_shows_no_field(
    size: tuple[int, int], clear: tuple[float, float], status: Status
) -> None:
    image, right, below = field(*size), round(clear[0] * size[0]), round(clear[1] * size[1])
    image[:, :-right] = image[:-below] = (40, 60, 80)
    found, reason = verdict(image)
    assert found is status
    assert ("partly covered" in reason) == (status is not Status.OK)


@pytest.mark.filterwarnings("error")
def test_a_flat_tile_is_no_arithmetic_error() -> None:
    image = field()
    image[:60, :80] = (40, 60, 80)
    assert verdict(image) == (Status.OK, "")


@pytest.mark.parametrize("light", ["sun", "cloud", "dusk", "night"])
def test_simulated_fields_are_fit_in_every_light(light: str) -> None:
    spec = f"simulator:condition={light},species=beet,frames=2,seed=5,width=320,height=240"
    assert {judge(frame) for frame in open_source(spec)} == {(Status.OK, "")}


@pytest.fixture(scope="module")
def photograph() -> Picture:
    (frame,) = open_source("simulator:species=beet,frames=1,seed=5,width=640,height=480")
    return frame.image


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (319, 239)])
@pytest.mark.parametrize(
    ("share", "status"), [(0, Status.OK), (0.012, Status.DEGRADED), (0.02, Status.DEGRADED)]
)
def test_a_lens_out_of_focus_is_found_at_every_size(
    photograph: Picture, size: tuple[int, int], share: float, status: Status
) -> None:
    image = cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)
    if share:
        image = cv2.GaussianBlur(image, (0, 0), share * size[0])
    found, reason = verdict(image)
    assert found is status
    assert ("blurred picture" in reason) == (status is not Status.OK)


def test_a_machine_in_the_picture_does_not_make_it_blurred(photograph: Picture) -> None:
    image = photograph.copy()
    image[:, :250] = np.random.default_rng(0).integers(0, 9, (480, 250, 3))
    assert verdict(image) == (Status.OK, "")
