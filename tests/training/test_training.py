"""A run from configuration to checkpoint: data, resuming after a kill, what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError, FrameError
from training.checkpoint import images_seen, load_model, read_state
from training.config import load_config
from training.data.batches import CropDataset
from training.data.fields import find_set
from training.plot import plot_runs
from training.teacher import Teacher
from training.train import train
from training.validation import miou, validate, validation_pictures


@pytest.fixture(scope="module")
def config_file(config_file, micro, tmp_path_factory):
    """The small configuration, with a network that is small, too."""
    path = tmp_path_factory.mktemp("micro") / "micro.yaml"
    path.write_text(f"size: {micro.name}\n{config_file.read_text()}")
    return path


def test_mask_values_become_sets_of_classes(field_root):
    _, complete = find_set([field_root], "complete", "train").read("p0")
    _, left_open = find_set([field_root], "open", "train").read("p0")
    assert set(np.unique(complete)) == {0b001, 0b010}
    assert set(np.unique(left_open)) == {0b101, 0b010}


@pytest.mark.parametrize(
    ("name", "message"), [("tested", "evaluation only"), ("missing", "no root has a set")]
)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_set_that_may_not_be_trained_on_is_refused(field_root, name, message, split):
    with pytest.raises(FrameError, match=message):
        find_set([field_root], name, split)


def test_a_sample_is_the_same_in_every_run(config_file):
    config = load_config(config_file)
    first, second = (CropDataset(config, 10)[7] for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_a_killed_run_goes_on_exactly(config_file, tmp_path):
    config = load_config(config_file)
    whole = read_state(train(config, tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill(module, inputs):
        if module.training and next(counter) == 3:
            raise Killed

    counter = iter(range(100))
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda m, i: kill(m, i) if type(m).__name__ == "CropSegmenter" else None
    )
    try:
        with pytest.raises(Killed):
            train(config, tmp_path / "resumed")
    finally:
        hook.remove()
    assert read_state(tmp_path / "resumed" / "last.pt")["step"] == 2
    resumed = read_state(train(config, tmp_path / "resumed"))

    assert resumed["step"] == whole["step"] == 6
    for name, value in whole["ema"].items():
        assert torch.equal(value, resumed["ema"][name]), name
    logs = [(tmp_path / run / "log.csv").open() for run in ("whole", "resumed")]
    losses = [[row["loss"] for row in csv.DictReader(log)] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_a_second_stage_starts_from_the_first_ones_weights(config_file, tmp_path):
    first = train(load_config(config_file, ("steps=2",)), tmp_path / "first")
    frozen = ("steps=1", "batch=4", f"init={first}", "optimiser.lr=1e-12")
    second = read_state(train(load_config(config_file, frozen), tmp_path / "second"))
    assert (second["step"], second["steps_before"]) == (1, 2)
    assert images_seen(second) == 2 * 2 + 1 * 4
    weights = read_state(first)["ema"]["classifier.weight"]
    torch.testing.assert_close(second["model"]["classifier.weight"], weights, atol=1e-9, rtol=0)


def test_a_checkpoint_gives_the_averaged_network(config_file, tmp_path):
    path = train(load_config(config_file), tmp_path / "run")
    model, state = load_model(path)
    assert not model.training
    assert state["step"] == 6
    assert torch.equal(model.state_dict()["classifier.bias"], state["ema"]["classifier.bias"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stpes=3", "stpes"),
        ("data.crop=50", "data.crop"),
        ("batch=-1", "batch"),
        ("optimiser.lr=.nan", "optimiser.lr"),
        ("batch", "key.key=value"),
        ("steps.x=1", "no such section"),
        ("a=[1", "no YAML value"),
        ("data.weights={}", "data.weights"),
        ("data.weights={complete: 0}", "data.weights.complete"),
        ("optimiser.lr=.inf", "optimiser.lr"),
        ("seed=-1", "seed"),
        ("data.frame=[0, 0]", "data.frame.0: .*greater than or equal to 32"),
        ("data.frame=[640, -5]", "data.frame.1"),
        ("augmentation.scale=[0, 1]", "augmentation.scale.0: .*greater than 0"),
        ("augmentation.scale=[1.8, 0.6]", "augmentation.scale: .*lower bound comes first"),
        ("augmentation.gamma=[0, 1]", "augmentation.gamma.0"),
        ("augmentation.gamma=[2, 1]", "augmentation.gamma: .*lower bound"),
    ],
)
def test_a_wrong_configuration_names_the_key(config_file, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config_file, (override,))


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"a: [1", b"- 1", b"word"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size=huge", "nano"),
        ("data.validation=0.999", "leaves complete no picture"),
        ("data.weights={unlicensed: 1}", "no licence"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_checkpoint(config_file, tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        train(load_config(config_file, (override,)), tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize(
    "override",
    ["seed=1", "batch=1", "data.weights={complete: 1}", "data.validation=0.5"],
)
def test_a_run_goes_on_only_with_the_pictures_that_it_began_with(config_file, tmp_path, override):
    train(load_config(config_file, ("steps=1",)), tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        train(load_config(config_file, (override,)), tmp_path)
    assert (tmp_path / "config.yaml").read_bytes() == before
    assert read_state(train(load_config(config_file, ("steps=2",)), tmp_path))["step"] == 2


@pytest.mark.parametrize("damage", ["size", "ema", "config", "model", "weights"])
def test_a_checkpoint_that_lacks_a_part_is_refused(config_file, tmp_path, damage):
    config = load_config(config_file, ("steps=1",))
    path = train(config, tmp_path)
    state = read_state(path)
    if damage == "weights":
        state["ema"].popitem()
    else:
        del state[damage]
    torch.save(state, path)
    for use in (lambda: load_model(path), lambda: train(config, tmp_path)):
        with pytest.raises(ConfigError, match=r"lacks|do not fit"):
            use()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_model(path)


def test_a_pickle_with_code_in_it_never_runs(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.touch, ())

    path = tmp_path / "evil.pt"
    torch.save({"size": Evil(), "ema": {}}, path)
    with pytest.raises(ConfigError):
        read_state(path)
    assert not canary.exists()


class Oracle(torch.nn.Module):
    """Calls what is greener than its red crop."""

    multiple = 32

    def forward(self, image):
        crop = image[:, 1] > image[:, 0] + 1
        logits = torch.stack([~crop, crop, torch.zeros_like(crop)], 1).float()
        return torch.nn.functional.avg_pool2d(logits, 2)


def test_validation_counts_only_what_the_labels_decide(config_file):
    config = load_config(config_file, ("data.validation=0.99",))
    pictures = list(validation_pictures(config))
    assert {field.name for field, _ in pictures} == {"complete", "open"}
    figures = validate(Oracle(), pictures, (96, 64))
    assert figures["vegetation_miou"] > 90  # `open` leaves its background open: not counted here
    assert figures["crop_miou"] > 90
    assert miou(np.array([[3, 1], [0, 0]])) == pytest.approx(37.5)


def test_labels_that_leave_crop_open_give_no_figure_of_crop(config_file, field_root, tmp_path):
    root = shutil.copytree(field_root, tmp_path / "root")
    table = (root / "datasets.yaml").read_text()
    table = table.replace("1: [crop], 2: [weed]", "1: [crop, weed]")
    (root / "datasets.yaml").write_text(table)
    sets = (f"data.roots=['{root}']", "data.weights={complete: 1}", "data.validation=0.5")
    config = load_config(config_file, ("steps=1", *sets))
    assert list(validate(Oracle(), validation_pictures(config), (96, 64))) == ["vegetation_miou"]

    path = train(config, tmp_path / "run")
    (row,) = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert 0 <= float(row["vegetation_miou"]) <= 100
    assert row["crop_miou"] == ""
    Teacher(path).record(config, tmp_path)
    teacher = json.loads((tmp_path / "teacher.json").read_text())
    assert "vegetation_miou" in teacher
    assert "crop_miou" not in teacher
    plot_runs([tmp_path / "run"], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_loose_outlines_of_a_set_that_is_not_used_are_pointed_out(config_file, tmp_path, caplog):
    train(load_config(config_file, ("steps=1", "data.loose={complete: 2, maize: 3}")), tmp_path)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning == "data.loose names maize, which data.weights does not"


def test_other_settings_of_a_run_that_goes_on_are_named(config_file, tmp_path, caplog):
    caplog.set_level("INFO", "training")
    path = train(load_config(config_file, ("steps=2",)), tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    changed = ("optimiser.lr=0.5", "dice=3")
    with pytest.raises(ConfigError, match=r"last\.pt: .*taken 2 steps, and steps is 1"):
        train(load_config(config_file, ("steps=1", *changed)), tmp_path)
    train(load_config(config_file, ("steps=2", *changed)), tmp_path)  # nothing is left to be done
    assert (tmp_path / "config.yaml").read_bytes() == before
    assert "instead of" not in caplog.text

    train(load_config(config_file, ("steps=3", *changed)), tmp_path)
    said = [r.getMessage() for r in caplog.records if "instead of" in r.getMessage()]
    assert said == [
        "going on with steps 3 instead of 2",
        "going on with dice 3.0 instead of 0.5",
        "going on with optimiser.lr 0.5 instead of 0.001",
    ]
    assert b"lr: 0.5" in (tmp_path / "config.yaml").read_bytes()
    assert read_state(path)["step"] == 3
