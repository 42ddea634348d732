"""Depth: files that cameras leave, Depth Anything, refusals image by image."""

import csv

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError, FrameError
from training.commands.depth import depth as depth_command
from training.pseudo_labels.degradation import NONE, Degradation, degrade_depth
from training.pseudo_labels.depth import DepthConfig, make_depth
from training.pseudo_labels.depth_files import check_depth, read_depth, write_depth

RAMP = np.linspace(0.8, 1.6, 48 * 64, dtype=np.float32).reshape(48, 64)


def with_holes(depth):
    depth = depth.copy()
    depth[0, :3] = [np.nan, 0, np.inf]
    return depth


def zeroed(depth):
    return np.nan_to_num(with_holes(depth), posinf=0)


def save(path, values):
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        assert cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize(
    ("name", "values", "unit", "scale"),
    [
        ("a.png", (zeroed(RAMP) * 1000).round().astype("u2"), "auto", 1),
        ("a.tif", with_holes(RAMP), "auto", 1),
        ("a.npy", with_holes(RAMP).astype(np.float64), "m", 1),
        ("a.npy", zeroed(RAMP) * 1000, "mm", 1),
        ("a.tiff", zeroed(80 / RAMP), "disparity", 80),
    ],
)  # fmt: skip
def test_every_format_becomes_metres_with_unknown_as_nan(tmp_path, name, values, unit, scale):
    depth = read_depth(save(tmp_path / name, values), unit, scale)
    assert depth.dtype == np.float32
    assert np.isnan(depth[0, :3]).all()
    np.testing.assert_allclose(depth[1:], RAMP[1:], atol=6e-4)


@pytest.mark.parametrize("data", [b"", b"not a picture"])
@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.tif"])
def test_a_damaged_file_is_named(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FrameError, match=name):
        read_depth(tmp_path / name)


def test_a_pickle_in_npy_is_not_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(FrameError, match=r"a\.npy"):
        read_depth(tmp_path / "a.npy")


@pytest.mark.parametrize("values", [np.zeros((8, 8, 3), "u1"), np.zeros((8, 8), "u1")])
def test_a_colour_picture_is_no_depth(tmp_path, values):
    with pytest.raises(FrameError, match="one channel of 16-bit"):
        read_depth(save(tmp_path / "a.png", values))


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (np.full((48, 64), np.nan), "no pixel has depth"),
        (np.zeros((48, 64)), "no pixel has depth"),
        (np.full((48, 64), np.inf), "no pixel has depth"),
        (np.full((48, 64), 1.25), "constant"),
        (np.where(np.arange(64) < 10, RAMP, np.nan), "16 % of the pixels"),
        (np.ones((64, 48)), "constant"),
        (RAMP[:, :40], "40x48, its picture 64x48"),
    ],
)
def test_depth_that_says_nothing_is_refused_with_the_reason(depth, reason):
    with pytest.raises(FrameError, match=reason):
        check_depth(depth.astype(np.float32), (48, 64, 3))


def test_written_depth_reads_back_exactly(tmp_path):
    write_depth(tmp_path / "a.tif", np.where(RAMP > 1, RAMP, np.nan))
    np.testing.assert_array_equal(
        read_depth(tmp_path / "a.tif"), np.where(RAMP > 1, RAMP, np.float32(np.nan))
    )


@pytest.fixture
def drive(tmp_path):
    """Four pictures: good depth, constant depth, no depth, and no picture at all."""
    folder = tmp_path / "drive"
    for kind in ("images", "depth"):
        (folder / kind).mkdir(parents=True)
    for stem in ("good", "constant", "missing"):
        cv2.imwrite(str(folder / "images" / f"{stem}.jpg"), np.full((48, 64, 3), 90, np.uint8))
    (folder / "images" / "broken.jpg").write_bytes(b"no jpeg")
    save(folder / "depth" / "good.png", (RAMP * 1000).astype(np.uint16))
    save(folder / "depth" / "constant.png", np.full((48, 64), 900, np.uint16))
    return folder


def test_a_bad_picture_costs_no_more_than_itself(drive, tmp_path):
    out = tmp_path / "depth"
    result = CliRunner().invoke(depth_command, [str(drive), "--out", str(out)])
    assert result.exit_code == 0, result.output
    with (out / "depth.csv").open() as file:
        rows = {row["stem"]: row for row in csv.DictReader(file)}
    assert {stem: row["status"] for stem, row in rows.items()} == {
        "good": "ok", "constant": "refused", "missing": "refused", "broken": "refused"
    }  # fmt: skip
    assert "constant" in rows["constant"]["reason"]
    assert "no depth file" in rows["missing"]["reason"]
    assert "broken.jpg" in rows["broken"]["reason"]
    assert [path.name for path in out.glob("*.tif")] == ["good.tif"]
    assert rows["good"]["unit"] == "m"
    np.testing.assert_allclose(read_depth(out / "good.tif"), RAMP, atol=1.1e-3)


