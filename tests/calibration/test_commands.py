"""From frames to a bundle with three precisions, its report, and the layers that cost most."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from calibration.__main__ import COMMANDS, cli
from calibration.bundles import with_record
from calibration.labels import labelled_sets
from calibration.measure import loss_points, speedup, verdict
from calibration.modelopt import check_modelopt
from calibration.report import scales
from calibration.sensitivity import KEY, search
from cropseg_edge.bundle import (
    Bundle,
    Manifest,
    encode_probabilities,
    read_bundle,
    write_bundle,
)
from cropseg_edge.cli.lazy import run_group
from cropseg_edge.engines.integers import int8_is_exact
from cropseg_edge.errors import BundleError, ConfigError, ParityError
from cropseg_edge.segmenter import Segmenter
from tests.calibration.conftest import call


@pytest.fixture(scope="module")
def quantized(small_bundle: Bundle, frames: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("quantized") / "small8.cropseg"
    result = call(
        "quantize", small_bundle.path, "--frames", frames, "--out", out, "--method", "minmax",
        "--rounds", 3, "--threads", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert "python -m calibration" in result.output


def test_the_bundle_holds_every_precision_and_its_record(quantized: Path) -> None:
    manifest = read_bundle(quantized).manifest
    assert manifest.precisions("onnxruntime") == ("fp32", "int8")
    assert manifest.precisions("tensorrt") == ("fp32", "fp16", "int8")
    record = manifest.calibration
    assert record is not None
    assert record.quantized["tensorrt"] == ("stem", "guide_conv", "down", "lateral", "query")
    assert "classifier" in record.kept["onnxruntime"]
    assert len(record.frames) == 2
    assert record.verdict.startswith("INT8")
    assert json.loads(quantized.with_suffix(".quantize.json").read_text())["method"] == "minmax"


def test_int8_is_the_default_only_where_it_pays(quantized: Path) -> None:
    bundle = read_bundle(quantized)
    assert bundle.manifest.calibration is not None
    pays = bundle.manifest.calibration.verdict.startswith("INT8 pays")
    assert bundle.default_precision() == ("int8" if pays else "fp32")
    chosen = with_record(
        quantized.with_name("chosen.cropseg"),
        bundle,
        bundle.manifest.calibration,
        {"onnxruntime": "int8"},
    )
    with Segmenter(chosen, threads=1) as segmenter:
        assert segmenter.engine.precision == ("int8" if int8_is_exact() else "fp32")


def test_int8_that_misses_the_golden_masks_is_not_written(
    frames: Path, tmp_path: Path, small_bundle: Bundle
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    wrong = np.zeros((3, 24, 32), np.float32)
    wrong[1] = 1
    golden = {"image": "golden/0.png", "probabilities": "golden/0.probabilities.png"}
    manifest = Manifest.model_validate(small_bundle.manifest.model_dump() | {"golden": [golden]})
    members = {
        **small_bundle.members,
        "golden/0.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/0.probabilities.png": encode_probabilities(wrong),
    }
    source, out = tmp_path / "golden.cropseg", tmp_path / "out.cropseg"
    write_bundle(source, manifest, members)
    with pytest.raises(ParityError, match=r"int8 graph for onnxruntime .* golden frame 0"):
        call("quantize", source, "--frames", frames, "--out", out, "--method", "minmax")
    assert not out.exists()


def test_fp32_stays_as_it_was(quantized: Path, small_bundle: Bundle) -> None:
    assert read_bundle(quantized).graph("tensorrt") == small_bundle.graph("tensorrt")


def test_its_graphs_lint_clean_and_the_cpus_do_not(quantized: Path, tmp_path: Path) -> None:
    assert call("lint", quantized).exit_code == 0
    path = tmp_path / "cpu.onnx"
    path.write_bytes(read_bundle(quantized).graph("onnxruntime", "int8"))
    result = call("lint", path)
    assert result.exit_code == 1
    assert "quantized-type: s_QuantizeLinear" in result.output


def test_sensitivity_goes_on_and_feeds_quantize(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    arguments = (
        "sensitivity", small_bundle.path, "--frames", frames, "--out", tmp_path, "--limit", 1,
        "--method", "minmax", "--threads", 1,
    )  # fmt: skip
    assert call(*arguments).exit_code == 0
    document = json.loads((tmp_path / "layers.json").read_text())
    assert set(document["alone"]) == {"stem", "guide_conv", "down", "lateral", "query"}
    document["alone"]["down"][KEY] = 77.0
    (tmp_path / "layers.json").write_text(json.dumps(document))
    assert "77.000  down" in call(*arguments).output
    assert (tmp_path / "sensitivity.png").stat().st_size > 1000
    (tmp_path / "skip.json").write_text(json.dumps({"keep": ["query"]}))
    out = tmp_path / "skipped.cropseg"
    call(
        "quantize", small_bundle.path, "--frames", frames, "--out", out, "--skip",
        tmp_path / "skip.json", "--rounds", 1, "--method", "minmax",
    )  # fmt: skip
    record = read_bundle(out).manifest.calibration
    assert record is not None
    assert record.quantized["onnxruntime"] == ("stem", "guide_conv", "down", "lateral")


def test_the_report_says_it_plainly(quantized: Path, tmp_path: Path) -> None:
    result = call(
        "report", quantized, "--out", tmp_path, "--limit", 1, "--rounds", 3, "--threads", 1
    )
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "report.json").read_text())
    graphs = {"onnxruntime fp32", "onnxruntime int8", "tensorrt fp16", "tensorrt int8"}
    assert set(document["figures"]) == set(document["sizes"]) == graphs
    assert set(document["errors"]) == {"stem", "guide_conv", "down", "lateral", "query"}
    assert all(0 < error < 0.5 for error in document["errors"].values())
    assert len(document["scales"]["weights"]) > 8
    text = (tmp_path / "report.html").read_text()
    assert document["verdict"] in text
    assert "http" not in text
    again = call(
        "report", quantized, "--out", tmp_path, "--limit", 1, "--rounds", 1, "--no-tensorrt"
    )
    assert "onnxruntime int8: measured before" in again.output


def test_pictures_that_changed_are_measured_again(quantized: Path, tmp_path: Path) -> None:
    arguments = (
        "report", quantized, "--out", tmp_path, "--limit", 1, "--rounds", 1, "--no-tensorrt",
        "--threads", 1,
    )  # fmt: skip
    assert "measured before" not in call(*arguments).output
    assert call(*arguments).output.count("measured before") == 2
    for name in ("000_mask.png", "000.png"):
        picture = cv2.imread(str(tmp_path / "simulated" / name), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / "simulated" / name), picture[::-1])
        assert "measured before" not in call(*arguments).output


@pytest.mark.parametrize("change", ["method", "mask"])
def test_sensitivity_does_not_go_on_with_other_ranges_or_pictures(
    small_bundle: Bundle, frames: Path, tmp_path: Path, change: str
) -> None:
    arguments = (
        "sensitivity", small_bundle.path, "--frames", frames, "--out", tmp_path, "--limit", 1,
        "--threads", 1, "--method",
    )  # fmt: skip
    assert call(*arguments, "minmax").exit_code == 0
    if change == "mask":
        mask = tmp_path / "simulated" / "000_mask.png"
        cv2.imwrite(str(mask), cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)[::-1])
    with pytest.raises(ConfigError, match="other layers, ranges"):
        call(*arguments, "percentile" if change == "method" else "minmax")


def test_only_int8_weights_have_scales_of_weights(quantized: Path) -> None:
    found = scales(read_bundle(quantized).graph("onnxruntime", "int8"))
    assert len(found["weights"]) == 8 + 8 + 8 + 3 + 8  # stem, down, lateral, guide_conv, query


def labelled_root(folder: Path, labels: str, columns: str, *rows: str) -> Path:
    """A data root of black pictures; its rows are "beets,STEM,train,..."."""
    for row in rows:
        name, stem = row.split(",")[:2]
        for kind, shape in (("images", (48, 64, 3)), ("masks", (48, 64))):
            (folder / name / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / kind / f"{stem}.png"), np.zeros(shape, np.uint8))
    (folder / "splits.csv").write_text("\n".join([columns, *rows, ""]))
    (folder / "datasets.yaml").write_text(f"beets:\n  labels: {labels}\n")
    return folder


def test_figures_are_by_set_and_condition(tmp_path: Path) -> None:
    drawn = labelled_sets(None, "", tmp_path / "simulated", (64, 48))
    counts = {name: len(pairs) for name, pairs in drawn.items()}
    assert counts == {"simulator sun": 2, "simulator cloud": 1, "simulator dusk": 1}
    labels, rows = "{0: [background], 1: [crop]}", ("beets,a,train,", "beets,b,train,Dusk")
    root = labelled_root(tmp_path / "a", labels, "dataset,stem,split,condition", *rows)
    found = labelled_sets(root, "train", tmp_path, (64, 48))
    assert {n: [p.image.stem for p in pairs] for n, pairs in found.items()} == {
        "beets": ["a"],
        "beets dusk": ["b"],
    }
    root = labelled_root(tmp_path / "b", labels, "dataset,stem,split", "beets,a,train")
    assert list(labelled_sets(root, "train", tmp_path, (64, 48))) == ["beets"]


def test_labels_that_cannot_tell_vegetation_are_refused_before_measuring(
    quantized: Path, frames: Path, tmp_path: Path
) -> None:
    labels = "{0: [background, weed], 1: [crop]}"
    root = labelled_root(tmp_path, labels, "dataset,stem,split", "beets,a,train")
    for command in (("report", quantized), ("sensitivity", quantized, "--frames", frames)):
        with pytest.raises(ConfigError, match="beets do not tell plants from soil"):
            call(*command, "--root", root, "--split", "train", "--out", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_broken_graph_is_one_line_and_no_broken_rule(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["calibration", "lint", str(path)])
    with pytest.raises(SystemExit) as exit_code:
        run_group(cli)
    assert exit_code.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "broken.onnx is not a valid ONNX graph" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "--frames", "x", "--out", "y", "--percentile", 40),
        ("quantize", "--frames", "x", "--out", "y", "--budget", -1),
        ("quantize", "--frames", "x", "--out", "y", "--rounds", 0),
        ("report", "x", "--out", "y", "--rounds", 0),
        ("report", "x", "--out", "y", "--budget", -1),
        ("sensitivity", "--frames", "x", "--out", "y", "--budget", -1),
        ("sensitivity", "--frames", "x", "--out", "y", "--limit", 0),
        ("select", "x", "--out", "y", "--pool", 0),
        ("select", "x", "--out", "y", "--seed", -1),
    ],
)
def test_a_number_out_of_range_names_its_option(arguments) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}'" in result.output


def test_a_missing_modelopt_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelopt", None)
    with pytest.raises(ConfigError, match="pip install nvidia-modelopt"):
        check_modelopt()


def test_a_bundle_that_was_never_quantized_has_no_report(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="FP32 alone"):
        call("report", small_bundle.path, "--out", tmp_path)


@pytest.mark.parametrize(
    ("gain", "lost", "pays", "words"),
    [
        (1.9, 0.2, True, "INT8 pays: 1.90x, -0.20 points"),
        (1.9, -0.1, True, "INT8 pays: 1.90x, +0.10 points"),
        (1.9, 0.6, False, "more than the 0.5 points"),
        (1.0, 0.0, False, "no faster than FP32"),
    ],
)
def test_the_verdict_weighs_speed_and_loss(gain, lost, pays, words) -> None:
    found, sentence = verdict(gain, lost, 0.5)
    assert found is pays
    assert words in sentence


def test_the_worst_set_decides_the_loss() -> None:
    before = {"a": {KEY: 90.0}, "b": {KEY: 80.0}}
    assert loss_points(before, {"a": {KEY: 90.5}, "b": {KEY: 79.0}}) == {KEY: 1.0}


def test_speed_is_compared_round_by_round() -> None:
    assert speedup({"a": [10, 100, 20], "b": [70, 5, 10]}, "a", "b") == 2


@pytest.mark.parametrize(("budget", "keep"), [(9, ()), (2.5, ("d",)), (1.2, ("d", "c"))])
def test_the_dearest_layers_are_kept(budget: float, keep: tuple[str, ...]) -> None:
    prices = {"a": 0.1, "b": 1.0, "c": 1.4, "d": 3.0}

    def cost(layers) -> dict[str, float]:
        return {KEY: sum(prices[layer] for layer in layers)}

    alone = {layer: {KEY: price} for layer, price in prices.items()}
    found, final = search(list(prices), alone, cost(prices), cost, budget)
    assert found == keep
    assert final[KEY] <= budget


def test_layers_are_not_chosen_on_evaluation_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train"):
        labelled_sets(tmp_path, "dev", tmp_path, (64, 48), decides=True)


def test_the_example_graph_is_valid(small_bundle: Bundle) -> None:
    onnx.checker.check_model(onnx.load_from_string(small_bundle.graph()), full_check=True)
