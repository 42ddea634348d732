"""Attention as one node computes what its standard operators compute."""

import numpy as np
import onnx
import pytest
import torch

from calibration.fuse import fuse
from calibration.simplify import simplify
from tests.calibration.exporting import BOTH, exported, lone_node, needs_library, own_nodes, run
from training.models.positions import RelativeBias, rotations
from training.models.vit import Attention

CASES = [  # width, heads, grid, window
    (64, 2, (6, 7), 0),
    (64, 2, (6, 7), 3),  # squares that leave the grid
    (64, 2, (8, 8), 4),
    (48, 4, (9, 11), 0),
    (24, 6, (3, 5), 0),
    (16, 2, (1, 1), 0),
    (128, 1, (10, 13), 0),
    (32, 1, (12, 16), 5),
]


class Grid(torch.nn.Module):
    """One attention over the tokens of a grid."""

    def __init__(self, width, heads, grid, window, bias=None, turn=None):
        super().__init__()
        torch.manual_seed(0)
        self.attn = Attention(width, heads, bias, window)
        self.grid, self.turn = grid, turn
        torch.nn.init.normal_(self.attn.qkv.weight, std=1.5 * width**-0.5)

    def forward(self, x):
        return self.attn(x, self.grid, self.turn)


def tokens(width, grid):
    return torch.randn(1, grid[0] * grid[1], width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("compiled", BOTH)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_node_gives_what_pytorch_gives(case, compiled):
    module, x = Grid(*case), tokens(case[0], case[2])
    fused = fuse(exported(module, x=x))
    assert own_nodes(fused) == ["Attention"]
    onnx.checker.check_model(fused)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(run(fused, compiled, x=x.numpy()), expected, atol=2e-5, rtol=1e-5)


def test_whole_and_windows_share_a_body():
    module = torch.nn.Sequential(Grid(64, 2, (6, 8), 0), Grid(64, 2, (6, 8), 3))
    fused = fuse(exported(module, x=tokens(64, (6, 8))))
    assert own_nodes(fused) == ["Attention"] * 2
    assert len(fused.functions) == 1
    assert len({node.name for node in fused.graph.node}) == len(fused.graph.node)


def test_folding_again_gives_the_standard_operators_back():
    graph = exported(Grid(*CASES[1]), x=tokens(64, (6, 7)))
    again = simplify(fuse(graph).SerializeToString())
    assert own_nodes(again) == []
    assert not again.functions
    assert own_nodes(fuse(again)) == ["Attention"]


def test_a_bias_or_a_rotation_is_left_alone():
    grid, x = (4, 5), tokens(32, (4, 5))
    biased = Grid(32, 2, grid, 0, bias=RelativeBias(2, grid, 0))
    turned = Grid(32, 2, grid, 0, turn=rotations(grid, 16, 100.0, x))
    for module in (biased, turned):
        assert own_nodes(fuse(exported(module, x=x))) == []


class Square(torch.nn.Module):
    """An attention where heads, tokens and depth are 4, so that no shape tells them apart."""

    def __init__(self, scale=0.5, order=(0, 1, 2), softmax=-1, out=(0, 2, 1, 3)):
        super().__init__()
        self.scale, self.order, self.softmax, self.out = scale, order, softmax, out
        self.qkv = torch.nn.Linear(16, 48)

    def forward(self, x):
        parts = self.qkv(x).view(2, 4, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = (parts[i] for i in self.order)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(self.softmax)
        return (weights @ v).permute(self.out)


@pytest.mark.parametrize(
    "changed",
    [{}, {"scale": 0.25}, {"order": (1, 0, 2)}, {"softmax": -2}, {"out": (0, 1, 2, 3)},
     {"out": (0, 3, 1, 2)}],
    ids=str,
)  # fmt: skip
def test_only_what_computes_an_attention_becomes_one(changed):
    x = torch.randn(2, 4, 16)
    torch.manual_seed(0)
    module = Square(**changed)
    fused = fuse(exported(module, x=x))
    assert ("Attention" in own_nodes(fused)) == (not changed)
    with torch.no_grad():
        np.testing.assert_allclose(run(fused, False, x=x.numpy()), module(x).numpy(), atol=1e-5)


def lone(qkv):
    feed = {"qkv": qkv.astype(np.float32)}
    return run(lone_node("Attention", feed), True, **feed)


def reference(qkv):
    """The same in float64."""
    q, k, v = qkv.astype(np.float64).transpose(2, 0, 3, 1, 4)
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3)


@needs_library
@pytest.mark.parametrize("tokens", [1, 3, 31, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("depth", [4, 32, 128])
def test_any_number_of_tokens(tokens, depth):
    qkv = np.random.default_rng(0).normal(size=(2, tokens, 3, 3, depth))
    np.testing.assert_allclose(lone(qkv), reference(np.float32(qkv)), atol=1e-5, rtol=1e-5)


@needs_library
def test_large_scores_do_not_overflow():
    qkv = np.random.default_rng(0).normal(size=(1, 70, 3, 1, 8)) * [[[30]], [[30]], [[1]]]
    assert np.abs(np.float32(qkv)[:, :, :2]).max() > 60
    np.testing.assert_allclose(lone(qkv), reference(np.float32(qkv)), atol=1e-3)


@needs_library
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["query", "key", "value"])
def test_a_non_finite_input_does_not_become_a_number(bad, which):
    qkv = np.random.default_rng(0).normal(size=(1, 70, 3, 2, 8))
    qkv[0, 5, which, 1, 2] = bad
    out = lone(qkv)
    assert np.isfinite(out[:, :, 0]).all()  # the other head
    hit = out[0, 5, 1] if which == 0 else out[0, :, 1]
    assert not np.isfinite(hit).all()


@needs_library
def test_a_nan_of_any_bits_does_not_become_a_number():
    qkv = np.random.default_rng(0).normal(size=(1, 9, 3, 1, 8)).astype(np.float32)
    qkv[0, 5, 0, 0, 2] = np.uint32(0x7FC0007F).view(np.float32)
    assert np.isnan(lone(qkv)[0, 5]).all()


@needs_library
def test_scores_that_are_all_minus_infinity_give_nan():
    qkv = np.full((1, 70, 3, 1, 8), 1e20)
    qkv[:, :, 1] *= -1
    assert np.isnan(lone(qkv)).all()


@needs_library
@pytest.mark.parametrize("shape", [(1, 5, 2, 2, 8), (1, 5, 3, 2, 6), (1, 5, 3, 2, 132)], ids=str)
def test_a_shape_that_does_not_fit_gives_nan(shape):
    assert np.isnan(lone(np.zeros(shape))).all()
