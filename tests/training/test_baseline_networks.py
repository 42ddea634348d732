"""SegFormer and SAM through `transformers`, from folders; SegFormer trained as one of our sizes."""

import shutil

import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError
from training.checkpoint import read_state
from training.config import load_config
from training.evaluation.methods import open_baseline, open_model
from training.evaluation.sam import SamSettings, SamVegetation, stability
from training.export import export_bundle
from training.models.registry import build
from training.train import train

transformers = pytest.importorskip("transformers")


@pytest.fixture
def image():
    image = np.full((60, 90, 3), (60, 80, 100), np.uint8)
    image[20:40, 30:60] = (40, 160, 60)
    return image


def save_segformer(folder, labels):
    """A SegFormer of 16 channels with fresh weights."""
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], depths=[1] * 4,
        decoder_hidden_size=16, id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def baseline(spec, **labels):
    (method,) = open_baseline(spec, device="cpu", threads=1, segformer_labels=labels)
    return method


def test_a_segformers_labels_become_ours(tmp_path, image):
    folder = save_segformer(tmp_path / "ade", ["wall", "tree", "sky", "grass"])
    method = baseline(f"segformer={folder}", tree="crop", grass="weed")
    probabilities = method.segment.probabilities(image)
    assert probabilities.shape == (3, 120, 160)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.inference_mode():
        shares = model(torch.from_numpy(method.segment._letterbox.fill(image))).logits[0].softmax(0)
    np.testing.assert_allclose(probabilities[0], shares[0] + shares[2], atol=1e-5)
    np.testing.assert_allclose(probabilities[1:], shares[[1, 3]], atol=1e-5)
    assert method.segment(image).shape == (60, 90)
    assert "tree is crop, grass is weed" in method.note
    assert method.key != baseline(f"segformer={folder}", tree="weed", grass="crop").key


@pytest.mark.parametrize("labels", [["background", "crop", "weed"], ["soil", "plants"]])
def test_a_segformer_of_our_classes_or_of_plants_needs_no_mapping(tmp_path, image, labels):
    method = baseline(f"segformer={save_segformer(tmp_path / 'f', labels)}")
    assert set(np.unique(method.segment(image))) <= set(range(len(labels)))


@pytest.mark.parametrize(
    ("labels", "error"),
    [({}, "say which are plants with --segformer-label"), ({"oak": "crop"}, "has no label")],
)
def test_a_segformer_whose_labels_are_not_understood_is_refused(tmp_path, labels, error):
    folder = save_segformer(tmp_path / "ade", ["wall", "tree", "sky"])
    with pytest.raises(ConfigError, match=error):
        baseline(f"segformer={folder}", **labels)


@pytest.mark.parametrize("kind", ["segformer", "sam"])
def test_a_folder_without_a_model_is_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match="is no folder or name of a S"):
        baseline(f"{kind}={tmp_path}")


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    """A SAM of two layers for pictures of 64 pixels, with fresh weights."""
    torch.manual_seed(0)
    vision = transformers.SamVisionConfig(
        hidden_size=16, output_channels=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=16, window_size=2, global_attn_indexes=[1], mlp_dim=32,
        num_pos_feats=8,
    )  # fmt: skip
    prompt = transformers.SamPromptEncoderConfig(
        hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4
    )
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=16,
        mlp_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=16,
    )  # fmt: skip
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    folder = tmp_path_factory.mktemp("sam")
    transformers.SamModel(config).save_pretrained(folder)
    return folder


def test_sam_runs_from_a_folder_at_the_pictures_size(sam_folder, image):
    everything = SamSettings(points_a_side=4, points_at_once=5, predicted_iou=-9, stability=-1)
    sam = SamVegetation.load(str(sam_folder), "cpu", everything)
    labels = sam(image)
    assert labels.shape == (60, 90)
    assert set(np.unique(labels)) <= {0, 1}
    np.testing.assert_array_equal(labels, sam(image))
    nothing = SamVegetation.load(str(sam_folder), "cpu", everything._replace(predicted_iou=9))
    assert not nothing(image).any()
    assert sam.key != nothing.key


class Rectangles:
    """Stands for the network behind SAM: three good segments, one poor, as its logits would be."""

    def __init__(self):
        self.logits = torch.full((1, 1, 4, 16, 16), -8.0)
        for mask, (top, bottom, left, right) in enumerate(
            [(3, 6, 5, 11), (0, 11, 0, 4), (0, 16, 0, 16), (3, 8, 4, 12)]
        ):
            self.logits[0, 0, mask, top:bottom, left:right] = 8.0
        self.scores = torch.tensor([[[0.95, 0.95, 0.95, 0.1]]])

    def get_image_embeddings(self, pixels):
        return pixels

    def __call__(self, **prompts):
        found = type("Found", (), {})()
        found.pred_masks, found.iou_scores = self.logits, self.scores
        return found


def test_of_sams_segments_the_green_ones_are_plants(sam_folder):
    sam = SamVegetation.load(str(sam_folder), "cpu", SamSettings(points_a_side=1))
    sam.model = Rectangles()
    soil = np.full((64, 96, 3), (60, 80, 100), np.uint8)
    field, truth = soil.copy(), np.zeros((64, 96), bool)  # a cell of the logits is 6 pixels
    field[18:36, 30:66], truth[18:36, 30:66] = (40, 160, 60), True
    labels = sam(field) == 1
    assert (labels & truth).sum() / (labels | truth).sum() > 0.9
    assert not sam(soil).any()


def test_stability_is_the_overlap_of_two_thresholds():
    logits = torch.full((2, 4, 4), -5.0)
    logits[0, 0] = torch.tensor([5.0, 5.0, 0.5, -0.5])
    np.testing.assert_allclose(stability(logits), [0.5, 0])


def test_segformer_b0_has_the_papers_size():
    parameters = sum(p.numel() for p in build("segformer-b0").parameters())
    assert parameters == pytest.approx(3.7e6, rel=0.02)


NARROW = ("size=segformer-b0", "save_every=1", "precision=fp32")


@pytest.fixture(scope="module")
def trained(config_file, tmp_path_factory):
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("segformer")
    train(load_config(config_file, (*NARROW, "steps=2")), folder)
    return folder


def test_segformer_b0_is_trained_and_evaluated(trained, image):
    method = open_model(trained / "last.pt", threads=1)
    assert "size segformer-b0, step 2" in method.note
    assert method.trained_on == {"complete", "open"}
    labels = method.segment(image)
    assert labels.shape == (60, 90)
    assert set(np.unique(labels)) <= {0, 1, 2}


def test_segformer_b0_goes_on_where_it_stopped(config_file, trained, tmp_path):
    shutil.copy(trained / "last.pt", tmp_path)
    train(load_config(config_file, (*NARROW, "steps=3")), tmp_path)
    before, after = (read_state(folder / "last.pt") for folder in (trained, tmp_path))
    assert (before["step"], after["step"]) == (2, 3)
    key = "model.decode_head.classifier.weight"
    assert not torch.equal(before["model"][key], after["model"][key])


def test_segformer_cannot_be_exported(trained, tmp_path):
    with pytest.raises(ConfigError, match="for comparison only"):
        export_bundle(trained / "last.pt", tmp_path / "s.cropseg", width=192, height=128)


def test_what_segformer_cannot_do_is_refused(config_file, tmp_path):
    config = load_config(config_file, (*NARROW, "steps=1", "checkpointing=true"))
    with pytest.raises(ConfigError, match="do not go with segformer-b0"):
        train(config, tmp_path)
