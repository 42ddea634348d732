"""The network: deformable attention against its definition, shapes, sizes, the two export forms."""

import numpy as np
import pytest
import torch

from training.models.deformable_attention import (
    DeformableAttention,
    reference_points,
    sample_gather,
    sample_grid,
)
from training.models.registry import SIZES, build


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


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 32)])
def test_nano_maps_an_image_to_logits_at_half_its_size(height, width):
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


def test_sizes_have_the_parameters_that_they_claim():
    with torch.device("meta"):
        counts = {n: sum(p.numel() for p in build(n).backbone.parameters()) / 1e6 for n in SIZES}
    assert counts["nano"] < 2
    assert counts["large"] == pytest.approx(303.1 + 23.2, rel=0.02)  # ViT-L and its adapter
