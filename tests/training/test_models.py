"""The network: deformable attention against its definition, shapes, sizes, the two export forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError
from training.checkpoint import size_of
from training.commands.sizes import sizes
from training.models.cost import cost, total
from training.models.deformable_attention import (
    DeformableAttention,
    reference_points,
    sample_gather,
    sample_grid,
)
from training.models.registry import build
from training.models.sizes import SIZES, ModelSize, describe, quarters
from training.models.vit import VisionTransformer, from_windows, to_windows


def bilinear(value, x, y):
    """Bilinear read of [h, w] at pixel coordinates, zeros outside."""
    h, w = value.shape
    total = 0.0
    for yi in (int(np.floor(y)), int(np.floor(y)) + 1):
        for xi in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= xi < w and 0 <= yi < h:
                total += (1 - abs(x - xi)) * (1 - abs(y - yi)) * value[yi, xi]
    return total


def naive_attention(module, query, reference, value, shapes):
    """Deformable attention by its sums, float64, for one picture."""
    values = module.value(value)[0].detach().numpy()
    q, heads, levels, points = query.shape[1], module.heads, module.levels, module.points
    offsets = module.offsets(query).view(q, heads, levels, points, 2).detach().numpy()
    weights = module.weights(query).view(q, heads, levels * points).softmax(-1)
    weights = weights.view(q, heads, levels, points).detach().numpy()
    depth = values.shape[1] // heads
    starts = np.cumsum([0, *(h * w for h, w in shapes)])
    mixed = np.zeros((q, heads * depth))
    for i in range(q):
        centre = reference[0, i, 0].numpy()
        for head in range(heads):
            for level, (h, w) in enumerate(shapes):
                chunk = values[starts[level] : starts[level + 1]].reshape(h, w, heads, depth)
                for point in range(points):
                    dx, dy = offsets[i, head, level, point]
                    x = (centre[0] + 1) / 2 * w - 0.5 + dx
                    y = (centre[1] + 1) / 2 * h - 0.5 + dy
                    for d in range(depth):
                        sample = bilinear(chunk[:, :, head, d], x, y)
                        mixed[i, head * depth + d] += weights[i, head, level, point] * sample
    return module.output(torch.from_numpy(mixed)).detach().numpy()


@pytest.mark.parametrize("gather", [False, True], ids=["gridsample", "gather"])
def test_deformable_attention_agrees_with_its_definition(gather):
    torch.manual_seed(0)
    shapes = [(4, 6), (2, 3)]
    module = DeformableAttention(8, levels=2, heads=2, points=3, value_ratio=0.5).double()
    module.gather = gather
    torch.nn.init.normal_(module.offsets.weight, std=0.5)
    torch.nn.init.normal_(module.weights.weight)
    query = torch.randn(1, 6, 8, dtype=torch.float64)
    value = torch.randn(1, 30, 8, dtype=torch.float64)
    reference = reference_points([(2, 3)], query.device, query.dtype)
    result = module(query, reference, value, shapes)[0].detach().numpy()
    expected = naive_attention(module, query, reference, value, shapes)
    np.testing.assert_allclose(result, expected, atol=1e-10)


def test_gather_and_gridsample_read_the_same_far_outside_too():
    torch.manual_seed(0)
    value, points = torch.randn(3, 4, 5, 7), torch.randn(3, 11, 4, 2) * 2
    torch.testing.assert_close(sample_gather(value, points), sample_grid(value, points))


@pytest.mark.parametrize(("height", "width"), [(64, 128), (192, 64)])
def test_nano_maps_an_image_to_logits_at_half_of_its_size(height, width):
    model = build("nano").eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, height // 2, width // 2)


def test_every_part_of_nano_gets_a_gradient():
    model = build("nano").train()
    for injector in model.backbone.injectors:
        torch.nn.init.ones_(injector.gamma)  # zero at the start: nothing flows through yet
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_scale": 1e-6, "injector_init": 1e-6},
        {"prefix": 5},
        {"position": "relative"},
        {"position": "relative", "prefix": 1},
        {"position": "rotary", "prefix": 5},
        {"fade_steps": True, "lite": False},
        {"last_step": "bilinear"},
        {"extra_extractors": 2, "detail": False},
        {"window": 0, "subpixel": 1},
        {"window": 2},
    ],
    ids=str,
)
def test_every_part_of_a_variant_gets_a_gradient_at_a_size_of_its_own(changes):
    torch.manual_seed(0)
    model = build(replace(SIZES["nano"], fine=1, grid=(3, 3), **changes)).train()
    for injector in model.backbone.injectors:
        torch.nn.init.ones_(injector.gamma)
    model(torch.randn(2, 3, 64, 96)).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 9)], ids=str)
def test_windows_hold_each_token_once_and_give_it_back(size):
    rows, columns = size
    tokens = torch.arange(2.0 * rows * columns * 3).view(2, rows * columns, 3) + 1
    squares = to_windows(tokens, size, 4)
    assert squares.shape[1:] == (16, 3)
    assert torch.equal(from_windows(squares, size, 4), tokens)
    assert torch.equal(squares[squares > 0].sort().values, tokens.flatten())


def test_a_window_sees_its_own_patches_and_a_global_block_all():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 128, 128)
    other = image.clone()
    other[..., 96:, 96:] += 1  # patches of the last of four windows

    def changed(global_blocks):
        vit = VisionTransformer(8, 2, 2, grid=(8, 8), window=4, global_blocks=global_blocks).eval()
        with torch.no_grad():
            both = [
                vit.run_blocks(*vit.embed(x), 0, 1)[0][0].unflatten(0, (8, 8))
                for x in (image, other)
            ]
        return (both[0] != both[1]).any(2)

    local = changed(())
    assert local[4:, 4:].all()
    assert local.sum() == 16
    assert changed((1,)).all()


def test_checkpointing_changes_memory_and_not_the_gradients():
    torch.manual_seed(0)
    model = build(replace(SIZES["nano"], drop_path=0.3, prefix=1)).train()
    plain, expected = kept_and_gradients(model)
    model.backbone.vit.checkpointing = True
    less, result = kept_and_gradients(model)
    torch.testing.assert_close(result, expected)
    assert less < 0.8 * plain


def kept_and_gradients(model):
    """Numbers kept for the backward pass, and the gradients."""
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    model.zero_grad()
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.ones(2, 3, 64, 64)).square().mean()
    before = sum(kept)
    loss.backward()
    return before, [p.grad.clone() for p in model.parameters()]


def test_a_bilinear_network_has_no_inputs_for_fade():
    model = build(replace(SIZES["nano"], last_step="bilinear")).eval()
    with pytest.raises(ConfigError, match="comparison only"):
        model.predict(torch.zeros(1, 3, 64, 64))


PAPER = {
    "T": ModelSize("T", 192, 12, 3, quarters(12), 64, 6, 128),
    "S": SIZES["small"],
    "B": SIZES["base"],
    "L": SIZES["large"],
}


@pytest.mark.parametrize(
    ("name", "vit", "adapter", "prior", "injector", "extractor", "gmac"),
    [
        ("T", 5.5, 2.44, 1.17, 0.12, 0.11, (10.4, 3.7, 6.1, 0.6)),
        ("S", 21.6, 5.83, 1.31, 0.38, 0.40, (31.7, 13.4, 6.4, 2.4)),
        ("B", 85.7, 13.7, 1.58, 0.93, 1.00, (106.9, 33.9, 7.2, 9.7)),
        ("L", 303.1, 23.2, 1.76, 1.65, 1.78, (361.6, 60.0, 7.7, 17.2)),
    ],
)
def test_the_papers_sizes_cost_what_the_paper_says(
    name, vit, adapter, prior, injector, extractor, gmac
):
    costs = cost(PAPER[name])  # at 512 x 512
    with torch.device("meta"):
        backbone = build(PAPER[name]).backbone
    vit_parameters = costs["trunk"].parameters - backbone.vit.pos_embed.numel()
    vit_parameters += 14 * 14 * PAPER[name].width  # the paper's position embedding is for 224
    parts = [costs["trunk"], costs["interactions"], costs["prior"], costs["up"]]
    counted = [part.macs / 1e9 for part in parts]
    assert counted == [pytest.approx(figure, rel=0.02, abs=0.05) for figure in gmac]
    million = [
        vit_parameters / 1e6,
        sum(part.parameters for part in parts[1:]) / 1e6,
        costs["prior"].parameters / 1e6,
        parameters(backbone.injectors[0]) / 1e6,
        parameters(backbone.extractors[0]) / 1e6,
    ]
    expected = [vit, adapter, prior, injector, extractor]
    assert million == [pytest.approx(figure, rel=0.02, abs=0.005) for figure in expected]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_the_parts_hold_every_parameter(name):
    with torch.device("meta"):
        model = build(name)
    assert total(cost(SIZES[name])).parameters == parameters(model)


@pytest.mark.parametrize(("lite", "gmac"), [(False, 0.74), (True, 0.24)])
def test_fade_costs_what_its_paper_says(lite, gmac):
    size = replace(SIZES["nano"], fine=1, decoder_width=256, fade_steps=True, lite=lite)
    steps = cost(size)["steps"].macs / 1e9  # to 128, 64 and 32 a side
    assert steps == pytest.approx(gmac * (1 + 1 / 4 + 1 / 16), rel=0.02)


def test_the_sizes_are_in_order_and_tiny_is_an_edge_size():
    costs = [total(cost(size)) for size in SIZES.values()]
    assert list(SIZES) == ["nano", "tiny", "small", "base", "large"]
    assert costs == sorted(costs, key=lambda c: c.parameters) == sorted(costs, key=lambda c: c.macs)
    assert costs[0].parameters < 1.5e6
    assert costs[1].macs < 10e9


def test_the_command_prints_every_size():
    result = CliRunner().invoke(sizes, [])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[2:]] == list(SIZES)
    parts = json.loads(CliRunner().invoke(sizes, ["--json"]).output)
    assert parts["large"]["trunk"]["macs"] / 1e9 == pytest.approx(361.6, rel=0.02)
    refused = CliRunner().invoke(sizes, ["--width", "100"])
    assert isinstance(refused.exception, ConfigError)


def test_a_checkpoint_from_before_newer_fields_is_still_of_its_size():
    newer = {"last_step", "layer_scale", "injector_init", "position", "prefix", "eps", "subpixel",
             "window", "global_blocks"}  # fmt: skip
    old = {key: value for key, value in describe(SIZES["nano"]).items() if key not in newer}
    before = replace(SIZES["nano"], subpixel=1, window=0, global_blocks=())
    assert size_of({"size": old}) == before
