"""What goes wrong while training: the message names file and reason, and no state is lost."""

import csv
import errno
import logging
import resource
import shutil
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError, CropSegError, FrameError, StorageError
from training.checkpoint import finite, load_model, read_state, save_atomically
from training.config import load_config
from training.logfile import log_to
from training.plot import plot_runs
from training.run import Run
from training.train import train
from training.validation import validate, validation_pictures

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
    train(config, tmp_path / "whole")
    assert held_out(tmp_path / "run") == held_out(tmp_path / "whole")


@pytest.mark.parametrize("step", [4, 6])
def test_a_validation_that_was_cut_off_is_made_up_for(
    micro, config_file, tmp_path, monkeypatch, step
):
    options = ("data.validation=0.5", "save_every=2", "validate_every=4")
    config = load_config(config_file, (*OPTIONS, *options))

    def killed(*arguments):
        if read_state(tmp_path / "run" / "last.pt")["step"] == step:
            raise KeyboardInterrupt
        return validate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("training.train.validate", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    assert not held_out(tmp_path / "run")[str(step)]
    for run in ("run", "whole", "run"):
        train(config, tmp_path / run)
    assert held_out(tmp_path / "run") == held_out(tmp_path / "whole")
    assert [step for step, figure in held_out(tmp_path / "run").items() if figure] == ["4", "6"]


def held_out(run):
    """The log's figure of held-out pictures by step."""
    with (run / "log.csv").open(newline="") as file:
        return {row["step"]: row["vegetation_miou"] for row in csv.DictReader(file)}


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


def breaking(steps):
    """A run whose loss is NaN in these steps."""

    class Breaking(Run):
        def loss(self, batch):
            return super().loss(batch) * (float("nan") if self.step in steps else 1.0)

    return Breaking


@pytest.mark.parametrize(
    ("options", "broken", "message", "kept"),
    [
        ("save_every=2", range(3, 99), "at step 6 .*; step 2 is saved; lower optimiser.lr", 2),
        ("steps=99", range(3, 99), "at step 5 .*; nothing is saved", None),
        ("save_every=2", [3], None, 6),
        ("save_every=2", [5], None, 6),
    ],
    ids=["not to the end", "not for long", "but for a single step", "were it the last"],
)
def test_a_run_that_diverges_stops_and_keeps_its_last_good_state(
    micro, config_file, tmp_path, monkeypatch, options, broken, message, kept
):
    monkeypatch.setattr("training.train.PATIENCE", 2 if "steps" in options else 50)
    config = load_config(config_file, (*OPTIONS, options))
    with pytest.raises(ConfigError, match=message) if message else nullcontext():
        train(config, tmp_path, breaking(broken))
    path = tmp_path / "last.pt"
    assert path.exists() == (kept is not None)
    if kept:
        state = read_state(path)
        assert state["step"] == kept
        assert finite(state["model"])
        assert finite(state["ema"])
        assert read_state(train(config, tmp_path))["step"] == 6


def test_a_graph_that_diverges_stops_although_it_counts_no_steps(
    micro, config_file, tmp_path, monkeypatch
):
    class Graph(Run):
        def train_step(self, batch):
            loss = super().train_step(batch)
            self.left_out = 0
            return loss * (float("nan") if self.step > 3 else 1.0)

    monkeypatch.setattr("training.train.PATIENCE", 4)
    config = load_config(config_file, (*OPTIONS, "save_every=2", "steps=99"))
    with pytest.raises(ConfigError, match=r"at step 6 .*; step 2 is saved"):
        train(config, tmp_path, Graph)


def test_weights_that_are_not_finite_are_never_saved(micro, config_file, tmp_path):
    class Poisoned(Run):
        def after_step(self):
            if self.step == 2:
                self.average.model.classifier.bias[0] = float("nan")

    config = load_config(config_file, (*OPTIONS, "save_every=2"))
    with pytest.raises(ConfigError, match="diverged: at step 4"):
        train(config, tmp_path, Poisoned)
    assert read_state(tmp_path / "last.pt")["step"] == 2


def test_a_damaged_line_of_the_log_costs_no_more_than_itself(micro, config_file, tmp_path):
    train(load_config(config_file, (*OPTIONS, "steps=1")), tmp_path)
    with (tmp_path / "log.csv").open("a") as log:
        log.write("x,1.0\n,\n")
    train(load_config(config_file, (*OPTIONS, "steps=2")), tmp_path)
    assert [step for step, _ in logged(tmp_path)] == ["1", "2"]


def test_a_picture_of_runs_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss,vegetation_miou,crop_miou\n1,0.5,,\n")
    with pytest.raises(StorageError, match=r"nowhere/t\.png: .*No such file"):
        plot_runs([tmp_path], tmp_path / "nowhere" / "t.png")


def test_a_log_on_a_full_disk_says_nothing_and_the_disk_is_named(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")

    def work():
        with log_to(tmp_path / "log.txt"):
            logging.getLogger("training").warning("it gets narrow")
            raise OSError(errno.ENOSPC, "No space left on device", "a.csv")

    with pytest.raises(StorageError, match=r"a\.csv: .*make room"):
        work()
    assert "Logging error" not in capsys.readouterr().err
