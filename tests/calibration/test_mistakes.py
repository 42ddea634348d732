"""What a user gets wrong is said in one line, before work is lost."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import Result
from pydantic import BaseModel, Field

from calibration.labels import simulated
from calibration.qdq import quantize_for_cpu
from calibration.simplify import simplify
from cropseg_edge.bundle import Bundle
from cropseg_edge.cli.lazy import run_group
from cropseg_edge.errors import ConfigError
from tests.calibration.conftest import call, small_graph

LAYERS = ["stem", "guide_conv", "down", "lateral", "query"]


@pytest.fixture
def quantize(small_bundle: Bundle, frames: Path) -> Callable[..., Result]:
    """Quantize the small bundle, with further arguments."""
    return lambda *more: call(
        "quantize", small_bundle.path, "--frames", frames, "--method", "minmax", "--rounds", 1,
        "--threads", 1, *more,
    )  # fmt: skip


@pytest.fixture
def sensitivity(small_bundle: Bundle, frames: Path, tmp_path: Path) -> Callable[..., Result]:
    """Likewise, with one simulated picture, into tmp_path / "out"."""
    return lambda *more: call(
        "sensitivity", small_bundle.path, "--frames", frames, "--method", "minmax", "--limit", 1,
        "--threads", 1, "--out", tmp_path / "out", *more,
    )  # fmt: skip


def test_quantize_shows_its_progress_and_says_that_frames_are_few(
    quantize: Callable[..., Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("calibration").setLevel(logging.NOTSET)
    assert quantize("--out", tmp_path / "small8.cropseg").exit_code == 0
    assert "onnxruntime: ranges over 2 frames" in caplog.text
    assert "2 calibration frames are few" in caplog.text
    assert logging.getLogger().level > logging.INFO  # ONNX Runtime's quantizer speaks there


def test_an_output_that_cannot_be_written_is_said_before_the_work(
    quantize: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.run.prepare", lambda *_, **__: pytest.fail("it worked"))
    with pytest.raises(ConfigError, match="is a folder; name the bundle"):
        quantize("--out", tmp_path)
    with pytest.raises(ConfigError, match=r"small8\.cropseg cannot be written"):
        quantize("--out", "/proc/small8.cropseg")


def test_keeping_every_layer_leaves_nothing_to_quantize(
    quantize: Callable[..., Result], tmp_path: Path
) -> None:
    skip = tmp_path / "skip.json"
    skip.write_text(json.dumps({"keep": LAYERS}))
    with pytest.raises(ConfigError, match="all 5 layers stay in floating point"):
        quantize("--skip", skip, "--out", tmp_path / "small8.cropseg")
    with pytest.raises(ConfigError, match="no layer to quantize"):
        quantize_for_cpu(simplify(small_graph()), {}, ())


def test_masks_that_know_nothing_are_refused_once_fp32_was_measured(
    quantize: Callable[..., Result], sensitivity: Callable[..., Result], tmp_path: Path
) -> None:
    for kind, shape, value in (("images", (48, 64, 3), 90), ("masks", (48, 64), 255)):
        (tmp_path / "root" / "beets" / kind).mkdir(parents=True)
        image = np.full(shape, value, np.uint8)
        cv2.imwrite(str(tmp_path / "root" / "beets" / kind / "a.png"), image)
    (tmp_path / "root" / "splits.csv").write_text("dataset,stem,split\nbeets,a,train\n")
    labels = "beets:\n  labels: {0: [background], 1: [crop]}\n"
    (tmp_path / "root" / "datasets.yaml").write_text(labels)
    quantize("--out", tmp_path / "small8.cropseg")
    of_root = ("--root", tmp_path / "root", "--split", "train")
    with pytest.raises(ConfigError, match="no mask of beets says"):
        call("report", tmp_path / "small8.cropseg", *of_root, "--out", tmp_path / "report")
    with pytest.raises(ConfigError, match="no mask of beets says"):
        sensitivity(*of_root)
    assert not (tmp_path / "out" / "layers.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "--frames", "x", "--out", "y", "--budget"),
        ("quantize", "--frames", "x", "--out", "y", "--percentile"),
        ("report", "x", "--out", "y", "--budget"),
        ("sensitivity", "--frames", "x", "--out", "y", "--budget"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_names_its_option(arguments: tuple[str, ...], value: str) -> None:
    result = call(*arguments, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}'" in result.output


def test_figures_that_are_none_are_refused(sensitivity: Callable[..., Result]) -> None:
    result = sensitivity()
    layers = Path(result.output.split("(")[-1].split(")")[0]).with_name("layers.json")
    document = json.loads(layers.read_text())
    layers.write_text(json.dumps(document | {"alone": {**document["alone"], "down": 3}}))
    with pytest.raises(ConfigError, match=r"layers\.json cannot be read"):
        sensitivity()


def test_a_missing_matplotlib_is_said_before_anything_is_measured(
    sensitivity: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("calibration.bundles.prepare", lambda *_: pytest.fail("it measured"))
    with pytest.raises(ImportError, match="matplotlib"):
        sensitivity()


class Setting(BaseModel):
    budget: float = Field(0.5, ge=0)


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda: __import__("no_such_package"), r"no_such_package.*pip install '\.\[quant\]'"),
        (lambda: Setting(budget=-1), r"budget: Input should be greater"),
    ],
)
def test_a_missing_package_and_a_bad_setting_are_one_line(
    fail: Callable[[], object], words: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibration"])
    with pytest.raises(SystemExit) as exit_code:
        run_group(click.command()(lambda: fail()))
    assert exit_code.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line)


def test_lint_names_the_graph_that_it_checked(small_bundle: Bundle, tiny_bundle_path: Path) -> None:
    assert call("lint", small_bundle.path).output.startswith("tensorrt fp32: ")
    result = call("lint", tiny_bundle_path)
    assert result.output.startswith("onnxruntime fp32 (the bundle has no graph of TensorRT's own)")


def test_a_drawn_mask_that_was_cut_off_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        if any(tmp_path.glob("000*")):  # the picture is there
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    with monkeypatch.context() as disk:
        disk.setattr("cropseg_edge.files.os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            simulated(tmp_path, 1, (64, 48))
    assert [path.name for path in tmp_path.iterdir()] == ["000.png"]
    ((pair,),) = simulated(tmp_path, 1, (64, 48)).values()
    assert cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED).shape == (48, 64)
