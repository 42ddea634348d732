"""Stage 2: which predictions become labels, who teaches when, what depth vetoes, resuming."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError, FrameError
from training.__main__ import cli
from training.checkpoint import read_state
from training.config import dump_config, load_config
from training.data.fields import find_set, held_out
from training.data.shards import write_shards
from training.data.unlabelled import (
    UnlabelledConfig,
    UnlabelledDataset,
    find_pictures,
    ground_masks,
    read_ground,
)
from training.models.sizes import SIZES
from training.run import Run
from training.selection import balanced_thresholds, move_thresholds, pseudo_labels, readings, veto
from training.self_train import SelfTrainConfig, SelfTrainRun, self_train
from training.teacher import Teacher
from training.train import train

THRESHOLDS = torch.tensor([0.9, 0.7, 0.6, 0.8])  # background, crop, weed, vegetation


@pytest.fixture(scope="module", autouse=True)
def mini():
    """A network that trains a step in a few milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        small = {"width": 16, "depth": 4, "groups": ((0, 0), (1, 1), (2, 2), (3, 3))}
        small |= {"stem": 8, "adapter_heads": 2, "decoder_width": 8, "grid": (4, 4)}
        patch.setitem(SIZES, "mini", replace(SIZES["nano"], name="mini", **small))
        yield


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Three pictures and a label folder for them: left is ground; the first one is refused."""
    rng = np.random.default_rng(1)
    folder, labels = (tmp_path_factory.mktemp(name) for name in ("pictures", "labels"))
    (labels / "masks").mkdir()
    for i in range(3):
        image = rng.integers(40, 90, (64, 96, 3), np.uint8)
        image[10:50, 20:60, 1] += 120
        cv2.imwrite(str(folder / f"u{i}.png"), image)
        mask = np.full((64, 96), 255, np.uint8)
        mask[:, :30], mask[:, 60:] = 0, 1
        cv2.imwrite(str(labels / "masks" / f"u{i}.png"), mask)
    rows = "stem,status,reason\nu0,refused,no two sides\nu1,ok,\nu2,ok,\n"
    (labels / "scores.csv").write_text(rows)
    return folder, labels


@pytest.fixture(scope="module")
def stage1(tmp_path_factory, config_file, mini):
    config = load_config(config_file, ("size=mini", "steps=2"))
    return train(config, tmp_path_factory.mktemp("stage1"))


@pytest.fixture
def settings(config_file, stage1, unlabelled):
    """The configuration of six steps, the first three with the fixed teacher."""

    def make(*overrides):
        folder, labels = unlabelled
        own = (
            "size=mini", f"teacher={stage1}", "burn_in=3",
            f"unlabelled={{weights: {{'{folder}': 1}}, batch: 2}}",
            f"unlabelled.veto={{'{folder}': '{labels}'}}", *overrides,
        )  # fmt: skip
        return load_config(config_file, own, SelfTrainConfig)

    return make


@pytest.mark.parametrize(
    ("probability", "expected", "expected_open"),
    [
        ((0.95, 0.03, 0.02), 1, 1),
        ((0.85, 0.10, 0.05), 0, 0),  # background, but not sure enough
        ((0.15, 0.75, 0.10), 2, 6),
        ((0.05, 0.30, 0.65), 4, 6),
        ((0.10, 0.50, 0.40), 6, 6),  # surely a plant, which one is open
        ((0.35, 0.40, 0.25), 0, 0),  # neither sure plant nor sure class
        ((0.28, 0.72, 0.00), 2, 0),  # sure by the lower threshold of its class
        ((0.50, 0.50, 0.00), 0, 0),
    ],
)
def test_only_a_sure_prediction_becomes_a_label(probability, expected, expected_open):
    p = torch.tensor(probability).view(1, 3, 1, 1)
    assert pseudo_labels(p, THRESHOLDS).item() == expected
    assert pseudo_labels(p, THRESHOLDS, open_plants=True).item() == expected_open


def test_every_class_keeps_the_same_share_of_its_predictions():
    p = torch.rand(2, 3, 40, 40, generator=torch.manual_seed(0)).softmax(1)
    p[:, 2] *= 0.9  # weeds are never as sure
    p /= p.sum(1, keepdim=True)
    thresholds = balanced_thresholds(p, keep=0.25)
    for (where, sure), threshold in zip(readings(p), thresholds, strict=True):
        kept = (sure[where] >= threshold).float().mean()
        assert kept == pytest.approx(0.25, abs=0.03)


def test_a_class_that_nobody_predicts_moves_no_threshold():
    soil = torch.tensor([0.9, 0.06, 0.04]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    target = balanced_thresholds(soil, keep=0.5)
    assert target[0] == pytest.approx(0.9)
    assert target[1:].isnan().all()
    moved = move_thresholds(torch.full((4,), 0.7), target, momentum=0.5, bounds=(0.6, 0.75))
    assert moved.tolist() == pytest.approx([0.75, 0.7, 0.7, 0.7])


@pytest.mark.parametrize(("taught", "allowed"), [(0, 0), (1, 1), (2, 0), (4, 0), (6, 0)])
def test_depth_vetoes_vegetation_on_bare_ground_and_nothing_else(taught, allowed):
    sets = torch.full((1, 1, 2), taught, dtype=torch.uint8)
    ground = torch.tensor([[[True, False]]])
    assert veto(sets, ground).flatten().tolist() == [allowed, taught]


def test_bare_ground_is_what_the_label_folder_calls_background(unlabelled):
    _, labels = unlabelled
    masks = ground_masks(labels, ["u0", "u1", "u7"])
    assert list(masks) == ["u1"]  # u0 is refused, u7 has no mask
    ground = read_ground(masks["u1"], (64, 96))
    assert ground[:, :30].all()
    assert not ground[:, 30:].any()
    assert not read_ground(masks.get("u0"), (64, 96)).any()
    with pytest.raises(FrameError, match=r"u1\.png.*one size"):
        read_ground(masks["u1"], (64, 64))


@pytest.mark.parametrize(
    ("scores", "message"),
    [(None, "scores.csv cannot be read"), ("stem,status\nu9,ok\n", "none of the pictures ok")],
)
def test_a_folder_without_labels_for_the_pictures_vetoes_nothing_silently(
    tmp_path, scores, message
):
    if scores:
        (tmp_path / "scores.csv").write_text(scores)
    with pytest.raises(ConfigError, match=message):
        ground_masks(tmp_path, ["u0"])


def test_both_views_and_the_ground_show_the_same_crop(settings, unlabelled):
    plain = {"colour": 0, "dusk": 0, "shadow": 0, "blur": 0, "noise": 0}
    folder, labels = unlabelled
    where = {"weights": {str(folder): 1}, "veto": {str(folder): labels}}
    data = settings().data
    same = UnlabelledDataset(UnlabelledConfig(**where, strong=plain), data, 0, 8)
    hard = UnlabelledDataset(UnlabelledConfig(**where), data, 0, 8)
    for i in range(8):
        (weak, strong, ground), (weak_again, stronger, ground_again) = same[i], hard[i]
        assert torch.equal(weak, strong)
        assert torch.equal(weak, weak_again)
        assert torch.equal(ground, ground_again)
        assert not torch.allclose(weak, stronger)
    assert any(same[i][2].any() for i in range(8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tested", "evaluation only"),
        ("{root}/tested", "evaluation only"),
        ("{root}/tested/images", "evaluation only"),
        ("nowhere", "no folder of images"),
        ("{empty}", "no image"),
        ("unlicensed", "no image"),
    ],
)
def test_pictures_that_may_not_be_seen_are_refused(settings, field_root, tmp_path, name, message):
    with pytest.raises(FrameError, match=message):
        find_pictures(settings().data, name.format(root=field_root, empty=tmp_path))


@pytest.mark.parametrize("name", ["complete", "{root}/complete", "{root}/complete/images"])
def test_held_out_pictures_stay_unseen(settings, field_root, name):
    where = UnlabelledConfig(weights={name.format(root=field_root): 1})
    half = settings("data.validation=0.5").data
    (seen,), (everything,) = (
        UnlabelledDataset(where, data, 0, 1).stems for data in (half, settings().data)
    )
    assert 0 < len(seen) < len(everything) == 8
    assert not any(held_out(stem, 0.5) for stem in seen)


def test_pictures_in_shards_are_those_of_the_folders(settings, field_root, tmp_path):
    write_shards(field_root, "train", tmp_path, sets=("complete",))
    where = ({"weights": {f"{root}/complete": 1}} for root in (field_root, tmp_path))
    folder, shards = (
        UnlabelledDataset(UnlabelledConfig(**w), settings().data, 0, 4) for w in where
    )
    for i in range(4):
        assert all(torch.equal(a, b) for a, b in zip(folder[i], shards[i], strict=True))


@pytest.fixture
def other_root(tmp_path):
    """A set without labels, a picture a split."""
    for number, stem in enumerate(("a", "b", "c")):
        (tmp_path / "other" / "images").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "other" / "images" / f"{stem}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "datasets.yaml").write_text("other: {licence: MIT, labels: {}}\n")
    rows = "dataset,stem,split\nother,a,train\nother,b,unlabelled\nother,c,dev\n"
    (tmp_path / "splits.csv").write_text(rows)
    return tmp_path


def test_a_set_of_another_root_keeps_its_splits(settings, other_root):
    for folder in ("other", "other/images"):
        found = find_pictures(settings().data, str(other_root / folder))
        assert list(found.pairs) == ["a", "b"]
        assert found.licence == "MIT"


def test_pictures_without_labels_are_read_from_shards(settings, other_root):
    packed = other_root / "shards"
    for split in ("train", "unlabelled"):
        assert write_shards(other_root, split, packed) == {"other": 1}
    found = find_pictures(settings().data, str(packed / "other"))
    assert [(stem, int(found.picture(stem).max())) for stem in found.pairs] == [("a", 0), ("b", 1)]
    with pytest.raises(FrameError, match=r"unlabelled-000000\.tar \(b\): packed without labels"):
        find_set([packed], "other", "unlabelled").read("b")


def test_the_fixed_teacher_labels_until_burn_in_then_the_average(settings):
    config = settings()
    run = SelfTrainRun(config, Teacher(config.teacher))
    teachers = []
    for batch in run.batches():
        teachers.append(run.teacher)
        run.train_step(batch)
    assert teachers == [run.fixed.model] * 3 + [run.average.model] * 3


def test_the_student_learns_what_the_teacher_says(settings, config_file):
    """With labels of weight 0 in the supervised part, only the teacher can move the student."""
    config = settings("selection.bounds=[0.0, 0.1]", "burn_in=6", "optimiser.lr=0.03")
    run = SelfTrainRun(config, Teacher(config.teacher))
    with torch.no_grad():  # a teacher that sees weed everywhere
        run.fixed.model.classifier.bias += torch.tensor([-20.0, -20.0, 20.0])
    (_, unlabelled), *_ = run.batches()
    nothing = torch.zeros(2, 64, 64, dtype=torch.uint8)
    ground = torch.zeros(2, 64, 64, dtype=torch.bool)
    batch = (unlabelled[0], nothing), (unlabelled[0], unlabelled[1], ground)
    losses = [float(run.train_step(batch)) for _ in range(6)]
    assert losses[-1] < losses[0] / 2
    vetoed = (unlabelled[0], nothing), (unlabelled[0], unlabelled[1], ~ground)
    assert float(run.train_step(vetoed)) == pytest.approx(0, abs=1e-6)


def test_a_killed_run_goes_on_exactly(settings, tmp_path, monkeypatch):
    whole = read_state(self_train(settings(), tmp_path / "whole"))

    class Killed(Exception):
        pass

    step = Run.train_step

    def mortal(run, batch):
        if run.step == 3:
            raise Killed
        return step(run, batch)

    monkeypatch.setattr(Run, "train_step", mortal)
    with pytest.raises(Killed):
        self_train(settings(), tmp_path / "resumed")
    monkeypatch.undo()
    assert read_state(tmp_path / "resumed" / "last.pt")["step"] == 2
    resumed = read_state(self_train(settings(), tmp_path / "resumed"))

    for name, value in whole["ema"].items():
        assert torch.equal(value, resumed["ema"][name]), name
    assert torch.equal(whole["extra"]["thresholds"], resumed["extra"]["thresholds"])
    logs = [list(csv.DictReader((tmp_path / r / "log.csv").open())) for r in ("whole", "resumed")]
    for key in ("step", "loss", "kept", "vetoed", "sure_background"):
        assert [row[key] for row in logs[0]] == [row[key] for row in logs[1]]
    assert len(logs[0]) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("unlabelled.batch=1", "another unlabelled"),
        ("teacher={other}", "another teacher"),
        ("teacher={folder}/u0.png", "no checkpoint"),
        ("unlabelled.veto={{nothing: .}}", "veto names"),
    ],
)
def test_a_run_goes_on_only_with_the_lessons_that_it_began_with(
    settings, config_file, unlabelled, tmp_path, override, message
):
    self_train(settings("steps=1"), tmp_path / "run")
    other = load_config(config_file, ("size=mini", "steps=1", "seed=5"))
    override = override.format(other=train(other, tmp_path / "other"), folder=unlabelled[0])
    with pytest.raises(ConfigError, match=message):
        self_train(settings(override), tmp_path / "run")


def test_the_command_leaves_figures_and_configuration(settings, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(settings("steps=1", "data.validation=0.3")))
    arguments = ["self-train", "--config", str(config), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.output.strip().endswith("last.pt")
    teacher = json.loads((tmp_path / "run" / "teacher.json").read_text())
    assert 0 <= teacher["vegetation_miou"] <= 100
    assert "mini: step 1" in (tmp_path / "run" / "train.log").read_text()
    again = load_config(tmp_path / "run" / "config.yaml", (), SelfTrainConfig)
    assert again == load_config(config, (), SelfTrainConfig)


def test_a_run_with_a_teacher_does_not_go_on_without_one(settings, config_file, tmp_path):
    path = self_train(settings("steps=1"), tmp_path)
    with pytest.raises(ConfigError, match=r"last\.pt: .*learns from a teacher"):
        train(load_config(config_file, ("size=mini", "steps=2")), tmp_path)
    assert read_state(path)["step"] == 1


def test_wrong_names_of_pictures_are_found_before_the_teacher_is_read(settings, tmp_path):
    config = settings("unlabelled.veto={nothing: .}", "teacher=nowhere.pt")
    with pytest.raises(ConfigError, match="veto names"):
        self_train(config, tmp_path)
