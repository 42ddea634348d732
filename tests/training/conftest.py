"""A small root of labelled pictures, in the layout of the field data."""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from training.models.sizes import NANO, SIZES, quarters


@pytest.fixture(scope="session")
def field_root(tmp_path_factory):
    """Two sets of eight 96x64 pictures: green squares (crop) on brown; `open` leaves 0 open."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("field")
    rows = []
    for name in ("complete", "open"):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
        for i in range(8):
            image = rng.integers(40, 90, (64, 96, 3), np.uint8)
            mask = np.zeros((64, 96), np.uint8)
            x, y = rng.integers(0, 60), rng.integers(0, 30)
            image[y : y + 30, x : x + 30, 1] += 120
            mask[y : y + 30, x : x + 30] = 1
            cv2.imwrite(str(root / name / "images" / f"p{i}.jpg"), image)
            cv2.imwrite(str(root / name / "masks" / f"p{i}.png"), mask)
            rows.append((name, f"p{i}", "train"))
    with (root / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("dataset", "stem", "split"), *rows])
    (root / "datasets.yaml").write_text(
        "complete: {licence: MIT, labels: {0: [background], 1: [crop], 2: [weed]}}\n"
        "open: {licence: MIT, labels: {0: [background, weed], 1: [crop]}}\n"
        "unlicensed: {labels: {}}\n"
        "tested: {licence: non-commercial, train: false, labels: {}}\n"
    )
    return root


@pytest.fixture(scope="session")
def config_file(tmp_path_factory, field_root):
    """A configuration that trains nano on it in a few seconds."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(
        f"steps: 6\nbatch: 2\nprecision: fp32\nsave_every: 2\nvalidate_every: 100\n"
        f"data: {{roots: ['{field_root}'], weights: {{complete: 1, open: 1}}, crop: 64,\n"
        f"        validation: 0, frame: [96, 64], workers: 0}}\n"
        f"optimiser: {{warmup: 1}}\n"
    )
    return path


@pytest.fixture
def label_folder(tmp_path):
    """A folder as `pseudo-label` leaves it: six good labels, and one of every kind of bad one.

    Pictures are 96x64, green squares on brown; depth stands in `tmp_path / "depth"`.
    """
    rng = np.random.default_rng(1)
    folder, depth = tmp_path / "root" / "drive", tmp_path / "depth"
    for path in (folder / "images", folder / "masks", depth):
        path.mkdir(parents=True)
    rows = []

    def add(stem, mask_of=lambda mask: mask, score=0.9, status="ok", reason=""):
        image = cv2.resize(rng.integers(40, 90, (8, 12, 3), np.uint8), (96, 64))
        mask = np.zeros((64, 96), np.uint8)
        for left, x, y in zip(
            (0, 32, 64), rng.integers(0, 16, 3), rng.integers(0, 48, 3), strict=True
        ):
            mask[y : y + 16, left + x : left + x + 16] = 1
        image[mask == 1, 1] += 120
        cv2.imwrite(str(folder / "images" / f"{stem}.jpg"), image)
        cv2.imwrite(str(folder / "masks" / f"{stem}.png"), mask_of(mask))
        cv2.imwrite(str(depth / f"{stem}.tif"), 2 - 0.2 * mask.astype(np.float32))
        rows.append((stem, status, reason, score, 0.5))

    for i in range(6):
        add(f"good{i}", score=round(0.95 - i / 100, 2))
    add("score", score=0.2)
    add("shifted", lambda mask: np.roll(mask, 40, axis=1))
    add("empty", lambda mask: mask * 0)
    add("full", lambda mask: mask * 0 + 1)
    add("unsure", lambda mask: np.where(np.arange(96) < 70, 255, mask).astype(np.uint8))
    add("size", lambda mask: mask[:32])
    add("values", lambda mask: mask * 7)
    add("cut")
    (folder / "images" / "cut.jpg").write_bytes((folder / "images" / "cut.jpg").read_bytes()[:300])
    add("twin", score=0.7)
    twin = cv2.imread(str(folder / "images" / "good0.jpg"))
    cv2.imwrite(str(folder / "images" / "twin.jpg"), twin, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (folder / "masks" / "twin.png").write_bytes((folder / "masks" / "good0.png").read_bytes())
    add("refused", status="refused", reason="one mode", score="")
    (folder / "masks" / "refused.png").unlink()
    with (folder / "scores.csv").open("w", newline="") as file:
        columns = ("stem", "status", "reason", "score", "bimodality")
        csv.writer(file).writerows([columns, *rows])
    (folder.parent / "datasets.yaml").write_text(
        "drive: {licence: MIT, species: maize, labels: {0: [background], 1: [crop, weed]}}\n"
    )
    return folder


MICRO = replace(
    NANO,
    name="micro",
    width=16,
    depth=4,
    heads=1,
    groups=quarters(4),
    stem=8,
    adapter_heads=2,
    decoder_width=8,
    compressed=8,
    fine=1,
    grid=(4, 4),
    drop_path=0.1,
)


@pytest.fixture(scope="module")
def micro():
    """A size called micro, a tenth of nano's work, for runs that are repeated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, MICRO.name, MICRO)
        yield MICRO
