"""A frame of any size comes back as a mask of that size, right to the pixel, or INVALID."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.errors import ConfigError, EngineError, FrameError
from cropseg_edge.frames import Frame
from cropseg_edge.letterbox import shrink
from cropseg_edge.mask import CROP, UNKNOWN, WEED, CropMask, Status
from cropseg_edge.segmenter import Segmenter
from tests.tiny_bundle import MEAN, STD, write_tiny_bundle

Floats = NDArray[np.float32]
Tensors = dict[str, Floats]
SOIL, GREEN, RED = (70, 100, 100), (40, 180, 60), (40, 60, 180)  # BGR
SIZES = [(640, 480), (1920, 1080), (480, 640), (1080, 1920), (350, 350), (333, 77), (61, 509)]


class ScriptedEngine:
    """Takes the network's place: `script` makes its tensors from the input picture."""

    name, precision = "scripted", "fp32"

    def __init__(self, script: Callable[[Floats], Tensors]) -> None:
        self.infer = script
        self.closed = False

    def close(self) -> None:
        self.closed = True


def looking_at_colour(image: Floats) -> Tensors:
    """Scores at stride 2 from the input's own colours, through the guide: the gate is open."""
    pixels = image[0] * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    height, width = pixels.shape[1:]
    red, green, _ = pixels.reshape(3, height // 2, 2, width // 2, 2).mean((2, 4))
    # an edge of half soil and half plant is a tie; the softmax takes the logarithm back
    crop, weed = ((sign * (green - red) / 120).clip(0.005, 0.99) for sign in (1, -1))
    scores = np.log(np.stack([(1 - crop - weed).clip(0.005), crop, weed]))
    h, w = height // 4, width // 4
    return {
        "logits": np.zeros((1, 3, h, w), np.float32),
        "kernels_high": np.zeros((1, 25, 2 * h, 2 * w), np.float32),
        "kernels_low": np.zeros((1, 25, h, w), np.float32),
        "guide": scores[None].astype(np.float32),
        "gate": np.full((1, 1, h, w), 50, np.float32),
    }


@pytest.fixture
def bundle(tiny_bundle_path: Path) -> Bundle:
    return read_bundle(tiny_bundle_path)


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Soil, with a green rectangle and a red one."""
    image = np.full((height, width, 3), SOIL, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = GREEN
    image[height // 2 : height, 5 * width // 8 : width] = RED
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def frame(image: NDArray[np.uint8], sequence: int = 3) -> Frame:
    return Frame(image, 1_234_567_890, "camera_optical", sequence, "name")


def edges(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First and past-the-last row and column that are at least half covered."""
    rows = np.flatnonzero(mask.mean(1) > mask.mean(1).max() / 2)
    columns = np.flatnonzero(mask.mean(0) > mask.mean(0).max() / 2)
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_what_the_network_sees_comes_back_at_the_same_pixels(
    bundle: Bundle, width: int, height: int
) -> None:
    manifest = bundle.manifest
    large = manifest.model_copy(
        update={"input": manifest.input.model_copy(update={"width": 640, "height": 480})}
    )
    wide = Bundle(large, bundle.sha256, bundle.path, bundle.members)
    segmenter = Segmenter(wide, engine=ScriptedEngine(looking_at_colour))
    mask = segmenter.segment(frame(picture(width, height)))
    assert mask.labels.shape == mask.confidence.shape == (height, width)
    assert mask.status is Status.OK
    for label, expected in (
        (1, (height // 4, height // 2, width // 4, width // 2)),
        (2, (height // 2, height, 5 * width // 8, width)),
    ):
        found = edges(mask.labels == label)
        assert np.abs(np.subtract(found, expected)).max() <= 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pixel_centres_map_exactly(bundle: Bundle, width: int, height: int) -> None:
    """A ramp over the network's input, sampled back, has the frame's own coordinates."""
    from cropseg_edge.letterbox import Letterbox

    spec = bundle.manifest.input.model_copy(update={"width": 640, "height": 480})
    box = Letterbox(spec)
    fit = box.fit(height, width)
    affine = box.affine(height, width, 240, 320)
    for x in (0, width // 3, width - 1):
        network = (x + 0.5) * fit.width / width + fit.left - 0.5
        grid = affine.x_scale * x + affine.x_offset
        assert 2 * (grid + 0.5) == pytest.approx(network + 0.5)
    for y in (0, height // 3, height - 1):
        network = (y + 0.5) * fit.height / height + fit.top - 0.5
        grid = affine.y_scale * y + affine.y_offset
        assert 2 * (grid + 0.5) == pytest.approx(network + 0.5)
    assert fit.width / fit.height == pytest.approx(width / height, rel=0.51 / min(fit[:2]))
    assert fit.width == 640 or fit.height == 480


def test_the_real_engine_finds_the_colours(bundle: Bundle) -> None:
    with Segmenter(bundle, threads=1) as segmenter:
        segmenter.warm_up()
        mask = segmenter.segment(frame(picture(640, 480)))
    assert (mask.labels[140:220, 180:300] == 1).all()
    assert (mask.labels[260:460, 420:620] == 2).all()
    assert (mask.labels[:100] == 0).all()
    assert mask.confidence.min() > 80


def test_sub_pixels_of_the_guide_draw_what_its_pixels_cannot(tmp_path: Path) -> None:
    image = picture(64, 48)
    image[:, 11:12] = GREEN  # a leaf one pixel wide
    fine = write_tiny_bundle(tmp_path / "fine.cropseg", side=2)
    found = {}
    for bundle in (write_tiny_bundle(tmp_path / "coarse.cropseg"), fine):
        with Segmenter(bundle, threads=1) as segmenter:
            shape = segmenter.probabilities(image).shape
            found[shape] = (segmenter.segment(frame(image)).labels[:12, 9:14] == 1).mean(0)
    assert set(found) == {(3, 24, 32), (3, 48, 64)}
    assert found[3, 24, 32].tolist() == [0, 1, 1, 0, 0]
    assert found[3, 48, 64].tolist() == [0, 0, 1, 0, 0]


def test_red_and_blue_are_not_swapped(bundle: Bundle) -> None:
    blue = picture(640, 480)[..., ::-1].copy()  # what was red is blue now: no weed
    with Segmenter(bundle, threads=1) as segmenter:
        labels = segmenter.segment(frame(blue)).labels
    assert not (labels[260:460, 420:620] == 2).any()


def test_a_mask_carries_its_frames_stamp_and_its_bundles_hash(bundle: Bundle) -> None:
    with Segmenter(bundle, threads=1) as segmenter:
        mask = segmenter.segment(frame(picture(64, 48), sequence=17))
    assert (mask.stamp_ns, mask.frame_id, mask.sequence) == (1_234_567_890, "camera_optical", 17)
    assert mask.bundle_sha256 == bundle.sha256
    assert list(mask.stage_ms) == ["check", "preprocess", "engine", "fade", "decode"]
    assert all(ms >= 0 for ms in mask.stage_ms.values())


def test_sizes_may_change_from_frame_to_frame(bundle: Bundle) -> None:
    with Segmenter(bundle, threads=1) as segmenter:
        expected = segmenter.segment(frame(picture(350, 350))).labels
        for width, height in SIZES:
            assert segmenter.segment(frame(picture(width, height))).labels.shape == (height, width)
        assert (segmenter.segment(frame(picture(350, 350))).labels == expected).all()


def assert_invalid(mask: CropMask, reason: str) -> None:
    assert mask.status is Status.INVALID
    assert reason in mask.reason
    assert (mask.labels == 255).all()
    assert (mask.confidence == 0).all()


@pytest.mark.parametrize("tensor", ["logits", "kernels_high", "kernels_low", "guide", "gate"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_non_finite_outputs_protect_everything(
    bundle: Bundle, tensor: str, value: float, everywhere: bool
) -> None:
    def script(image: Floats) -> Tensors:
        outputs = looking_at_colour(image)
        outputs[tensor][... if everywhere else (0, 0, 2, 3)] = value
        return outputs

    mask = Segmenter(bundle, engine=ScriptedEngine(script)).segment(frame(picture(90, 60)))
    assert_invalid(mask, "non-finite")
    assert mask.labels.shape == (60, 90)


@pytest.mark.parametrize(("value", "reason"), [(65504, "saturated"), (-3e38, "saturated")])
@pytest.mark.parametrize("tensor", ["logits", "guide"])
def test_saturated_scores_protect_everything(
    bundle: Bundle, tensor: str, value: float, reason: str
) -> None:
    def script(image: Floats) -> Tensors:
        outputs = looking_at_colour(image)
        outputs[tensor][0, 0, 2, 3] = value
        return outputs

    mask = Segmenter(bundle, engine=ScriptedEngine(script)).segment(frame(picture(90, 60)))
    assert_invalid(mask, reason)


@pytest.mark.parametrize("scores", [(0, 0, 0), (9, 0, 0)])
def test_an_engine_that_says_the_same_everywhere_protects_everything(
    bundle: Bundle, scores: tuple[float, float, float]
) -> None:
    def script(image: Floats) -> Tensors:
        outputs = {name: np.zeros_like(x) for name, x in looking_at_colour(image).items()}
        for name in ("logits", "guide"):
            outputs[name][:] = np.array(scores)[:, None, None]
        outputs["gate"][:] = 50
        return outputs

    mask = Segmenter(bundle, engine=ScriptedEngine(script)).segment(frame(picture(90, 60)))
    assert_invalid(mask, "constant")


def test_an_engine_that_fails_protects_everything_and_recovers(bundle: Bundle) -> None:
    answers = iter([EngineError("out of memory"), None])

    def script(image: Floats) -> Tensors:
        if (error := next(answers)) is not None:
            raise error
        return looking_at_colour(image)

    segmenter = Segmenter(bundle, engine=ScriptedEngine(script))
    assert_invalid(segmenter.segment(frame(picture(90, 60))), "out of memory")
    assert segmenter.segment(frame(picture(90, 60))).status is Status.OK


def test_an_engine_without_another_to_take_its_place_goes_on_trying_and_says_so_now_and_then(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [True]

    def script(image: Floats) -> Tensors:
        if fails:
            raise EngineError("refused")
        return looking_at_colour(image)

    now = [0.0]
    monkeypatch.setattr("cropseg_edge.segmenter.time.monotonic", lambda: now[0])
    segmenter = Segmenter(bundle, engine=ScriptedEngine(script))
    for _ in range(210):  # 21 s
        assert_invalid(segmenter.segment(frame(picture(90, 60))), "refused")
        now[0] += 0.1
    assert not segmenter.lost
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == "frame name: refused"
    assert re.fullmatch(r"frame name: refused \((99|100) frames before it failed, too\)", said[1])
    fails.clear()
    assert segmenter.segment(frame(picture(90, 60))).status is Status.OK


def test_an_engine_without_a_tensor_protects_everything(bundle: Bundle) -> None:
    def script(image: Floats) -> Tensors:
        outputs = looking_at_colour(image)
        del outputs["gate"]
        return outputs

    mask = Segmenter(bundle, engine=ScriptedEngine(script)).segment(frame(picture(90, 60)))
    assert_invalid(mask, "gate")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((60, 90, 3), np.uint8), "dark"),
        (np.full((60, 90, 3), 255, np.uint8), "overexposed"),
        (np.full((60, 90, 3), 120, np.uint8), "uniform"),
    ],
)
def test_a_picture_of_nothing_protects_everything(
    bundle: Bundle, image: NDArray[np.uint8], reason: str
) -> None:
    with Segmenter(bundle, threads=1) as segmenter:
        assert_invalid(segmenter.segment(frame(image)), reason)


@pytest.mark.parametrize(("level", "reason"), [(0, "dark"), (255, "overexposed")])
def test_a_picture_that_is_half_lost_is_degraded(bundle: Bundle, level: int, reason: str) -> None:
    image = picture(90, 60)
    image[:40] = level
    with Segmenter(bundle, threads=1) as segmenter:
        mask = segmenter.segment(frame(image))
    assert mask.status is Status.DEGRADED
    assert reason in mask.reason
    assert set(np.unique(mask.labels)) <= {0, 1, 2}


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((15, 100, 3), np.uint8),
        np.zeros((100, 15, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 3), np.uint16),
        None,
    ],
)
def test_what_is_no_camera_picture_is_refused(bundle: Bundle, image: NDArray[np.uint8]) -> None:
    with (
        Segmenter(bundle, threads=1) as segmenter,
        pytest.raises(FrameError, match=r"frame name: ") as caught,
    ):
        segmenter.segment(frame(image))
    assert "\n" not in str(caught.value)


def test_a_view_of_a_picture_gives_the_same_mask(bundle: Bundle) -> None:
    image = picture(90, 60)
    padded = np.zeros((60, 100, 3), np.uint8)
    padded[:, :90] = image
    with Segmenter(bundle, threads=1) as segmenter:
        expected = segmenter.segment(frame(image)).labels.copy()
        assert (segmenter.segment(frame(padded[:, :90])).labels == expected).all()
        flipped = segmenter.segment(frame(np.ascontiguousarray(image[::-1])[::-1])).labels
        assert (flipped == expected).all()


def test_closing_the_segmenter_closes_the_engine(bundle: Bundle) -> None:
    engine = ScriptedEngine(looking_at_colour)
    with Segmenter(bundle, engine=engine):
        pass
    assert engine.closed


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 960), (1919, 1079), (700, 500)])
def test_shrinking_does_not_alias(width: int, height: int) -> None:
    """Stripes of one pixel become even grey, where picking pixels would keep some of them."""
    stripes = np.zeros((height, width, 3), np.uint8)
    stripes[:, ::2] = 200
    small = shrink(stripes, 320, 240).astype(int)
    assert small.shape == (240, 320, 3)
    assert abs(small.mean() - 100) < 2
    assert small[:, 4:-4].std() < 30


def test_what_is_near_crop_becomes_unknown_and_the_crop_stays(bundle: Bundle) -> None:
    image = picture(320, 240)
    engine = ScriptedEngine(looking_at_colour)
    plain = Segmenter(bundle, engine=engine).segment(frame(image))
    spared = Segmenter(bundle, engine=engine, crop_margin=9).segment(frame(image))
    crop, near = plain.labels == CROP, spared.labels == UNKNOWN
    around = np.lib.stride_tricks.sliding_window_view(np.pad(crop, 9), (19, 19)).any((2, 3))
    np.testing.assert_array_equal(near, around & ~crop)
    np.testing.assert_array_equal(spared.labels[~near], plain.labels[~near])
    np.testing.assert_array_equal(spared.confidence, np.where(near, 0, plain.confidence))


def test_weed_that_is_not_sure_becomes_unknown_and_nothing_else(bundle: Bundle) -> None:
    image = picture(320, 240)
    engine = ScriptedEngine(looking_at_colour)
    plain = Segmenter(bundle, engine=engine).segment(frame(image))
    spared = Segmenter(bundle, engine=engine, weed_confidence=0.8).segment(frame(image))
    unsure = (plain.labels == WEED) & (plain.confidence < 0.8 * 255)
    assert 0 < unsure.sum() < (plain.labels == WEED).sum()
    np.testing.assert_array_equal(spared.labels, np.where(unsure, UNKNOWN, plain.labels))
    np.testing.assert_array_equal(spared.confidence, np.where(unsure, 0, plain.confidence))


@pytest.mark.parametrize(
    "setting", [{"crop_margin": -1}, {"crop_margin": 201}, {"weed_confidence": float("nan")}]
)
def test_what_cannot_be_spared_is_refused(bundle: Bundle, setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="crop_margin must be 0 to 200"):
        Segmenter(bundle, engine=ScriptedEngine(looking_at_colour), **setting)
