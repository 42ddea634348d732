"""Parameter groups: who is decayed, who learns slower."""

import pytest
import torch

from training.models.groups import parameter_groups
from training.models.registry import build


def groups_by_name(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


def test_without_layer_decay_there_are_the_decayed_and_the_others():
    model = build("nano")
    decayed, plain = parameter_groups(model, 1e-3, 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert decayed["lr"] == plain["lr"] == 1e-3
    by_name = groups_by_name(model, [decayed, plain])
    assert set(by_name) == {name for name, _ in model.named_parameters()}
    for name in ("vit.pos_embed", "level_embed", "norms.0.weight", "vit.blocks.0.attn.qkv.bias"):
        assert by_name[f"backbone.{name}"] is plain
    assert by_name["backbone.vit.blocks.0.attn.qkv.weight"] is decayed


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("backbone.vit.pos_embed", 9),
        ("backbone.vit.patch_embed.weight", 9),
        ("backbone.vit.blocks.0.attn.qkv.weight", 8),
        ("backbone.vit.blocks.7.norm1.bias", 1),
        ("backbone.injectors.0.gamma", 0),
        ("decoder.laterals.0.weight", 0),
    ],
)
def test_layers_further_from_the_output_learn_slower(name, power):
    model = build("nano")  # eight blocks
    group = groups_by_name(model, parameter_groups(model, 2e-4, 0.05, 0.9))[name]
    assert group["lr_scale"] == pytest.approx(0.9**power)
    assert group["lr"] == pytest.approx(2e-4 * 0.9**power)


def test_frozen_parameters_are_left_out():
    model = build("nano")
    model.backbone.vit.requires_grad_(False)
    groups = parameter_groups(model, 1e-3, 0.05, 0.9)
    names = groups_by_name(model, groups)
    assert not any(name.startswith("backbone.vit.") for name in names)
    torch.optim.AdamW(groups)
