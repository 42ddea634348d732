"""Somebody's ViT in our trunk: the same hidden states, and clear words where it does not fit."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from cropseg_edge.errors import ConfigError
from training.models.pretrained import read_trunk
from training.models.registry import build
from training.models.resizing import resize_patches, resize_table
from training.models.sizes import SIZES
from training.models.weight_files import read_weights

transformers = pytest.importorskip("transformers")
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
WIDER = {"intermediate_size": 128}
QKV = ("query", "key", "value")
SIZE = replace(
    SIZES["nano"], name="test", width=32, depth=2, heads=2, groups=((0, 0), (1, 1)), grid=(4, 4)
)
FAMILIES = {
    "vit": ("ViT", {**WIDER, "image_size": 64}),
    "dinov2": ("Dinov2", {"mlp_ratio": 4, "image_size": 64}),
    "dinov2_registers": ("Dinov2WithRegisters", {"num_register_tokens": 3, "image_size": 64}),
    "beit": ("Beit", {**WIDER, "image_size": 64, "use_relative_position_bias": True}),
    "beit_shared": ("Beit", {**WIDER, "image_size": 64, "use_shared_relative_position_bias": True}),
    "dinov3": ("DINOv3ViT", {**WIDER, "image_size": 64, "num_register_tokens": 4}),
}


def make_model(family, **changes):
    """A small random model of the family, every weight away from its initial value."""
    name, config = FAMILIES[family]
    values = {**SHAPE, **config, **changes}
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**values))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def our_states(vit, image):
    """[B, P + N, d] before the first block and after each."""
    x, prefix, size = vit.embed(image)
    states = [x if prefix is None else torch.cat([prefix, x], 1)]
    for i in range(len(vit.blocks)):
        x, prefix = vit.run_blocks(x, prefix, size, i, i)
        states.append(x if prefix is None else torch.cat([prefix, x], 1))
    return states


def load(source, size=SIZE):
    weights = read_trunk(source)
    vit = build(weights.fit_size(size)).backbone.vit.eval()
    return vit, weights.load_into(vit)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_are_those_of_transformers(family, tmp_path):
    model = make_model(family)
    model.save_pretrained(tmp_path)
    vit, report = load(tmp_path)
    image = torch.randn(2, 3, 64, 64)

    states = our_states(vit, image)

    expected = model(image, output_hidden_states=True).hidden_states
    assert len(states) == len(expected)
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (report.fresh, report.resized) == ((), [])


@pytest.mark.parametrize("shape", [(64, 96), (96, 32)])
@torch.no_grad()
def test_rotary_positions_hold_for_pictures_of_any_shape(shape, tmp_path):
    model = make_model("dinov3")
    model.save_pretrained(tmp_path)
    vit, _ = load(tmp_path)
    image = torch.randn(1, 3, *shape)
    expected = model(image, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(our_states(vit, image)[-1], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_absolute_positions_are_resized_as_transformers_does(tmp_path):
    model = make_model("vit", image_size=96)
    model.save_pretrained(tmp_path)
    vit, report = load(tmp_path)  # stored for 4x4 patches, where the checkpoint has 6x6
    image = torch.randn(1, 3, 64, 64)
    result = model(image, output_hidden_states=True, interpolate_pos_encoding=True)
    torch.testing.assert_close(our_states(vit, image)[-1], result.hidden_states[-1])
    assert report.resized == ["position embedding (6, 6) to (4, 4)"]


def timm_names(model, folder):
    """A ViT's weights under timm's names, which DeiT, BEiT and DINO files use, too."""
    model.save_pretrained(folder)
    state, _ = read_weights(folder)
    named = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "head.weight": torch.zeros(3, 32),
    }
    for kind in ("weight", "bias"):
        named[f"patch_embed.proj.{kind}"] = state[f"embeddings.patch_embeddings.projection.{kind}"]
        for i in range(2):
            ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
            qkv = [state[f"{theirs}.attention.attention.{x}.{kind}"] for x in QKV]
            named[f"{ours}.attn.qkv.{kind}"] = torch.cat(qkv)
            for own, their in (
                ("attn.proj", "attention.output.dense"),
                ("norm1", "layernorm_before"),
                ("norm2", "layernorm_after"),
                ("mlp.fc1", "intermediate.dense"),
                ("mlp.fc2", "output.dense"),
            ):
                named[f"{ours}.{own}.{kind}"] = state[f"{theirs}.{their}.{kind}"]
    return named


@torch.no_grad()
def test_a_pytorch_file_with_timms_names_is_the_same_trunk(tmp_path):
    model = make_model("vit", layer_norm_eps=1e-6)
    torch.save({"model": timm_names(model, tmp_path / "hf"), "epoch": 3}, tmp_path / "vit.pth")
    vit, report = load(tmp_path / "vit.pth")
    image = torch.randn(1, 3, 64, 64)
    expected = model(image, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(our_states(vit, image)[-1], expected, atol=1e-5, rtol=1e-5)
    assert report.unused == ("head.weight",)


def test_a_hub_name_is_read_from_the_local_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--lab--vit" / "snapshots" / "0123456789abcdef"
    make_model("vit").save_pretrained(snapshot)
    (tmp_path / "models--lab--vit" / "refs").mkdir()
    (tmp_path / "models--lab--vit" / "refs" / "main").write_text("0123456789abcdef")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert read_trunk("lab/vit").depth == 2
    with pytest.raises(ConfigError, match="lab/none is no file here and cannot be had"):
        read_trunk("lab/none")


def test_the_report_names_what_was_left_over(tmp_path):
    make_model("dinov2", patch_size=14, image_size=70).save_pretrained(tmp_path)
    _, report = load(tmp_path)
    assert "patches of 14 to 16 pixels" in report.resized
    assert "position embedding (5, 5) to (4, 4)" in report.resized
    assert set(report.unused) == {
        "embeddings.mask_token", "layernorm.weight", "layernorm.bias"
    }  # fmt: skip
    assert "not used: embeddings.mask_token" in str(report)


class Code:
    """A pickle that would run a command."""

    def __reduce__(self):
        return eval, ("1/0",)


def write_code(folder):
    torch.save({"model": Code()}, folder / "w.pth")


def write_noise(folder):
    (folder / "w.pth").write_bytes(b"noise")


def write_other(folder):
    torch.save({"conv.weight": torch.zeros(2)}, folder / "w.pth")


def write_gated(folder):
    torch.save({"blocks.0.mlp.w12.weight": torch.zeros(2)}, folder / "w.pth")


def write_torn(folder):
    named = timm_names(make_model("vit"), folder / "hf")
    del named["blocks.1.mlp.fc2.weight"]
    torch.save(named, folder / "w.pth")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_code, "tensors alone"),
        (write_noise, "tensors alone"),
        (write_other, "no plain ViT"),
        (write_gated, "gated feed-forwards"),
        (write_torn, "its block 1 has no 'fc2.weight'"),
        (lambda folder: None, "expected a file, a folder or a hub's owner/name"),
    ],
    ids=["pickle with code", "noise", "no ViT", "gated", "torn", "nothing there"],
)
def test_what_is_no_trunk_is_refused_with_its_name(write, message, tmp_path):
    write(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path / "w.pth")
    assert "w.pth" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "has depth 3, but test has width 32, depth 2"),
        ({"hidden_size": 64, "intermediate_size": 256}, "has width 64"),
        ({"num_attention_heads": 4}, "has heads 4"),
        ({"intermediate_size": 64}, "has mlp_ratio 2"),
        ({"hidden_act": "relu"}, "activation is relu"),
    ],
)
def test_a_trunk_of_another_size_is_refused(changes, message, tmp_path):
    make_model("vit", **changes).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_another_rotary_base_is_refused(tmp_path):
    make_model("dinov3").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 50.0}))
    with pytest.raises(ConfigError, match="rotary base is 50"):
        load(tmp_path)


def test_positions_of_another_kind_are_refused(tmp_path):
    make_model("beit").save_pretrained(tmp_path)
    weights = read_trunk(tmp_path)
    with pytest.raises(ConfigError, match="relative positions and the trunk absolute"):
        weights.load_into(build(SIZE).backbone.vit)


def test_a_relative_table_keeps_near_offsets_and_stretches_far_ones():
    y, x = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
    table = (0.1 * y**2 - 0.3 * x)[None]
    larger = resize_table(table, (6, 5))
    assert larger.shape == (1, 11, 9)
    torch.testing.assert_close(larger[0, 4:7, 3:6], table[0, 2:5, 2:5])  # offsets of at most one
    torch.testing.assert_close(larger[0, 0, 0], table[0, 0, 0])
    torch.testing.assert_close(resize_table(table, (3, 2)), table[:, 1:6, 2:5])


def test_a_resized_patch_gives_the_same_token():
    torch.manual_seed(0)
    patch, kernel = torch.randn(5, 3, 14, 14), torch.randn(4, 3, 14, 14)
    resized = nn.functional.interpolate(patch, size=(16, 16), mode="bicubic")
    tokens = nn.functional.conv2d(resized, resize_patches(kernel, 16))
    torch.testing.assert_close(tokens, nn.functional.conv2d(patch, kernel), atol=1e-3, rtol=1e-3)
