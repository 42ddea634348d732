"""Parts of `evaluate`: intervals, conditions, colour indices, the map of errors."""

import numpy as np
import pytest

from cropseg_edge.evaluation import figures
from cropseg_edge.labelled import COMPLETE
from training.evaluation import colour_indices, drawing
from training.evaluation.conditions import Measures, conditions, measure
from training.evaluation.intervals import difference, intervals, resampled_sums, sample
from training.evaluation.pictures import Picture
from training.evaluation.summary import Group, summarise


def test_the_interval_holds_the_figure_and_narrows_with_more_pictures():
    rng = np.random.default_rng(1)
    counts = rng.integers(50, 150, (400, 6))
    wide, narrow = (intervals(sample(counts[:n]))["miou"] for n in (20, 400))
    assert narrow.low < narrow.value < narrow.high
    assert (narrow.high - narrow.low) < 0.5 * (wide.high - wide.low)


def test_the_interval_is_that_of_resampling_picture_by_picture():
    counts = np.random.default_rng(2).integers(10, 400, (12, 6))
    rng = np.random.default_rng(3)
    drawn = [figures(counts[rng.integers(12, size=12)].sum(0))["iou"] for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    got = intervals(sample(counts))["iou"]
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.7)


def test_resampling_is_decided_by_its_seed_and_keeps_the_number_of_pictures():
    counts = np.ones((7, 6), np.int64)
    assert (resampled_sums(counts, 50, 4) == 7).all()
    counts = np.arange(42).reshape(7, 6)
    np.testing.assert_array_equal(resampled_sums(counts, 50, 4), resampled_sums(counts, 50, 4))
    assert (resampled_sums(counts, 50, 4) != resampled_sums(counts, 50, 5)).any()


def test_differences_are_paired():
    rng = np.random.default_rng(5)
    ours = rng.integers(20, 400, (30, 6))
    other = ours.copy()
    other[:, 0] += 20  # a little better on every picture
    apart, alone = difference(sample(ours), sample(other)), intervals(sample(ours))["miou"]
    assert 0 < apart.low < apart.value < apart.high
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


def test_few_pictures_give_a_figure_without_an_interval():
    got = intervals(sample(np.full((4, 6), 5)))["iou"]
    assert got.value == pytest.approx(100 / 3, abs=1e-3)
    assert got.low is got.high is None


@pytest.mark.parametrize(
    ("stated", "grey", "cover", "unseen", "expected"),
    [
        ("", 120, 0.3, (), []),
        ("", 40, 0.3, (), ["low light (measured)"]),
        ("shade", 40, 0.3, (), ["shade"]),
        ("sun", 120, 0.5, (), ["sun", "dense canopy"]),
        ("", 120, 0.09, ("beets",), ["seedlings", "unseen species"]),
        ("", 120, float("nan"), (), []),
    ],
)
def test_conditions_are_stated_or_measured(stated, grey, cover, unseen, expected):
    picture = Picture("beets", None, condition=stated)
    assert conditions(picture, Measures(grey, cover), unseen) == expected


def test_cover_counts_pixels_that_tell_plant_from_soil():
    mask = np.uint8([[0, 0, 0, 1], [255, 255, 2, 2]])
    image = np.full((2, 4, 3), 90, np.uint8)
    assert measure(image, mask, COMPLETE) == Measures(90, 0.5)
    assert measure(image, np.full_like(mask, 1), COMPLETE).cover == 1
    assert np.isnan(measure(image, np.full_like(mask, 255), COMPLETE).cover)
    assert np.isnan(measure(image, mask, {0: {0, 2}, 1: {1}}).cover)


def test_sets_of_as_many_pictures_are_resampled_each_by_itself():
    counts = np.random.default_rng(0).integers(1, 99, (40, 6))
    groups = [Group("datasets", name, list(range(40))) for name in ("a", "b")]
    found = summarise(groups, {"ours": {"vegetation": counts, "crop": counts}}, 500, 0)
    _, low, high = found["datasets"]["a"]["vegetation"]["ours"]["miou"]
    _, mean_low, mean_high = found["mean"]["vegetation"]["ours"]["miou"]
    assert mean_high - mean_low < 0.85 * (high - low), "two draws, not one counted twice"


@pytest.mark.parametrize("index", colour_indices.INDICES.values(), ids=colour_indices.INDICES)
def test_colour_indices_find_green_on_brown(index):
    image = np.full((40, 60, 3), (60, 80, 100), np.uint8)
    image[10:30, 20:50] = (40, 160, 60)
    wanted = np.zeros((40, 60), np.uint8)
    wanted[10:30, 20:50] = 1
    np.testing.assert_array_equal(index(image), wanted)


def test_excess_green_is_that_of_the_chromatic_coordinates():
    got = colour_indices.excess_green(np.uint8([[[50, 100, 50], [0, 0, 0], [0, 200, 0]]]))
    np.testing.assert_allclose(got, [[0.5, 0, 2]], atol=1e-6)


def test_the_error_map_names_every_kind_of_error():
    mask = np.uint8([[0, 0, 1, 1, 1, 2, 255, 0]])
    labels = np.uint8([[0, 1, 1, 0, 2, 255, 1, 255]])
    kinds = {colour: name for name, (_, colour) in drawing.ERRORS.items()}
    got = [
        kinds.get(tuple(int(v) for v in p)) for p in drawing.error_map(labels, mask, COMPLETE)[0]
    ]
    assert got == [
        None, "false plant", "right", "missed plant", "crop and weed mixed up", "missed plant",
        "not labelled", "false plant",
    ]  # fmt: skip