@pytest.mark.parametrize(
    "arguments", [["--from", "files"], ["--files", "x", "--model", "y"], ["--from", "simulator"]]
)
def test_depth_from_nowhere_or_from_two_places_is_an_error(tmp_path, arguments):
    result = CliRunner().invoke(depth_command, [str(tmp_path), "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert "--files" in result.output


@pytest.fixture(scope="module")
def depth_anything(tmp_path_factory):
    """A folder with Depth Anything V2 Small's shape at four thin layers, random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=4, num_attention_heads=6, mlp_ratio=1, image_size=56,
        patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=384, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "da2"
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder


def test_depth_anything_from_a_folder_is_farther_where_its_output_is_smaller(depth_anything):
    import torch
    from transformers import DepthAnythingForDepthEstimation

    from training.pseudo_labels.depth_anything import DepthAnything

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (56, 84, 3), np.uint8)
    depth = DepthAnything(str(depth_anything), side=56)(image)
    assert depth.shape == (56, 84)
    assert np.isclose(np.nanmin(depth), 1)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = ((image[..., ::-1] / 255 - mean) / deviation).transpose(2, 0, 1)[None]
    network = DepthAnythingForDepthEstimation.from_pretrained(depth_anything).eval()
    with torch.no_grad():
        raw = network(pixel_values=torch.tensor(pixels, dtype=torch.float32)).predicted_depth[0]
    raw = raw.numpy()
    near = raw > raw.max() / 900
    np.testing.assert_allclose(1 / depth[near], raw[near] / raw.max(), rtol=1e-3, atol=1e-4)


def test_the_licence_of_the_size_is_told(depth_anything, drive, tmp_path, caplog):
    caplog.set_level("INFO")
    config = DepthConfig(images=drive / "images", model=str(depth_anything), side=28)
    rows = make_depth(config, tmp_path / "depth")
    assert "Small, licence Apache-2.0" in caplog.text
    assert {row["licence"] for row in rows} == {"Apache-2.0"}


@pytest.mark.parametrize(("width", "warned"), [(768, True), (1024, True), (384, False)])
def test_non_commercial_sizes_say_so(width, warned):
    from training.pseudo_labels.depth_anything import terms

    assert ("not for commercial use" in terms(width)) == warned


def test_a_model_that_is_not_there_or_another_is_an_error(tmp_path):
    from training.pseudo_labels.depth_anything import DepthAnything

    transformers = pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        DepthAnything(str(tmp_path))
    transformers.Dinov2Config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="dinov2, not a Depth Anything"):
        DepthAnything(str(tmp_path))


@pytest.mark.parametrize("device", ["blah", "cuda:99"])
def test_a_device_that_is_not_there_is_named(depth_anything, device):
    from training.pseudo_labels.depth_anything import DepthAnything

    with pytest.raises(ConfigError, match=f"--device {device} cannot be used .*use cpu"):
        DepthAnything(str(depth_anything), device)


def test_depth_never_lies_among_the_pictures(drive):
    config = DepthConfig(images=drive / "images", files=drive / "depth")
    before = sorted(path.name for path in config.images.iterdir())
    with pytest.raises(ConfigError, match="holds the pictures themselves"):
        make_depth(config, drive / "images" / ".." / "images")
    assert sorted(path.name for path in config.images.iterdir()) == before


def test_a_run_that_failed_before_its_first_picture_may_be_set_right(drive, tmp_path):
    config = DepthConfig(images=drive / "images", files=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        make_depth(config, tmp_path / "depth")
    assert make_depth(config.model_copy(update={"files": drive / "depth"}), tmp_path / "depth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "0"], r"depth: scale: .*greater than 0 \(got 0\.0\)"),
        (["--scale", "nan"], "depth: scale: .*finite"),
        (["--degrade", "nan"], "depth: degrade: .*finite"),
    ],
)
def test_a_number_out_of_range_is_named_before_anything_is_written(
    drive, tmp_path, arguments, message
):
    out = tmp_path / "depth"
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(
            depth_command, [str(drive), "--out", str(out), *arguments], catch_exceptions=False
        )
    assert not out.exists()


def test_degraded_depth_keeps_its_order_and_loses_some():
    rng = np.random.default_rng(0)
    worse = degrade_depth(RAMP, Degradation(), rng)
    known = np.isfinite(worse)
    assert 0.95 < known.mean() < 1
    assert np.corrcoef(1 / worse[known], 1 / RAMP[known])[0, 1] > 0.97
    assert np.abs(worse[known] - RAMP[known]).max() > 0.02
    same = degrade_depth(RAMP, NONE, rng)
    np.testing.assert_allclose(same, RAMP, rtol=1e-4)


def test_degradation_follows_its_seed(drive, tmp_path):
    config = DepthConfig(images=drive / "images", files=drive / "depth", degrade=1)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_depth(config.model_copy(update={"seed": seed}), tmp_path / name)
    a, b, c = (read_depth(tmp_path / name / "good.tif") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert np.nanmax(np.abs(a - c)) > 1e-3
