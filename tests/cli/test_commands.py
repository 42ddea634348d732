"""What each command gives when all is well."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropseg_edge.bundle import read_bundle
from cropseg_edge.cli.main import COMMANDS
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine
from cropseg_edge.errors import EngineError
from tests.cli.conftest import Cropseg


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Two pictures and masks: a green and a red rectangle on soil."""
    for name in ("images", "masks"):
        (tmp_path / "field" / name).mkdir(parents=True)
    image, mask = np.full((96, 128, 3), (70, 100, 100), np.uint8), np.zeros((96, 128), np.uint8)
    image[16:48, 16:64], mask[16:48, 16:64] = (40, 180, 60), 1
    image[56:88, 64:120], mask[56:88, 64:120] = (40, 60, 190), 2
    image += np.random.default_rng(0).integers(0, 12, image.shape, dtype=np.uint8)
    for stem in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"field/images/{stem}.png"), image)
        cv2.imwrite(str(tmp_path / f"field/masks/{stem}.png"), mask)
    return tmp_path / "field"


def test_run_writes_masks_overlays_a_table_and_a_summary(
    cropseg: Cropseg, tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    out = tmp_path / "out"
    result = cropseg("run", field / "images", "--out", out, "--bundle", tiny_bundle_path)
    assert result.code == 0, result
    mask = cv2.imread(str(out / "masks/a.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (96, 128)
    assert (mask[22:42, 22:58] == 1).all()
    assert (mask[62:82, 70:114] == 2).all()
    assert len(list(out.glob("overlays/*"))) == 2
    with (out / "frames.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["OK", "OK"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 2
    assert summary["bundle"]["sha256"] == read_bundle(tiny_bundle_path).sha256
    for stage in ("check", "preprocess", "engine", "fade", "decode"):
        assert stage in result.out


def test_a_run_says_what_it_spared(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path
) -> None:
    source = "simulator:species=maize,frames=1,width=64,height=48"
    arguments = ("run", source, "--bundle", tiny_bundle_path, "--report", "--out", tmp_path / "out")
    result = cropseg(*arguments, "--crop-margin", 5, "--weed-confidence", 0.9)
    assert result.code == 0, result
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["settings"] == {"crop_margin": 5, "weed_confidence": 0.9}
    assert "weed_confidence" in (tmp_path / "out" / "report.html").read_text()
    assert "% unknown" in result.out
    assert cropseg(*arguments, "--weed-confidence", "nan").code == 2


def test_run_stops_after_max_frames(
    cropseg: Cropseg, tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    out = tmp_path / "out"
    result = cropseg(
        "run", field / "images", "--out", out, "--bundle", tiny_bundle_path, "--max-frames", 1
    )
    assert result.code == 0, result
    assert [path.name for path in out.glob("masks/*")] == ["a.png"]


def test_a_folder_whose_name_is_not_utf_8_is_filled_and_said(
    tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    out = tmp_path / "\udcff"
    command = [sys.executable, "-m", "cropseg_edge", "run", str(field / "images"), "--report"]
    command += ["--out", str(out), "--bundle", str(tiny_bundle_path), "--mcap", f"{out}.mcap"]
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "\\udcff" in done.stdout
    assert len(list(out.glob("masks/*"))) == 2


def test_eval_of_two_folders(
    cropseg: Cropseg, tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    result = cropseg(
        "eval", field / "images", field / "masks", "--bundle", tiny_bundle_path, "--json", figures
    )
    assert result.code == 0, result
    document = json.loads(figures.read_text())
    assert document["vegetation.miou"] > 75
    assert document["crop.miou"] > 75
    assert document["images"] == 2
    assert f"{document['crop.miou']:.2f}" in result.out
    command = ("eval", field / "images", field / "masks", "--bundle", tiny_bundle_path)
    assert json.loads(cropseg(*command, "--json", "-").out) == document


def test_eval_of_a_root(
    cropseg: Cropseg, tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    (tmp_path / "splits.csv").write_text("dataset,stem,split\nfield,a,dev\nfield,b,train\n")
    (tmp_path / "datasets.yaml").write_text(
        "field: {labels: {0: [background, weed], 1: [crop], 2: [weed]}}"
    )
    figures = tmp_path / "figures.json"
    result = cropseg(
        "eval", tmp_path, "--split", "dev", "--bundle", tiny_bundle_path, "--json", figures
    )
    assert result.code == 0, result
    document = json.loads(figures.read_text())["datasets"]["field"]
    assert document["images"] == 1
    assert document["crop.miou"] > 75
    assert "vegetation.miou" not in document, "0 may be weed: vegetation is left open"


def test_eval_counts_and_names_what_the_engine_failed_on(
    cropseg: Cropseg,
    tmp_path: Path,
    field: Path,
    tiny_bundle_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    infer, calls = OnnxRuntimeEngine.infer, []

    def fail_on_the_second(self: OnnxRuntimeEngine, image: np.ndarray) -> object:
        calls.append(image)
        if len(calls) == 2:
            raise EngineError("out of luck")
        return infer(self, image)

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", fail_on_the_second)
    figures, b = tmp_path / "figures.json", field / "images/b.png"
    command = ("eval", field / "images", field / "masks", "--bundle", tiny_bundle_path)
    result = cropseg(*command, "--json", figures, "--engine", "onnxruntime")
    assert result.code == 2
    assert f"warning: {b}: the mask is INVALID: out of luck" in result.err
    assert "the engine failed on 1 of 2 pictures" in result.err
    assert result.out.splitlines()[-1].split("|")[1:5] == [
        f" {'images':<20} ", "      2 ", "      1 ", " crop       "
    ]  # fmt: skip
    document = json.loads(figures.read_text())
    assert (document["invalid"], document["engine_failures"]) == (1, 1)
    assert document["engine"] == {"name": "onnxruntime", "precision": "fp32"}


def test_eval_does_not_blame_the_engine_for_a_dark_picture(
    cropseg: Cropseg, field: Path, tiny_bundle_path: Path
) -> None:
    cv2.imwrite(str(field / "images/b.png"), np.zeros((96, 128, 3), np.uint8))
    command = ("eval", field / "images", field / "masks", "--bundle", tiny_bundle_path)
    result = cropseg(*command, "--json", "-")
    assert result.code == 0, result
    assert "b.png: the mask is INVALID: dark picture" in result.err
    document = json.loads(result.out)
    assert (document["invalid"], document["engine_failures"]) == (1, 0)


def test_eval_without_a_known_pixel_has_nothing_to_say(
    cropseg: Cropseg, tmp_path: Path, field: Path, tiny_bundle_path: Path
) -> None:
    for mask in (field / "masks").iterdir():
        cv2.imwrite(str(mask), np.full((96, 128), 255, np.uint8))
    figures = tmp_path / "figures.json"
    result = cropseg(
        "eval", field / "images", field / "masks", "--bundle", tiny_bundle_path, "--json", figures
    )
    assert result.code == 2
    assert "nothing to compare with" in result.err
    assert not figures.exists()


def test_info_shows_licence_training_data_and_hash(
    cropseg: Cropseg, tiny_bundle_path: Path
) -> None:
    result = cropseg("info", tiny_bundle_path)
    assert result.code == 0, result
    for word in ("tiny 0.0.1", "Apache-2.0", "CC0-1.0", read_bundle(tiny_bundle_path).sha256):
        assert word in result.out


def test_verify_runs_the_golden_frames(cropseg: Cropseg, tiny_bundle_path: Path) -> None:
    result = cropseg("verify", tiny_bundle_path)
    assert result.code == 0, result
    assert "golden frame 0" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(cropseg: Cropseg, command: str) -> None:
    result = cropseg(command, "--help")
    assert result.code == 0
    assert "Example" in result.out


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cropseg_edge.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('cv2', 'onnxruntime', 'pydantic', 'torch', 'yaml')"
        " if m in sys.modules])"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 2.5  # 0.2 s alone; the machine that tests is busy
    assert done.stdout.rstrip().endswith("[]")


def test_a_run_that_is_told_to_end_finishes_what_it_recorded(
    tmp_path: Path, tiny_bundle_path: Path
) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "cropseg_edge",
        "run",
        "simulator:frames=9999,width=64,height=48",
    ]
    command += ["--out", str(out), "--bundle", str(tiny_bundle_path), "--mcap", f"{out}.mcap"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    table = out / "frames.csv"  # a frame's row comes last
    while not (table.exists() and table.read_text().count("\n") > 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.terminate()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert json.loads((out / "summary.json").read_text())["frames"] >= 1
    assert (tmp_path / "out.mcap").exists()
