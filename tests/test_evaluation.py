"""Figures against ground truth: counted by hand, open labels left out, unknown counted as wrong."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.evaluation import Segment, boundary, evaluate_pairs
from cropseg_edge.labelled import COMPLETE, Pair, read_folders, read_root

Labels = NDArray[np.uint8]


def write_pair(root: Path, name: str, stem: str, truth: Labels) -> None:
    """A mask, and an image whose blue channel holds the truth (so that a segmenter can cheat)."""
    for folder, content in (("images", np.dstack([truth] * 3)), ("masks", truth)):
        path = root / name / folder / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), content)


def cheat(image: Labels) -> Labels:
    return image[..., 0].copy()


def always(label: int) -> object:
    return lambda image: np.full(image.shape[:2], label, np.uint8)


def evaluate(
    segment: Segment, root: Path, split: str, sets: list[str] | None = None
) -> dict[str, dict[str, float]]:
    found = read_root(root, split, sets)
    return {name: evaluate_pairs(segment, pairs) for name, pairs in found.items()}


@pytest.fixture
def truth() -> Labels:
    truth = np.zeros((20, 40), np.uint8)
    truth[:10, :10], truth[:10, 10:30], truth[10:, :10] = 1, 2, 255  # 100, 200, 100 of 800 pixels
    return truth


@pytest.fixture
def pair(tmp_path: Path, truth: Labels) -> Pair:
    write_pair(tmp_path, "set", "a", truth)
    return Pair(tmp_path / "set/images/a.png", tmp_path / "set/masks/a.png", COMPLETE)


def test_a_perfect_mask_scores_a_hundred(pair: Pair) -> None:
    figures = evaluate_pairs(cheat, [pair])
    assert figures.pop("images") == 1
    assert len(figures) == 12
    assert set(figures.values()) == {100.0}


def test_figures_are_those_counted_by_hand(pair: Pair) -> None:
    figures = evaluate_pairs(always(1), [pair])  # 700 pixels count: 300 plants, 400 soil
    assert figures["vegetation.iou"] == pytest.approx(100 * 300 / 700, abs=1e-3)
    assert figures["vegetation.miou"] == pytest.approx(50 * 300 / 700, abs=1e-3)
    assert figures["vegetation.precision"] == pytest.approx(100 * 300 / 700, abs=1e-3)
    assert figures["vegetation.recall"] == 100
    assert figures["crop.iou"] == pytest.approx(100 * 100 / 700, abs=1e-3)
    assert figures["crop.background_iou"] == 0


def test_unknown_counts_as_an_error_everywhere(pair: Pair) -> None:
    figures = evaluate_pairs(always(255), [pair])
    for key in ("vegetation.miou", "vegetation.recall", "crop.miou", "crop.precision"):
        assert figures[key] == 0


def test_pixels_are_pooled_over_the_set(tmp_path: Path) -> None:
    for stem, side in (("a", 10), ("b", 30)):
        write_pair(tmp_path, "set", stem, np.ones((side, side), np.uint8))
    pairs = read_folders(tmp_path / "set/images", tmp_path / "set/masks")
    figures = evaluate_pairs(lambda x: np.full(x.shape[:2], len(x) == 10, np.uint8), pairs)
    assert figures["crop.recall"] == pytest.approx(100 * 100 / 1000)


def test_the_boundary_is_two_percent_of_the_diagonal() -> None:
    mask = np.zeros((300, 400), bool)
    mask[100:200, 100:200] = True
    inner = np.zeros_like(mask)
    inner[110:190, 110:190] = True  # diagonal 500, distance 10
    assert (boundary(mask) == mask & ~inner).all()
    assert boundary(np.ones((300, 400), bool))[0].all(), "the picture's border is a contour"


def write_root(root: Path, labels: str, truth: Labels) -> None:
    write_pair(root, "herbs", "a", truth)
    (root / "splits.csv").write_text("dataset,stem,split\nherbs,a,dev\nherbs,b,train\n")
    (root / "datasets.yaml").write_text(f"herbs:\n  labels: {labels}\n")


@pytest.mark.parametrize(
    ("labels", "readings"),
    [
        ("{0: [background], 1: [crop], 2: [weed]}", {"vegetation", "crop"}),
        ("{0: [background, weed], 1: [crop], 2: [weed]}", {"crop"}),
        ("{0: [background], 1: [crop, weed], 2: [crop, weed]}", {"vegetation"}),
        ("{0: [background, weed, crop], 1: [crop], 2: [crop]}", set()),
    ],
)
def test_a_reading_that_the_labels_leave_open_is_left_out(
    tmp_path: Path, truth: Labels, labels: str, readings: set[str]
) -> None:
    write_root(tmp_path, labels, truth)
    figures = evaluate(cheat, tmp_path, "dev")["herbs"]
    assert {key.split(".")[0] for key in figures if "." in key} == readings


def test_values_that_a_set_does_not_list_are_refused(tmp_path: Path, truth: Labels) -> None:
    write_root(tmp_path, "{0: [background], 1: [crop]}", truth)
    with pytest.raises(FrameError, match=r"\.png: mask values \[2\] are not among .* \[0, 1\]"):
        evaluate(always(1), tmp_path, "dev")


@pytest.mark.parametrize(
    ("split", "sets", "message"),
    [("test", None, "nothing in split"), ("dev", ["trees"], "trees"), ("train", None, "not there")],
)
def test_what_is_not_there_is_said(
    tmp_path: Path, truth: Labels, split: str, sets: list[str] | None, message: str
) -> None:
    write_root(tmp_path, "{0: [background], 1: [crop]}", truth)
    with pytest.raises(ConfigError, match=message):
        evaluate(cheat, tmp_path, split, sets)


def test_a_root_without_its_files_is_refused(tmp_path: Path, truth: Labels) -> None:
    with pytest.raises(ConfigError, match=r"splits\.csv"):
        evaluate(cheat, tmp_path, "dev")
    for labels in ("{0: [moss]}", "{300: [crop]}", "{-1: [crop]}", "{0: []}"):
        write_root(tmp_path, labels, truth)
        with pytest.raises(ConfigError, match="herbs"):
            evaluate(cheat, tmp_path, "dev")


@pytest.mark.parametrize(
    "table",
    [b"stem,split\na,dev\n", b"split,dataset,stem\ndev,herbs\n", b"split,dataset,stem\ndev\n"],
)
def test_a_table_with_holes_is_refused(tmp_path: Path, truth: Labels, table: bytes) -> None:
    write_root(tmp_path, "{0: [background], 1: [crop]}", truth)
    (tmp_path / "splits.csv").write_bytes(table)
    with pytest.raises(ConfigError, match=r"splits\.csv"):
        evaluate(cheat, tmp_path, "dev")


def test_a_mask_of_another_size_or_kind_is_refused(tmp_path: Path, truth: Labels) -> None:
    write_pair(tmp_path, "set", "a", truth)
    pairs = read_folders(tmp_path / "set/images", tmp_path / "set/masks")
    for content, message in ((truth[1:], "one size"), (np.dstack([truth] * 3), "8-bit PNG")):
        cv2.imwrite(str(tmp_path / "set/masks/a.png"), content)
        with pytest.raises(FrameError, match=message):
            evaluate_pairs(cheat, pairs)
    with pytest.raises(FrameError, match="no image"):
        read_folders(tmp_path / "set/images", tmp_path / "set")
