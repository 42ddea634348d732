"""What goes wrong while training: the message names file and reason, and no state is lost."""

import csv
import resource
import shutil

import cv2
import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError, CropSegError, FrameError, StorageError
from training.checkpoint import load_model, read_state, save_atomically
from training.config import load_config
from training.train import train
from training.validation import validation_pictures

OPTIONS = ("size=micro", "data.weights={complete: 1}", "save_every=6")


@pytest.fixture(scope="module")
def uninterrupted(micro, config_file, tmp_path_factory):
    """State and log of six steps on good pictures."""
    out = tmp_path_factory.mktemp("whole")
    return read_state(train(load_config(config_file, OPTIONS), out)), logged(out)


def logged(out):
    with (out / "log.csv").open() as log:
        return [(row["step"], row["loss"]) for row in csv.DictReader(log)]


@pytest.fixture
def own_root(field_root, tmp_path):
    return shutil.copytree(field_root, tmp_path / "root")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_size(path):
    cv2.imwrite(str(path), np.zeros((32, 48), np.uint8))


def other_values(path):
    cv2.imwrite(str(path), np.full((64, 96), 7, np.uint8))


@pytest.mark.parametrize(
    ("file", "damage", "message", "reading"),
    [
        ("images/p{}.jpg", halve, r"p\d\.jpg: .*", 0),
        ("images/p{}.jpg", halve, r"^\S*p\d\.jpg: [^\n]*$", 1),
        ("masks/p{}.png", other_size, r"p\d\.png: the mask is 48x32, its image 96x64", 0),
        ("masks/p{}.png", other_values, r"p\d\.png: mask values \[7\] are not among", 0),
        ("masks/p{}.png", lambda path: path.unlink(), r"p\d\.png: cannot be read: No such", 0),
    ],
    ids=["cut", "cut, reading process", "mask size", "mask values", "no mask"],
)
def test_a_bad_picture_stops_a_run_that_goes_on_once_it_is_repaired(
    micro, config_file, uninterrupted, own_root, tmp_path, file, damage, message, reading
):
    own = (f"data.roots=['{own_root}']", f"data.workers={reading}")
    config = load_config(config_file, (*OPTIONS, *own))
    damaged = [own_root / "complete" / file.format(number) for number in (3, 5)]
    for path in damaged:
        damage(path)
    with pytest.raises(FrameError, match=message) as raised:
        train(config, tmp_path / "run")
    step = read_state(tmp_path / "run" / "last.pt")["step"]
    assert 0 < step < 6
    assert f"step {step} is saved" in str(raised.value)

    for path in damaged:
        shutil.copy(config_root(config_file) / path.relative_to(own_root), path)
    resumed, (whole, log) = read_state(train(config, tmp_path / "run")), uninterrupted
    assert all(torch.equal(value, resumed["ema"][name]) for name, value in whole["ema"].items())
    assert logged(tmp_path / "run") == log


def test_a_broken_held_out_picture_costs_no_step(micro, config_file, own_root, tmp_path):
    own = (f"data.roots=['{own_root}']", "data.validation=0.5", "save_every=2", "validate_every=4")
    config = load_config(config_file, (*OPTIONS, *own))
    _, stem = next(validation_pictures(config))
    path = own_root / "complete" / "images" / f"{stem}.jpg"
    before = path.read_bytes()
    halve(path)
    with pytest.raises(FrameError, match=rf"{stem}\.jpg: .*; step 4 is saved"):
        train(config, tmp_path / "run")
    assert read_state(tmp_path / "run" / "last.pt")["step"] == 4

    path.write_bytes(before)
    assert read_state(train(config, tmp_path / "run"))["step"] == 6
    assert [step for step, _ in logged(tmp_path / "run")] == ["2", "4", "6"]


def config_root(config_file):
    return load_config(config_file).data.roots[0]


def test_an_empty_split_is_named(config_file, tmp_path):
    with pytest.raises(CropSegError, match=r"splits\.csv has nothing in split 'autumn'"):
        train(load_config(config_file, ("data.split=autumn",)), tmp_path)


@pytest.fixture
def small_disk():
    """No file may grow past 64 KiB: what a full disk does, to one write or another."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_state_that_was_saved(micro, config_file, tmp_path, request):
    first = load_config(config_file, ("size=micro", "steps=2"))
    path = train(first, tmp_path)
    before = path.read_bytes()
    assert len(before) > 1 << 16

    request.getfixturevalue("small_disk")
    config = load_config(config_file, ("size=micro", "steps=4"))
    with pytest.raises(StorageError, match=r"last\.pt: .*step 4 .*\(File too large\).*intact"):
        train(config, tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "last.pt", "log.csv"]


def test_a_first_state_that_cannot_be_written_leaves_nothing(tmp_path, small_disk):
    path = tmp_path / "last.pt"
    with pytest.raises(StorageError, match="nothing was saved before"):
        save_atomically(path, {"step": 1, "model": torch.zeros(1 << 16)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["model", "ema", "optimiser"])
def test_missing_weights_are_named_with_their_file(micro, config_file, tmp_path, part):
    config = load_config(config_file, ("size=micro", "steps=1"))
    path = train(config, tmp_path)
    state = read_state(path)
    if part == "optimiser":
        state[part]["param_groups"].pop()
        message = r"last\.pt: .*parameter group"
    else:
        del state[part]["classifier.bias"]
        message = r"last\.pt: .*Missing key.*classifier\.bias"
    torch.save(state, path)
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path)
    if part == "ema":
        with pytest.raises(ConfigError, match=message):
            load_model(path)


@pytest.mark.parametrize("use", ["resume", "init"])
def test_a_checkpoint_of_another_size_is_refused(micro, config_file, tmp_path, use):
    path = train(load_config(config_file, ("size=micro", "steps=1")), tmp_path / "micro")
    out = path.parent if use == "resume" else tmp_path / "new"
    options = ("size=nano", "steps=1", *((f"init={path}",) if use == "init" else ()))
    with pytest.raises(ConfigError, match=r"last\.pt: .*of size micro"):
        train(load_config(config_file, options), out)
    assert read_state(path)["step"] == 1
