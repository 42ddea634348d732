"""A small root of labelled pictures, in the layout of the field data."""

import csv

import cv2
import numpy as np
import pytest


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
