"""Plants in rows are crop, plants between rows are weeds, whatever a network called them."""

import csv

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cropseg_edge.bundle import shipped_bundle
from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator import FieldSimulator
from training.commands.row_label import row_label as command
from training.data.fields import find_set
from training.pseudo_labels.row_labels import (
    RowLabelConfig,
    RowLabelling,
    make_row_labels,
    row_label,
)
from training.pseudo_labels.screen_run import ScreenOptions, run_screen

BACKGROUND, CROP, WEED, EITHER, UNSURE = 0, 1, 2, 3, 255
H, W = 240, 320
ROWS = range(40, W, 80)


def plants(weeds=(), smear=0):
    """What a network says of four rows of plants: all of it weed. `weeds` at (y, x) between them,
    `smear` pixels of sideways scatter of the rows."""
    rng = np.random.default_rng(0)
    labels = np.zeros((H, W), np.uint8)
    for x in ROWS:
        for y in range(8, H, 16):
            cv2.circle(labels, (x + int(rng.normal(0, smear)), y), 5, WEED, -1)
    for y, x in weeds:
        cv2.circle(labels, (x, y), 5, WEED, -1)
    return labels


def test_plants_in_rows_are_crop_and_plants_between_them_weeds():
    label = row_label(plants(weeds=[(60, 80), (150, 160), (200, 240)]))
    assert label.reason == ""
    for x in ROWS:
        assert set(np.unique(label.mask[:, x])) <= {BACKGROUND, CROP, UNSURE}
        assert label.mask[8, x] == CROP
    assert (label.mask[60, 80], label.mask[150, 160], label.mask[200, 240]) == (WEED,) * 3
    assert label.mask[60, 100] == BACKGROUND
    assert label.score > 0.8
    assert label.parts["decided"] == 1


def test_outlines_are_unsure():
    mask = row_label(plants(), RowLabelConfig(edge=2)).mask
    line = mask[8, 40:52]  # a disc that ends at 45, less wide above
    assert line.tolist() == [CROP] * 3 + [UNSURE] * 5 + [BACKGROUND] * 4


def test_a_plant_that_reaches_from_the_row_to_the_next_is_crop_as_far_as_the_row_goes():
    labels = plants()
    cv2.rectangle(labels, (40, 100), (90, 110), WEED, -1)  # a leaf, or a weed that touches it
    mask = row_label(labels).mask
    assert mask[105, 45] == CROP
    assert mask[105, 80] == EITHER


def test_of_blurred_rows_only_the_crop_is_sure():
    labels = plants(weeds=[(60, 80)], smear=8)
    label = row_label(labels)
    assert 0.5 < label.parts["strength"] < 0.85
    strict = row_label(labels, RowLabelConfig(weed_strength=0.95)).mask
    assert strict[60, 80] == EITHER
    assert CROP in strict
    assert WEED not in strict


def test_what_is_longer_than_rows_are_apart_is_no_weed():
    labels = plants()
    cv2.rectangle(labels, (78, 40), (82, 110), WEED, -1)  # a row that the fit missed
    mask = row_label(labels).mask
    assert mask[90, 80] == EITHER
    assert WEED not in mask


def test_pixels_that_the_network_does_not_know_stay_unsure():
    labels = plants()
    labels[:30] = 255
    assert (row_label(labels).mask[:28] == UNSURE).all()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros((H, W), np.uint8), "hardly a plant"),
        (np.full((H, W), 255, np.uint8), "hardly a plant"),
        (np.full((H, W), 1, np.uint8), "no rows: strength"),
    ],
    ids=["soil", "unknown", "full cover"],
)
def test_a_picture_without_rows_is_refused_with_the_reason(labels, reason):
    label = row_label(labels)
    assert reason in label.reason
    assert CROP not in label.mask
    assert WEED not in label.mask


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "drone"
    folder.mkdir()
    for i in range(3):
        picture = np.where(plants()[..., None] > 0, (40, 160, 60), (60, 80, 110)).astype(np.uint8)
        picture = np.roll(picture, 5 * i, 1)
        cv2.imwrite(str(folder / f"p{i}.png"), picture)
    cv2.imwrite(str(folder / "soil.png"), np.full((H, W, 3), (60, 80, 110), np.uint8))
    return folder


def green(image):
    """Every green pixel is a weed."""
    return np.where(image[..., 1] > 120, WEED, BACKGROUND).astype(np.uint8)


def test_labels_become_a_root_that_trains_and_a_person_may_screen(pictures, tmp_path):
    config = RowLabelling(images=pictures, model=tmp_path / "m", weights="0", licence="MIT")
    rows = make_row_labels(config, green, tmp_path / "root" / "maize")
    assert {row["stem"]: row["status"] for row in rows} == {
        "p0": "ok", "p1": "ok", "p2": "ok", "soil": "refused",
    }  # fmt: skip
    found = find_set([tmp_path / "root"], "maize", "train")
    assert list(found.pairs) == ["p0", "p1", "p2"]
    _, sets = found.read("p0")
    assert set(np.unique(sets)) == {0, 1, 2}  # unknown, background, crop
    run_screen(ScreenOptions.checked(labels=tmp_path / "root" / "maize", out=tmp_path / "screened"))
    described = yaml.safe_load((tmp_path / "screened" / "datasets.yaml").read_text())["maize"]
    assert described["labels"][3] == ["crop", "weed"]
    assert "unknown mask values" not in (tmp_path / "screened" / "screen.log").read_text()


def test_a_run_goes_on_only_with_the_weights_that_it_began_with(pictures, tmp_path):
    config = RowLabelling(images=pictures, model=tmp_path / "m", weights="0")
    make_row_labels(config, green, tmp_path / "root" / "maize")
    other = config.model_copy(update={"weights": "1"})
    with pytest.raises(ConfigError, match="differs from this run"):
        make_row_labels(other, green, tmp_path / "root" / "maize")


def test_the_command_labels_simulated_rows_with_the_shipped_bundle(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    frame = FieldSimulator("beet", "sun", "nadir", seed=4, width=320, height=240).render(0)
    cv2.imwrite(str(folder / "beet.png"), frame.image)
    out = tmp_path / "root" / "beet"
    arguments = [str(tmp_path), "--model", str(shipped_bundle()), "--out", str(out)]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    with (out / "scores.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "ok"
    mask = cv2.imread(str(out / "masks" / "beet.png"), cv2.IMREAD_UNCHANGED)
    assert np.mean(mask[frame.labels == 1] == WEED) < 0.01
    assert np.mean(np.isin(mask[frame.labels == 1], (CROP, EITHER))) > 0.5
