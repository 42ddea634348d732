"""The whole chain on simulated fields, in small: depth, labels, screening, two stages, figures."""

import json

import pytest

from cropseg_edge.errors import ConfigError
from training.experiment.fields import TESTS
from training.experiment.report import closed, write_report
from training.experiment.run import ARMS, ExperimentConfig, experiment_config, run_experiment


@pytest.fixture(scope="module")
def done(tmp_path_factory, micro):
    out = tmp_path_factory.mktemp("experiment")
    config = ExperimentConfig(
        frames=24, network=micro.name, first_steps=2, second_steps=2, batch=2, crop=64, seeds=(0,)
    )
    return config, out, run_experiment(config, out)


def test_every_arm_ends_in_figures_on_every_test_set(done):
    arms = json.loads(done[2].read_text())["arms"]
    assert list(arms) == list(ARMS)
    for figures in arms.values():
        assert set(figures[0]) == set(TESTS)
        assert all(0 <= f["miou"] <= 100 for f in figures[0].values())


def test_the_log_lies_beside_the_results(done):
    _, out, _ = done
    assert "truth, seed 0" in (out / "experiment.log").read_text()
    assert "micro: step 2" in (out / "runs" / "stage_2_0" / "train.log").read_text()


def test_what_is_done_is_not_done_again(done):
    config, out, _ = done
    before = {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}
    run_experiment(config, out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("last.pt")}


def test_another_experiment_is_not_mixed_in(done):
    config, out, _ = done
    with pytest.raises(ConfigError, match="first_steps"):
        run_experiment(config.model_copy(update={"first_steps": 3}), out)


def test_the_report_has_a_table_and_a_plot(done):
    table, plot = write_report(done[2])
    assert all(f"| {arm} |" in table.read_text() for arm in ARMS)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_share_of_the_gap_is_between_stage_1_and_the_truth():
    def arm(miou):
        return [{"seen": {"miou": miou}}]

    arms = {"stage 1": arm(80.0), "stage 2": arm(85.0), "truth": arm(90.0)}
    assert closed(arms, "stage 2", "seen") == pytest.approx([50.0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("frame=3", "frame"),
        ("frames=-3", r"frames: .*greater than or equal to 2 \(got -3\)"),
        ("frames", "key.key=value"),
        ("seeds=[0", "no YAML value"),
        ("seeds=[]", "seeds"),
        ("seeds=[-1]", "seeds.0"),
        ("size=[320, 0]", "size.1"),
        ("first_steps=0", "first_steps"),
        ("batch=0", "batch"),
        ("crop=100", "crop"),
        ("keep=0", "keep"),
        ("threads=0", "threads"),
    ],
)
def test_a_wrong_setting_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        experiment_config((override,))
