"""Compressed images are decoded whole or refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.encodings import decode_compressed
from cropseg_edge.frames.open import open_source

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
JPEGS = {
    "baseline": cv2.imencode(".jpg", NOISE)[1].tobytes(),
    "progressive": cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    "restarts": cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes(),
}
PNG = cv2.imencode(".png", NOISE)[1].tobytes()


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_comes_back(kind: str) -> None:
    expected = cv2.imdecode(np.frombuffer(JPEGS[kind], np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode_compressed(JPEGS[kind]), expected)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    """A simulated field, BGR uint8 [480, 640, 3]."""
    (frame,) = open_source("simulator:species=maize,frames=1,seed=4,width=640,height=480")
    return frame.image


QUALITIES = [(cv2.IMWRITE_JPEG_QUALITY, quality) for quality in (40, 60, 75, 90, 95)]
KINDS = [*QUALITIES, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 16)]


def with_wrong_bytes(data: bytes, count: int, rng: np.random.Generator) -> bytes:
    """That many bytes of the scan, anywhere, get another value."""
    damaged = np.frombuffer(data, np.uint8).copy()
    start = data.index(b"\xff\xda") + 14  # marker and header of the scan
    at = rng.choice(np.arange(start, len(data) - 2), count, replace=False)
    damaged[at] += rng.integers(1, 256, count, dtype=np.uint8)
    return damaged.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_with_fifty_wrong_bytes_is_refused(
    kind: tuple[int, int], field: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    data, rng = cv2.imencode(".jpg", field, kind)[1].tobytes(), np.random.default_rng(0)
    assert np.array_equal(
        decode_compressed(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    )
    refused = 0
    for _ in range(50):
        try:
            decode_compressed(with_wrong_bytes(data, 50, rng))
        except FrameError as error:
            refused += 1
            assert "damaged" in str(error)  # noqa: PT017 (not every one is refused)
    assert refused >= 45, "safety.md, F2: 90 %"
    assert capfd.readouterr().err == "", "libjpeg prints nothing of its own"


def test_a_turned_jpeg_is_upright_and_refused_when_damaged(field: np.ndarray) -> None:
    data = cv2.imencode(".jpg", field)[1].tobytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # the top is on the right
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    header = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    upright = decode_compressed(data[:2] + header + data[2:])
    assert np.array_equal(upright, cv2.rotate(decode_compressed(data), cv2.ROTATE_90_CLOCKWISE))
    damaged = with_wrong_bytes(data, 50, np.random.default_rng(0))
    with pytest.raises(FrameError, match="damaged"):
        decode_compressed(damaged[:2] + header + damaged[2:])


def test_png_comes_back_exactly() -> None:
    assert np.array_equal(decode_compressed(np.frombuffer(PNG, np.uint8)), NOISE)


def test_grey_and_16_bit_png_become_8_bit_bgr() -> None:
    deep = NOISE[..., 0].astype(np.uint16) * 257
    image = decode_compressed(cv2.imencode(".png", deep)[1].tobytes())
    assert np.array_equal(image, np.repeat(NOISE[..., :1], 3, axis=2))


def test_padding_after_the_end_is_ignored() -> None:
    assert decode_compressed(JPEGS["baseline"] + bytes(512)).shape == NOISE.shape


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(JPEGS)), st.floats(0, 1, exclude_max=True))
def test_a_truncated_jpeg_is_refused(kind: str, share: float) -> None:
    data = JPEGS[kind]
    with pytest.raises(FrameError):
        decode_compressed(data[: int(share * len(data))])


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_png_is_refused(share: float) -> None:
    with pytest.raises(FrameError):
        decode_compressed(PNG[: int(share * len(PNG))])


@settings(max_examples=200, deadline=None)
@given(st.integers(8, len(PNG) - 1), st.integers(1, 255))
def test_a_png_with_a_wrong_byte_is_refused(at: int, change: int) -> None:
    damaged = bytearray(PNG)
    damaged[at] ^= change
    with pytest.raises(FrameError):
        decode_compressed(damaged)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_garbage_is_refused_without_a_crash(data: bytes, start: bytes) -> None:
    with pytest.raises(FrameError):
        decode_compressed(start + data)


def test_an_end_marker_in_a_header_does_not_hide_a_truncation() -> None:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 12) + b"Exif\0\0\xff\xd8\xff\xd9"
    data = JPEGS["baseline"]
    whole = data[:2] + thumbnail + data[2:]
    assert decode_compressed(whole).shape == NOISE.shape
    with pytest.raises(FrameError, match="cut short"):
        decode_compressed(whole[: len(whole) // 2])


def test_a_huge_jpeg_is_refused_by_its_header() -> None:
    data = bytearray(JPEGS["baseline"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(FrameError, match="60000x60000: expected 1 to 50 million pixels"):
        decode_compressed(data)


def test_a_huge_png_is_refused_by_its_header() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = PNG[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(FrameError, match="100000x100000"):
        decode_compressed(data + PNG[33:])


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"GIF89a..", "neither JPEG nor PNG"), (b"\xff\xd8", "cut short")],
)
def test_the_message_says_what_came(data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        decode_compressed(data)


@pytest.mark.parametrize(
    ("message_format", "message"),
    [
        ("16UC1; png compressed ", "is depth: expected a picture in colour"),
        ("32FC1; compressedDepth png", "is depth"),
        ("bayer_rggb8; jpeg compressed ", "Bayer mosaic.* demosaiced"),
    ],
)
def test_depth_and_mosaics_are_no_pictures(message_format: str, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        decode_compressed(PNG, message_format=message_format)


@pytest.mark.parametrize(
    "message_format", ["", "png", "bgr8; png compressed bgr8", "bayer_rggb8; jpeg compressed bgr8"]
)
def test_pictures_in_colour_are_decoded_whatever_they_were(message_format: str) -> None:
    assert np.array_equal(decode_compressed(PNG, message_format=message_format), NOISE)
