"""The chain of docs/training.md: a stage starts the next one, and a student is exported."""

import pytest
import yaml
from click.testing import CliRunner

from cropseg_edge.cli.simulate import simulate
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from training.__main__ import cli


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Two data roots of four simulated pictures each, known and unknown."""
    folder = tmp_path_factory.mktemp("fields")
    for seed, name in enumerate(("known", "unknown")):
        size = ["--random", "--frames", "4", "--width", "96", "--height", "64"]
        arguments = [*size, "--seed", str(seed), "--out", str(folder / name)]
        CliRunner().invoke(simulate, arguments, catch_exceptions=False)
    return folder


@pytest.fixture
def stage(micro, fields, tmp_path):
    """Runs a training command for two steps; gives the checkpoint whose path it printed."""

    def run(command, name, **values):
        data = {"roots": [str(fields / "known")], "weights": {"simulator": 1}, "crop": 64}
        data |= {"validation": 0, "frame": [96, 64], "workers": 0}
        common = {"steps": 2, "batch": 2, "precision": "fp32", "data": data}
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**common, **values}))
        arguments = [command, "--config", str(config), "--out", str(tmp_path / name)]
        return CliRunner().invoke(cli, arguments, catch_exceptions=False).output.strip()

    return run


def test_each_stage_starts_the_next_one_and_a_student_becomes_a_bundle(stage, fields, tmp_path):
    unlabelled = {"weights": {str(fields / "unknown" / "simulator"): 1}, "batch": 2}
    first = stage("train", "stage1", size="micro")
    second = stage(
        "self-train", "stage2", size="micro", init=first, teacher=first, burn_in=1,
        unlabelled=unlabelled,
    )  # fmt: skip
    student = stage(
        "distill", "students", teacher=second, students={"micro": None}, unlabelled=unlabelled
    )
    assert stage("train", "fine", size="micro", init=student)

    out = tmp_path / "student.cropseg"
    CliRunner().invoke(cli, ["export", student, "--out", str(out)], catch_exceptions=False)
    with Segmenter(out) as segmenter:
        image = segmenter.bundle.golden()[0][0]
        mask = segmenter.segment(Frame(image, 5, "camera", 0, "frame"))
    assert mask.labels.shape == (64, 96)
    assert mask.status is not Status.INVALID
