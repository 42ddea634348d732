"""Rows from where plants are: planted in rows that are known, seen by a camera that is known."""

import numpy as np
import pytest

from cropseg_edge.analysis import Rows, find_rows
from cropseg_edge.simulator import FieldSimulator

H, W = 240, 320


def field(heading=0.0, pitch=0.0, weeds=0, spacing=0.5, seed=0):
    """Plants in rows on the ground, and weeds anywhere, through a pinhole camera 1.5 m above it.

    `heading` of the rows and `pitch` of the camera (0 looks straight down) in degrees.
    Gives a mask of all plants, and those of the crop as (row, column).
    """
    rng = np.random.default_rng(seed)
    side, along = np.meshgrid(np.arange(-12, 13) * spacing, np.arange(-8, 8, 0.14))
    crop = np.stack([side + 0.13, along], -1).reshape(-1, 2) + rng.normal(0, 0.02, (side.size, 2))
    crop = crop[rng.random(len(crop)) < 0.8]
    spread = rng.uniform(-6, 6, (weeds, 2))
    turn = np.deg2rad(heading)
    ground = np.concatenate([crop, spread]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    tilt = np.deg2rad(pitch)
    depth = 1.5 * np.cos(tilt) + ground[:, 1] * np.sin(tilt)
    down = 1.5 * np.sin(tilt) - ground[:, 1] * np.cos(tilt)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = W / 2 + 250 * ground[:, 0] / depth, H / 2 + 250 * down / depth
    seen = (depth > 0.3) & (x >= 1) & (x < W - 1) & (y >= 1) & (y < H - 1)
    points = np.stack([y, x], -1)
    plants = np.zeros((H, W), bool)
    for row, column in points[seen].astype(int):
        plants[row - 1 : row + 2, column - 1 : column + 2] = True
    return plants, points[: len(crop)][seen[: len(crop)]].astype(int)


@pytest.mark.parametrize(
    "view",
    [
        {},
        {"heading": 25},
        {"heading": 90},
        {"heading": -70},
        {"pitch": 25},
        {"pitch": 40, "heading": 8},
        {"weeds": 60},
        {"pitch": 35, "weeds": 60},
        {"spacing": 0.25, "pitch": 30},
        {"spacing": 0.75},
    ],
    ids=str,
)
def test_plants_of_a_row_lie_on_a_row_that_is_found(view):
    plants, crop = field(**view)
    rows = find_rows(plants)
    assert rows.found
    phase = rows.phase(H, W)[crop[:, 0], crop[:, 1]]
    assert np.quantile(np.abs(phase - np.round(phase)), 0.9) < 0.2


@pytest.mark.parametrize("spacing", [0.25, 0.5, 0.75])
def test_spacing_is_of_neighbouring_rows_in_picture_heights(spacing):
    rows = find_rows(field(spacing=spacing)[0])
    assert rows.spacing == pytest.approx(spacing * 250 / 1.5 / H, rel=0.03)
    assert not rows.across


def test_rows_from_side_to_side_are_said_to_be_across():
    assert find_rows(field(heading=90)[0]).across


@pytest.mark.parametrize("seed", range(4))
def test_plants_that_stand_anywhere_make_no_rows(seed):
    rng = np.random.default_rng(seed)
    plants = np.zeros((H, W), bool)
    for row, column in rng.integers(3, (H - 3, W - 3), (60, 2)):
        plants[row - 2 : row + 3, column - 2 : column + 3] = True
    assert not find_rows(plants).found


@pytest.mark.parametrize("plants", [0, 1])
def test_bare_soil_has_no_rows_and_full_cover_none_that_are_found(plants):
    rows = find_rows(np.full((H, W), bool(plants)))
    assert rows is None if plants == 0 else not rows.found


def test_nothing_is_said_beyond_the_point_where_rows_meet():
    rows = Rows(
        spacing=0.3, growth=4, slope=0, offset=0, across=False, strength=1, chance=0
    )  # they meet a quarter of the picture's height above its middle
    phase = rows.phase(100, 50)
    assert np.isnan(phase[:24]).all()
    assert np.isfinite(phase[30:]).all()


@pytest.mark.parametrize(("camera", "seed"), [("nadir", 4), ("oblique", 4)])
def test_rows_of_a_simulated_field_are_found(camera, seed):
    frame = FieldSimulator("beet", "sun", camera, seed=seed, width=320, height=240).render(0)
    rows = find_rows(frame.labels > 0)
    assert rows.found
    distance = np.abs(rows.phase(240, 320) - np.round(rows.phase(240, 320)))
    assert np.mean(distance[frame.labels == 1] < 0.25) > 0.9
