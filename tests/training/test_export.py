"""Checkpoint to bundle: what it holds, that it agrees with PyTorch, when it is refused."""

import json

import cv2
import numpy as np
import onnx
import pytest

from cropseg_edge.bundle import read_bundle
from cropseg_edge.errors import ConfigError, ParityError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from training import export
from training.checkpoint import load_model, read_state
from training.config import load_config
from training.distill import DistillConfig, distill
from training.evaluation.methods import open_model
from training.provenance import sets_of
from training.self_train import SelfTrainConfig, self_train
from training.train import train


@pytest.fixture(scope="module")
def checkpoint(config_file, tmp_path_factory):
    """nano after a single step."""
    return train(load_config(config_file, ("steps=1",)), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    metrics = folder / "metrics.json"
    metrics.write_text(json.dumps({"datasets": {"complete": {"crop.miou": 50.0}}}))
    return export.export_bundle(
        checkpoint, folder / "n.cropseg", width=192, height=128, metrics=metrics
    )


def test_the_bundle_says_where_its_weights_come_from(bundle):
    manifest = read_bundle(bundle.path).manifest
    assert (manifest.size, manifest.licence) == ("nano", "CC-BY-SA-4.0")
    assert [(d.name, d.licence, d.images) for d in manifest.training.datasets] == [
        ("complete", "MIT", 8),
        ("open", "MIT", 8),
    ]
    assert (manifest.training.steps, manifest.training.images_seen) == (1, 2)
    assert manifest.metrics == {"complete": {"crop.miou": 50.0}}


def test_sets_of_earlier_stages_and_of_teachers_are_kept(config_file, checkpoint, tmp_path):
    picture = tmp_path / "drone" / "a.png"
    picture.parent.mkdir()
    cv2.imwrite(str(picture), np.full((64, 96, 3), 90, np.uint8))
    once = ("steps=1", "data.weights={open: 1}", f"teacher={checkpoint}")
    unlabelled = f"unlabelled={{weights: {{'{picture.parent}': 1}}, batch: 2}}"
    taught = self_train(
        load_config(config_file, (*once, "burn_in=1", unlabelled), SelfTrainConfig), tmp_path / "s"
    )
    students = distill(
        load_config(config_file, (*once, "students={nano: null}"), DistillConfig), tmp_path / "d"
    )
    tuned = train(
        load_config(config_file, ("steps=1", "data.weights={open: 1}", f"init={taught}")),
        tmp_path / "t",
    )
    sets = {"complete", "open"}
    assert open_model(students["nano"], threads=1).trained_on == sets
    assert open_model(tuned, threads=1).trained_on == {*sets, "drone"}
    records = sets_of(read_state(taught))
    assert set(records) == {*sets, "drone"}
    assert records["complete"]["licence"] == "MIT"


def test_the_segmenter_gives_pytorchs_probabilities_on_the_golden_frames(bundle, checkpoint):
    model, _ = load_model(checkpoint)
    with Segmenter(bundle) as segmenter:
        for image, stored in bundle.golden():
            expected = export.reference_probabilities(model, image)
            np.testing.assert_allclose(stored, expected, atol=5e-4)
            np.testing.assert_allclose(segmenter.probabilities(image), expected, atol=1e-4)


def test_colours_swapped_would_be_seen(bundle):
    image, stored = bundle.golden()[0]
    with Segmenter(bundle) as segmenter:
        swapped = segmenter.probabilities(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    assert np.abs(swapped - stored).max() > 1e-3


def test_a_frame_of_another_size_gets_a_mask_of_its_own_size(bundle):
    image = cv2.resize(bundle.golden()[0][0], (131, 77))
    with Segmenter(bundle) as segmenter:
        mask = segmenter.segment(Frame(image, 5, "camera", 0, "frame"))
    assert mask.labels.shape == (77, 131)
    assert mask.status is not Status.INVALID


def test_the_graph_for_tensorrt_has_no_gridsample(bundle):
    operators = {
        engine: {node.op_type for node in onnx.load_from_string(bundle.graph(engine)).graph.node}
        for engine in ("onnxruntime", "tensorrt")
    }
    assert {"DeformableAttention1", "DeformableAttention3"} <= operators["onnxruntime"]
    assert "GridSample" not in operators["tensorrt"]
    assert "LayerNormalization" in operators["tensorrt"]  # decomposed, it overflows in FP16


def test_disagreement_with_pytorch_is_refused_and_nothing_is_written(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    out = tmp_path / "refused.cropseg"
    with pytest.raises(ParityError, match="nothing was written"):
        export.export_bundle(checkpoint, out, width=192, height=128)
    assert not out.exists()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"width": 100}, "--width must be one of the multiples of 64, got 100"),
        ({"height": 0}, "--height must be .*got 0"),
        ({"width": 64, "height": -64}, "--height must be .*got -64"),
    ],
)
def test_a_size_that_the_network_cannot_take_is_refused(checkpoint, tmp_path, size, message):
    with pytest.raises(ConfigError, match=message):
        export.export_bundle(checkpoint, tmp_path / "n.cropseg", **size)


def test_the_frame_of_training_is_rounded_up_to_what_the_network_takes(
    checkpoint, tmp_path, monkeypatch
):
    class Seen(Exception):
        pass

    def seen(*what):
        raise Seen(*what[-2:])

    monkeypatch.setattr(export, "golden_frame", seen)
    with pytest.raises(Seen) as raised:  # trained for 96x64; the graph reads twice the frame
        export.export_bundle(checkpoint, tmp_path / "n.cropseg")
    assert raised.value.args == (128 // 2, 64 // 2)


def test_a_folder_that_is_not_there_is_found_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        export.export_bundle(tmp_path / "no.pt", tmp_path / "nowhere" / "n.cropseg")


@pytest.mark.parametrize(
    "content", ["[1]", '{"images": 1}', '{"datasets": {"a": {"b": "c"}}}', "x"]
)
def test_metrics_that_are_no_evaluation_of_sets_are_refused(checkpoint, tmp_path, content):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(content)
    with pytest.raises(ConfigError, match="cropseg eval"):
        export.export_bundle(checkpoint, tmp_path / "n.cropseg", metrics=metrics)


def test_a_bundle_cannot_be_written_over_its_checkpoint(checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(ConfigError, match=r"\.cropseg"):
        export.export_bundle(checkpoint, checkpoint)
    assert checkpoint.read_bytes() == before
