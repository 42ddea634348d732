"""The simulator as a frame source, and as files on disk."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cropseg_edge.cli.simulate import simulate
from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator import FieldSimulator
from cropseg_edge.simulator.presets import sample_scene
from cropseg_edge.simulator.source import SimulatorSource
from cropseg_edge.simulator.write import write_training_root

SMALL = ["--width", "96", "--height", "64"]


def run(*arguments: str) -> None:
    CliRunner().invoke(simulate, list(arguments), catch_exceptions=False, standalone_mode=False)


def test_source_gives_frames_with_truth() -> None:
    source = SimulatorSource("simulator:species=beet,frames=3,width=96,height=64,rate_hz=5,seed=2")
    frames = list(source)
    assert [f.sequence for f in frames] == [0, 1, 2]
    assert [f.stamp_ns for f in frames] == [0, 200_000_000, 400_000_000]
    assert source.rate_hz == 5
    assert source.failed == 0
    expected = FieldSimulator("beet", seed=2, width=96, height=64, rate_hz=5).render(2)
    np.testing.assert_array_equal(frames[2].image, expected.image)
    np.testing.assert_array_equal(frames[2].truth, expected.labels)
    source.close()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("simulator:species=oak", "maize"),
        ("simulator:colour=red", "unknown key 'colour'"),
        ("simulator:frames=0", "frames=0"),
        ("simulator:seed", "KEY=VALUE"),
        ("simulator:width=wide", "width=wide"),
    ],
)
def test_wrong_specs_are_refused(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SimulatorSource(spec)


def test_a_drive_is_written_with_masks_depth_and_poses(tmp_path: Path) -> None:
    run("--out", str(tmp_path), "--frames", "2", "--seed", "3", *SMALL)
    truth = FieldSimulator(seed=3, width=96, height=64).render(1)
    mask = cv2.imread(str(tmp_path / "masks/000001.png"), cv2.IMREAD_UNCHANGED)
    depth = cv2.imread(str(tmp_path / "depth/000001.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, truth.labels)
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 1000, truth.depth_m, atol=6e-4)
    assert cv2.imread(str(tmp_path / "images/000001.jpg")).shape == (64, 96, 3)
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert [r["stem"] for r in rows] == ["000000", "000001"]
    assert float(rows[1]["z"]) == pytest.approx(truth.pose.position[2], abs=1e-5)


def test_a_training_root_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    first = write_training_root(tmp_path, 3, seed=1, width=64, height=48)
    next(first)
    del first
    kept = tmp_path / "simulator/images/0001_000000.jpg"
    before = kept.stat().st_mtime_ns
    run("--random", "--out", str(tmp_path), "--frames", "3", "--seed", "1", "--width", "64",
        "--height", "48")  # fmt: skip
    assert kept.stat().st_mtime_ns == before
    listed = list(csv.DictReader((tmp_path / "splits.csv").open()))
    stems = [r["stem"] for r in listed]
    for folder, suffix in (("images", "jpg"), ("masks", "png"), ("depth", "png")):
        files = sorted((tmp_path / "simulator" / folder).iterdir())
        assert [f.name for f in files] == [f"{s}.{suffix}" for s in stems]
    scenes = [sample_scene(1_000_003 + index) for index in range(3)]
    assert [(r["species"], r["condition"]) for r in listed] == [
        (scene.species, scene.condition) for scene in scenes
    ]
    labels = yaml.safe_load((tmp_path / "datasets.yaml").read_text())["simulator"]["labels"]
    assert labels == {0: ["background"], 1: ["crop"], 2: ["weed"]}


def test_workers_draw_the_same_frames(tmp_path: Path) -> None:
    size = {"seed": 1, "width": 64, "height": 48}
    numbers = list(write_training_root(tmp_path / "two", 3, **size, workers=2))
    assert numbers == [0, 1, 2] == list(write_training_root(tmp_path / "one", 3, **size))
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 11
    for file in files:
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


def test_another_training_root_keeps_its_tables(tmp_path: Path) -> None:
    (tmp_path / "datasets.yaml").write_text("field: {}\n")
    with pytest.raises(ConfigError, match="choose another"):
        list(write_training_root(tmp_path, 1, seed=1, width=64, height=48))
    assert [path.name for path in tmp_path.iterdir()] == ["datasets.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "x", "--species", "oak"],
        ["--out", "x", "--random", "--species", "beet"],
        ["--out", "x", "--workers", "2"],
        ["--sheet", "sheet.txt"],
    ],
)
def test_command_refuses_what_it_cannot_do(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []
