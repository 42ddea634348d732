"""Distillation: what is compared, two students at once, one pass of the teacher, resuming."""

import csv
import os
import shutil
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cropseg_edge.errors import ConfigError, FrameError
from training.__main__ import cli
from training.checkpoint import load_model, read_state
from training.config import dump_config, load_config
from training.distill import DistillConfig, DistillRun, Lesson, distill, watch
from training.matching import Projections, divergence, mismatch, outputs
from training.models.fade import FadeInputs, fade
from training.models.registry import build
from training.models.sizes import SIZES
from training.run import Run
from training.teacher import Teacher, as_seen_by
from training.train import train


@pytest.fixture(scope="module", autouse=True)
def sizes():
    """A teacher and two students that train a step in a few milliseconds, none of one width."""
    with pytest.MonkeyPatch.context() as patch:
        small = {"width": 16, "depth": 4, "groups": ((0, 0), (1, 1), (2, 2), (3, 3))}
        small |= {"stem": 8, "adapter_heads": 2, "grid": (4, 4)}
        for name, width in {"teacher": 16, "thin": 8, "wide": 12}.items():
            size = replace(SIZES["nano"], name=name, decoder_width=width, **small)
            patch.setitem(SIZES, name, size)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, config_file, sizes):
    config = load_config(config_file, ("size=teacher", "steps=2"))
    return train(config, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i in range(3):
        image = rng.integers(40, 90, (64, 96, 3), np.uint8)
        image[10:50, 20:60, 1] += 120
        cv2.imwrite(str(folder / f"u{i}.png"), image)
    return folder


@pytest.fixture
def settings(config_file, teacher, pictures):
    """The configuration of six steps for both students, on labelled and unlabelled pictures."""

    def make(*overrides):
        own = (
            f"teacher={teacher}", "students={thin: null, wide: null}",
            f"unlabelled={{weights: {{'{pictures}': 1}}, batch: 2}}", *overrides,
        )  # fmt: skip
        return load_config(config_file, own, DistillConfig)

    return make


def random_inputs(seed, *, taps=25, gated=True):
    generator = torch.manual_seed(seed)

    def draw(channels, side):
        return torch.randn(1, channels, side, side, generator=generator)

    gate = (draw(3, 8), draw(1, 4)) if gated else (None, None)
    return FadeInputs(draw(3, 4), draw(taps, 8), draw(taps, 4), *gate)


def test_equal_outputs_cost_nothing_and_others_something():
    ours, same, other = (outputs(random_inputs(seed)) for seed in (1, 1, 2))
    for loss in (divergence(ours.logits, same.logits, 2.0), mismatch(ours.maps, same.maps)):
        assert loss.item() == pytest.approx(0, abs=1e-6)
    assert divergence(ours.logits, other.logits, 2.0) > 0.1
    for name in ours.maps:
        assert mismatch({name: ours.maps[name]}, other.maps) > 0.01, name


@pytest.mark.parametrize("part", ["features", "kernels_high", "guide"])
def test_what_changes_no_output_of_fade_costs_nothing(part):
    """A constant over the channels of kernels or logits vanishes in a softmax."""
    inputs = random_inputs(3)
    shifted = inputs._replace(**{part: getattr(inputs, part) + 5})
    assert mismatch(outputs(shifted).maps, outputs(inputs).maps).item() == pytest.approx(
        0, abs=1e-5
    )


def test_the_kernels_count_only_as_their_sum():
    inputs = random_inputs(4)
    moved = nn.functional.interpolate(inputs.kernels_low, scale_factor=2.0)
    other = inputs._replace(
        kernels_high=inputs.kernels_high + moved, kernels_low=torch.zeros_like(inputs.kernels_low)
    )
    torch.testing.assert_close(fade(inputs), fade(other))
    assert mismatch(outputs(other).maps, outputs(inputs).maps).item() == pytest.approx(0, abs=1e-6)


def test_divergence_is_that_of_the_softened_probabilities():
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    p, q = (theirs / 2).softmax(1), (ours / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(divergence(ours, theirs, 2.0), expected)


def test_only_maps_of_other_channels_are_projected():
    student = outputs(random_inputs(1, taps=9)).maps
    teacher = outputs(random_inputs(2)).maps
    projections = Projections(student, teacher)
    assert list(projections.layers) == ["kernels"]
    shapes = {name: value.shape for name, value in projections(student).items()}
    assert shapes == {name: value.shape for name, value in teacher.items()}


def test_a_student_without_a_gate_is_compared_in_what_it_has():
    ungated, gated = outputs(random_inputs(1, gated=False)), outputs(random_inputs(2))
    assert set(gated.maps) - set(ungated.maps) == {"guide", "gate"}
    assert torch.isfinite(mismatch(ungated.maps, gated.maps))


def test_watching_changes_no_logits():
    model, image = build("thin").eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        seen = watch(model, model.predict, image)
        torch.testing.assert_close(seen.logits, model(image))
    assert seen.maps["decoder"].shape == (1, 8, 8, 8)
    assert not model.decoder._forward_hooks


def test_the_teacher_looks_once_for_both_students(settings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("training.distill.watch", lambda *a: seen.append(a[0]) or watch(*a))
    paths = distill(settings("steps=2"), tmp_path)
    looks = [model for model in seen if not model.classifier.weight.requires_grad]
    assert len(looks) == 2 + 2  # a step each, and once a student for the shapes
    for size, path in paths.items():
        assert path == tmp_path / size / "last.pt"
        assert load_model(path)[1]["size"]["name"] == size


def test_a_student_comes_to_see_as_its_teacher(settings):
    config = settings("optimiser.lr=0.01", "supervised=0", "optimiser.warmup=1", "steps=99")
    config = config.model_copy(update={"size": "wide"})
    run = DistillRun(config, Lesson(Teacher(config.teacher)))
    batch = next(iter(run.batches()))
    losses = []
    for _ in range(15):
        run.lesson.forget()
        losses.append(float(run.train_step(batch)))
    assert losses[-1] < 0.6 * losses[0]
    assert list(run.projections.layers) == ["decoder"]


def test_killed_students_go_on_exactly(settings, tmp_path, monkeypatch):
    """The second student dies with the first one a save ahead of it."""
    whole = distill(settings(), tmp_path / "whole")

    class Killed(Exception):
        pass

    step = Run.train_step

    def mortal(run, batch):
        if run.size.name == "wide" and run.step == 3:
            raise Killed
        return step(run, batch)

    monkeypatch.setattr(Run, "train_step", mortal)
    with pytest.raises(Killed):
        distill(settings(), tmp_path / "resumed")
    monkeypatch.undo()
    saved = [read_state(tmp_path / "resumed" / s / "last.pt")["step"] for s in ("thin", "wide")]
    assert saved == [4, 2]
    resumed = distill(settings(), tmp_path / "resumed")

    for size in ("thin", "wide"):
        one, other = read_state(whole[size]), read_state(resumed[size])
        assert one["step"] == other["step"] == 6
        for name, value in one["ema"].items():
            assert torch.equal(value, other["ema"][name]), name
        for name, value in one["extra"]["projections"].items():
            assert torch.equal(value, other["extra"]["projections"][name]), name
        logs = [list(csv.DictReader((p[size].parent / "log.csv").open())) for p in (whole, resumed)]
        for key in ("step", "loss", "loss_logits", "loss_fade", "loss_supervised"):
            assert [row[key] for row in logs[0]] == [row[key] for row in logs[1]]


def test_a_bad_picture_costs_no_student_a_step(settings, field_root, tmp_path):
    root = shutil.copytree(field_root, tmp_path / "root")
    for number in (3, 5):
        path = root / "complete" / "images" / f"p{number}.jpg"
        path.write_bytes(path.read_bytes()[:200])
    own = (f"data.roots=['{root}']", "data.weights={complete: 1}", "save_every=6")
    with pytest.raises(FrameError, match=r"p\d\.jpg: .* is saved"):
        distill(settings(*own), tmp_path)
    thin, wide = (read_state(tmp_path / size / "last.pt")["step"] for size in ("thin", "wide"))
    assert 0 < thin == wide < 6


def test_a_student_is_fine_tuned_by_train(settings, config_file, tmp_path):
    paths = distill(settings("steps=1", "unlabelled=null"), tmp_path)
    tuned = load_config(config_file, ("size=thin", f"init={paths['thin']}", "steps=1"))
    assert read_state(train(tuned, tmp_path / "fine"))["steps_before"] == 1
    again = settings("steps=1", f"students={{thin: {tmp_path}/fine/last.pt}}")
    assert read_state(distill(again, tmp_path / "again")["thin"])["steps_before"] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("students={}", "students"),
        ("students={huge: null}", "size must be one of"),
        ("size=tiny", "stands for size and init"),
        ("students={thin: x.pt}", "x.pt is no checkpoint"),
        ("temperature=0", "temperature"),
    ],
)
def test_a_wrong_configuration_is_refused(settings, tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        distill(settings(override), tmp_path)


def test_a_student_goes_on_only_with_its_teacher(settings, config_file, tmp_path):
    distill(settings("steps=1"), tmp_path / "run")
    other = load_config(config_file, ("size=teacher", "steps=1", "seed=7"))
    other = train(other, tmp_path / "other")
    with pytest.raises(ConfigError, match="another teacher"):
        distill(settings(f"teacher={other}"), tmp_path / "run")


def test_a_student_does_not_go_on_without_its_teacher(settings, config_file, tmp_path):
    path = distill(settings("steps=1"), tmp_path)["thin"]
    with pytest.raises(ConfigError, match=r"last\.pt: .*learns from a teacher"):
        train(load_config(config_file, ("size=thin", "steps=2")), path.parent)


def test_ctrl_c_leaves_every_student_saved(settings, tmp_path, monkeypatch):
    step = Run.train_step

    def interrupted(run, batch):
        if (run.size.name, run.step) == ("wide", 2):
            os.kill(os.getpid(), signal.SIGINT)
        return step(run, batch)

    monkeypatch.setattr(Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distill(settings("save_every=6"), tmp_path)
    assert [read_state(tmp_path / s / "last.pt")["step"] for s in ("thin", "wide")] == [3, 3]


def test_the_command_leaves_a_folder_a_student(settings, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(settings("steps=1", "data.validation=0.3")))
    arguments = ["distill", "--config", str(config), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert [line.split("/")[-2] for line in result.output.split()] == ["thin", "wide"]
    assert (tmp_path / "run" / "teacher.json").exists()
    log = (tmp_path / "run" / "train.log").read_text()
    assert all(line in log for line in ("teacher: vegetation_miou", "thin: step 1", "wide: step 1"))
    again = load_config(tmp_path / "run" / "config.yaml", (), DistillConfig)
    assert again == load_config(config, (), DistillConfig)


def test_students_of_other_fineness_learn_side_by_side(config_file, tmp_path, monkeypatch):
    for name, fine in {"coarse": 1, "finer": 2}.items():
        monkeypatch.setitem(SIZES, name, replace(SIZES["thin"], name=name, fine=fine))
    teacher = train(load_config(config_file, ("size=coarse", "steps=1")), tmp_path / "teacher")
    own = (f"teacher={teacher}", "students={coarse: null, finer: null}", "steps=1")
    paths = distill(load_config(config_file, own, DistillConfig), tmp_path / "students")
    assert [read_state(path)["size"]["fine"] for path in paths.values()] == [1, 2]


def test_a_coarser_teacher_sees_the_pictures_averages():
    image = torch.randn(1, 3, 64, 64)
    coarse, fine = build(replace(SIZES["thin"], fine=1)), build("thin")
    pairs = image.unflatten(2, (32, 2)).unflatten(4, (32, 2))
    torch.testing.assert_close(as_seen_by(coarse, image, 2), pairs.mean((3, 5)))
    assert as_seen_by(fine, image, 2) is image
    with pytest.raises(ConfigError, match="must be a multiple"):
        as_seen_by(fine, image, 1)
