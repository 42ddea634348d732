"""Calibration frames differ in look and light, are no noise, and are those that were selected."""

import json
import logging
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.candidates import candidates, condition, refuse_noise
from calibration.frames import choose, read_set, write_set
from cropseg_edge.bundle import InputSpec
from cropseg_edge.errors import ConfigError, FrameError


def field(light: float, plants: int, seed: int = 0) -> np.ndarray:
    """Brown soil with green discs, uint8 [96, 128, 3]."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 128, 3), (60, 90, 120), np.float64)
    for x, y in rng.integers(0, 96, (plants, 2)):
        cv2.circle(image, (int(x), int(y)), 8, (40, 170, 60), -1)
    return np.clip(image * light + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    for i in range(12):
        cv2.imwrite(str(path / f"day_{i}.png"), field(1.0, 3, i))
    cv2.imwrite(str(path / "night.png"), field(0.3, 3))
    cv2.imwrite(str(path / "dense.png"), field(1.0, 40))
    return path


def pool(source: Path, **options):
    defaults = {"pool": 100, "split": "train", "seed": 0, "work": Path("unused")}
    return list(candidates(str(source), **{**defaults, **options}))


def test_the_choice_holds_what_is_rare(folder: Path) -> None:
    names = [candidate.name for candidate in choose(pool(folder), 4)]
    assert {"night", "dense"} <= set(names)
    assert len(set(names)) == 4
    assert names == [candidate.name for candidate in choose(pool(folder), 4)]


def test_more_than_there_is_gives_all(folder: Path) -> None:
    assert len(choose(pool(folder), 100)) == 14


def test_a_large_source_is_thinned(folder: Path) -> None:
    names = {candidate.name for candidate in pool(folder, pool=5)}
    assert len(names) == 5


@pytest.mark.parametrize("shape", [(96, 128, 3), (480, 640, 3)])
def test_random_numbers_are_refused(shape) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with pytest.raises(ConfigError, match="random numbers"):
        refuse_noise(noise, "noise.png")
    refuse_noise(field(1.0, 3), "field.png")


def test_a_picture_of_nothing_is_left_out(folder: Path) -> None:
    cv2.imwrite(str(folder / "cap.png"), np.full((96, 128, 3), 7, np.uint8))
    assert "cap" not in {candidate.name for candidate in pool(folder)}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("small", field(1.0, 3)[:10, :10]),
        ("grey", cv2.cvtColor(field(1.0, 3), cv2.COLOR_BGR2GRAY)),
        ("black", np.zeros((96, 128, 3), np.uint8)),
    ],
)
def test_a_picture_that_the_segmenter_would_refuse_is_left_out(
    folder: Path, name: str, image: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "calibration")
    cv2.imwrite(str(folder / f"{name}.png"), image)
    assert len(pool(folder)) == 14
    assert name in caplog.text
    assert "left out" in caplog.text


def test_a_damaged_picture_is_left_out(folder: Path) -> None:
    (folder / "night.png").write_bytes(b"\x89PNG")
    assert len(pool(folder)) == 13
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(FrameError, match="no frame that can be read"):
        pool(folder)


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_pool_of_many_pictures_takes_the_memory_of_a_few(tmp_path: Path, kind: str) -> None:
    images = [cv2.resize(field(1.0, 3, i), (320, 240)) for i in range(30)]
    source = tmp_path if kind == "folder" else tmp_path / "drive.avi"
    if kind == "folder":
        for i, image in enumerate(images):
            cv2.imwrite(str(source / f"{i}.png"), image)
    else:
        motion_jpeg = cv2.VideoWriter.fourcc(*"MJPG")
        video = cv2.VideoWriter(str(source), motion_jpeg, 10, (320, 240))
        for image in images:
            video.write(image)
        video.release()
    tracemalloc.start()
    found = pool(source, work=tmp_path)
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 30
    assert current < 5 * 320 * 240 * 3


@pytest.mark.parametrize("split", ["dev", "test"])
def test_evaluation_splits_are_refused(tmp_path: Path, split: str) -> None:
    (tmp_path / "splits.csv").write_text("dataset,stem,split\n")
    with pytest.raises(ConfigError, match="evaluation"):
        pool(tmp_path, split=split)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root: beets with a picture of each split and one that has none."""
    for stem in ("beets/images/a", "beets/images/b", "beets/images/c", "beets/images/d"):
        path = tmp_path / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), field(1.0, 3, ord(stem[-1])))
    rows = "beets,a,train\nbeets,b,dev\nbeets,c,unlabelled\n"
    (tmp_path / "splits.csv").write_text("dataset,stem,split\n" + rows)
    (tmp_path / "datasets.yaml").write_text("beets:\n  labels: {0: [background], 1: [crop]}\n")
    return tmp_path


