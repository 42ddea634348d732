"""Camera messages become BGR images, exactly, or a FrameError."""

import array
from collections.abc import Callable

import numpy as np
import pytest

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.encodings import ENCODINGS, decode_image

Image = np.ndarray


def bayer(pattern: str) -> Callable[[Image], Image]:
    """Mosaic a scene as sensor_msgs names it: the pattern is the 2x2 block at the upper left."""

    def mosaic(scene: Image) -> Image:
        out = np.zeros((*scene.shape[:2], 1), np.uint8)
        for index, colour in enumerate(pattern):
            row, column = divmod(index, 2)
            out[row::2, column::2, 0] = scene[row::2, column::2, "bgr".index(colour)]
        return out

    return mosaic


def yuv(order: str) -> Callable[[Image], Image]:
    """BT.601 limited range, chroma of every second pixel; `order` is the order of four bytes."""

    def pack(scene: Image) -> Image:
        blue, green, red = np.moveaxis(scene.astype(float), 2, 0)
        y = 16 + 0.25679 * red + 0.50413 * green + 0.09791 * blue
        u = 128 - 0.14822 * red - 0.29099 * green + 0.43922 * blue
        v = 128 + 0.43922 * red - 0.36779 * green - 0.07143 * blue
        planes = {"y": y[:, 0::2], "Y": y[:, 1::2], "u": u[:, 0::2], "v": v[:, 0::2]}
        packed = np.stack([planes[name] for name in order], axis=2)
        return np.round(packed).astype(np.uint8).reshape(*scene.shape[:2], 2)

    return pack


def with_alpha(scene: Image) -> Image:
    return np.dstack([scene, np.full(scene.shape[:2], 99, np.uint8)])


ENCODERS: dict[str, Callable[[Image], Image]] = {
    "rgb8": lambda scene: scene[..., ::-1],
    "bgr8": lambda scene: scene,
    "rgba8": lambda scene: with_alpha(scene[..., ::-1]),
    "bgra8": with_alpha,
    "mono8": lambda scene: scene[..., 1:2],
    "bayer_rggb8": bayer("rggb"),
    "bayer_bggr8": bayer("bggr"),
    "bayer_gbrg8": bayer("gbrg"),
    "bayer_grbg8": bayer("grbg"),
    "yuv422": yuv("uyvY"),
    "uyvy": yuv("uyvY"),
    "yuv422_yuy2": yuv("yuYv"),
    "yuyv": yuv("yuYv"),
}
TOLERANCE = dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2)


def decode(pixels: Image, encoding: str, padding: int = 0) -> Image:
    height, width, channels = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=201)
    step = width * channels + padding
    return decode_image(rows.tobytes(), encoding=encoding, width=width, height=height, step=step)


def test_every_supported_encoding_is_tested() -> None:
    assert set(ENCODERS) == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 1, 13, 64])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_colour_scene_comes_back(scene: Image, encoding: str, padding: int) -> None:
    image = decode(np.ascontiguousarray(ENCODERS[encoding](scene)), encoding, padding)
    expected = np.repeat(scene[..., 1:2], 3, axis=2) if encoding == "mono8" else scene
    assert image.dtype == np.uint8
    assert image.shape == scene.shape
    assert image.flags.c_contiguous
    # Demosaicing and chroma sharing mix colours at the edges of patches: compare inside of them.
    inside = [(row, column) for row in (12, 36) for column in (10, 32, 54)]
    for row, column in inside:
        patch = np.s_[row - 6 : row + 6, column - 6 : column + 6]
        difference = np.abs(image[patch].astype(int) - expected[patch])
        assert difference.max() <= TOLERANCE.get(encoding, 0), (row, column)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_packed_colours_are_exact_in_every_pixel(encoding: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(ENCODERS[encoding](noise))
    assert np.array_equal(decode(pixels, encoding, 5), noise)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_padding_changes_nothing(encoding: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (18, 22, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(ENCODERS[encoding](noise))
    assert np.array_equal(decode(pixels, encoding), decode(pixels, encoding, 9))


@pytest.mark.parametrize(
    "wrap",
    [bytes, bytearray, memoryview, lambda data: array.array("B", data), np.frombuffer],
    ids=["bytes", "bytearray", "memoryview", "array", "ndarray"],
)
def test_every_buffer_type_is_taken(scene: Image, wrap: Callable[..., object]) -> None:
    data = scene.tobytes()
    buffer = wrap(data, np.uint8) if wrap is np.frombuffer else wrap(data)
    image = decode_image(buffer, encoding="bgr8", width=64, height=48, step=64 * 3)
    assert np.array_equal(image, scene)


def test_contiguous_bgr8_is_not_copied(scene: Image) -> None:
    data = bytearray(scene.tobytes())
    image = decode_image(data, encoding="bgr8", width=64, height=48, step=64 * 3)
    data[0] = 77
    assert image[0, 0, 0] == 77


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in TOLERANCE])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 1)])
def test_tiny_images_do_not_crash(encoding: str, size: tuple[int, int]) -> None:
    width, height = size
    image = decode_image(
        bytes(width * height * 4), encoding=encoding, width=width, height=height, step=width * 4
    )
    assert image.shape == (height, width, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "16UC1"}, "'16UC1' is not supported; supported: rgb8, bgr8"),
        ({"encoding": ""}, "'' is not supported"),
        ({"step": 29}, "step 29 is too small: 10 pixels of bgr8 take 30 bytes"),
        ({"step": 0}, "step 0 is too small"),
        ({"data": bytes(239)}, "cut short.*240 bytes, 239 came"),
        ({"data": b""}, "240 bytes, 0 came"),
        ({"width": 0}, "size 0x8"),
        ({"height": 0}, "size 10x0"),
        ({"encoding": "yuv422", "width": 9, "step": 30}, "even width, not 9"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    fields = {"data": bytes(240), "encoding": "bgr8", "width": 10, "height": 8, "step": 30}
    with pytest.raises(FrameError, match=message):
        decode_image(**(fields | changes))