@pytest.mark.parametrize("source", ["beets", "beets/images"])
def test_evaluation_pictures_of_a_roots_folder_are_left_out(root: Path, source: str) -> None:
    assert {candidate.name for candidate in pool(root / source)} == {"a", "c"}


def test_an_evaluation_picture_itself_is_refused(root: Path) -> None:
    with pytest.raises(FrameError, match="nothing of"):
        pool(root / "beets/images/b.png")
    with pytest.raises(ConfigError, match="evaluation"):
        pool(root / "beets/images", split="dev")


@pytest.mark.parametrize("source", [".", "beets", "beets/images", "beets/images/a.png"])
def test_a_set_for_evaluation_only_is_refused(root: Path, source: str) -> None:
    with (root / "datasets.yaml").open("a") as file:
        file.write("  train: false\n")
    with pytest.raises(FrameError, match="evaluation only"):
        pool(root / source)


def test_equal_pictures_are_chosen_once(folder: Path) -> None:
    (folder / "again.png").write_bytes((folder / "night.png").read_bytes())
    assert len(pool(folder)) == 15
    assert len(choose(pool(folder), 100)) == 14


def test_a_smaller_set_leaves_no_picture_of_the_one_before(folder: Path, tmp_path: Path) -> None:
    write_set(choose(pool(folder), 3), tmp_path / "set")
    (tmp_path / "set" / "mine.png").touch()
    (frame,) = write_set(choose(pool(folder), 1), tmp_path / "set").frames
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {frame.name, "frames.json", "mine.png"}
    assert read_set(tmp_path / "set").frames == (frame,)


def test_the_set_comes_back_as_network_input(folder: Path, tmp_path: Path) -> None:
    chosen = choose(pool(folder), 3)
    write_set(chosen, tmp_path / "set")
    again = read_set(tmp_path / "set")
    spec = InputSpec(
        tensor="image", width=64, height=48, mean=(0, 0, 0), std=(1, 1, 1), color_order="bgr"
    )
    inputs = list(again.inputs(spec))
    assert [x.shape for x in inputs] == [(1, 3, 48, 64)] * 3
    assert again.frames[0].source == f"pictures/{chosen[0].name}"


def test_a_changed_frame_is_refused(folder: Path, tmp_path: Path) -> None:
    name = write_set(choose(pool(folder), 3), tmp_path / "set").frames[1].name
    cv2.imwrite(str(tmp_path / "set" / name), field(0.5, 1))
    with pytest.raises(ConfigError, match=rf"{name} was changed"):
        read_set(tmp_path / "set")


def test_a_frame_outside_of_the_set_is_refused(folder: Path, tmp_path: Path) -> None:
    name = write_set(choose(pool(folder), 2), tmp_path / "set").frames[0].name
    manifest = tmp_path / "set" / "frames.json"
    manifest.write_text(manifest.read_text().replace(name, f"../{name}"))
    (tmp_path / "set" / name).rename(tmp_path / name)
    with pytest.raises(ConfigError, match="no file of its folder"):
        read_set(tmp_path / "set")


def test_a_set_whose_pictures_have_only_numbers_is_read_and_replaced(
    folder: Path, tmp_path: Path
) -> None:
    (frame,) = write_set(choose(pool(folder), 1), tmp_path / "set").frames
    manifest = tmp_path / "set" / "frames.json"
    manifest.write_text(manifest.read_text().replace(frame.name, "0000.png"))
    (tmp_path / "set" / frame.name).rename(tmp_path / "set" / "0000.png")
    assert read_set(tmp_path / "set").frames[0].name == "0000.png"
    write_set(choose(pool(folder), 1), tmp_path / "set")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {frame.name, "frames.json"}


@pytest.mark.parametrize("name", ["0001-", "frames.json"])
def test_an_interrupted_set_leaves_the_one_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen = choose(pool(folder), 5)
    write_set(chosen[:2], tmp_path / "set")
    before = {path: path.read_bytes() for path in (tmp_path / "set").iterdir()}

    def write(path: Path, data: bytes) -> None:
        if path.name.startswith(name):
            raise KeyboardInterrupt
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr("calibration.frames.write_atomically", write)
        with pytest.raises(KeyboardInterrupt):
            write_set([chosen[0], *chosen[2:]], tmp_path / "set")  # one of the set before
    assert {path: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    assert len(write_set(chosen[2:], tmp_path / "set").frames) == 3


@pytest.mark.parametrize("content", [None, "{", json.dumps({"frames": []}), json.dumps([1])])
def test_a_folder_without_a_set_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "frames.json").write_text(content)
    with pytest.raises(ConfigError, match="select"):
        read_set(tmp_path)


@pytest.mark.parametrize(
    ("light", "name"), [(0.3, "dark"), (0.75, "dim"), (1.2, "even"), (4.0, "glaring")]
)
def test_light_is_named(light: float, name: str) -> None:
    assert condition(field(light, 2)) == name
