"""Deformable attention as one node computes what its standard operators compute."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from calibration.fuse import fuse
from calibration.simplify import simplify
from tests.calibration.exporting import (
    BOTH,
    exported,
    lone_node,
    needs_library,
    own_nodes,
    run,
    session,
)
from training.models.deformable_attention import DeformableAttention, reference_points


class Attention(torch.nn.Module):
    """One attention with its queries' grid, as the network holds it."""

    def __init__(self, width, queries, levels, heads, points, value_ratio):
        super().__init__()
        torch.manual_seed(0)
        self.attn = DeformableAttention(width, len(levels), heads, points, value_ratio)
        self.levels = levels
        self.reference = reference_points(queries, torch.device("cpu"), torch.float32)
        with torch.no_grad():
            for layer in (self.attn.offsets, self.attn.weights):
                layer.weight.normal_(0, 0.3)  # far enough for some to read outside

    def forward(self, query, value):
        return self.attn(query, self.reference, value, self.levels)


CASES = [
    # width, queries' grids, levels, heads, points, value_ratio: depth 8, 16, 32, and others
    (64, [(12, 16), (6, 8), (3, 4)], [(6, 8)], 4, 4, 0.5),
    (64, [(6, 8)], [(12, 16), (6, 8), (3, 4)], 4, 4, 1.0),
    (64, [(5, 7)], [(1, 9), (7, 1)], 2, 3, 1.0),
    (24, [(9, 11)], [(3, 5)], 2, 1, 0.5),
    (36, [(3, 3)], [(8, 8), (4, 4), (2, 2), (1, 1)], 3, 2, 1.0),
]


@pytest.mark.parametrize("compiled", BOTH)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_node_gives_what_pytorch_gives(case, compiled):
    module = Attention(*case)
    width, queries, levels = case[:3]
    query = torch.randn(1, sum(h * w for h, w in queries), width)
    value = torch.randn(1, sum(h * w for h, w in levels), width)
    fused = fuse(exported(module, query=query, value=value))
    assert own_nodes(fused) == [f"DeformableAttention{len(levels)}"]
    onnx.checker.check_model(fused)
    out = run(fused, compiled, query=query.numpy(), value=value.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(out, module(query, value).numpy(), atol=2e-5, rtol=1e-5)


def test_folding_again_gives_the_standard_operators_back():
    module = Attention(*CASES[0])
    graph = exported(module, query=torch.randn(1, 252, 64), value=torch.randn(1, 48, 64))
    again = simplify(fuse(graph).SerializeToString())
    assert {n.op_type for n in again.graph.node} == {n.op_type for n in graph.graph.node}
    assert not again.functions
    fused = fuse(again)
    assert len(own_nodes(fused)) == 1
    session(fused, False)  # ONNX Runtime opens it a second time
    assert own_nodes(simplify(fused.SerializeToString())) == []


class Pair(torch.nn.Module):
    """Two attentions whose queries, as many in both, lie on different grids."""

    def __init__(self):
        super().__init__()
        self.wide = Attention(32, [(4, 6)], [(6, 8)], 2, 2, 1.0)
        self.tall = Attention(32, [(6, 4)], [(6, 8)], 2, 2, 1.0)
        with torch.no_grad():
            for parameter in self.tall.parameters():
                parameter.mul_(0.9)  # equal layers would become one

    def forward(self, query, value):
        return self.wide(query, value) - self.tall(query, value)


@pytest.mark.parametrize("compiled", BOTH)
def test_each_attention_keeps_its_own_grid_of_queries(compiled):
    module, query, value = Pair(), torch.randn(1, 24, 32), torch.randn(1, 48, 32)
    fused = fuse(exported(module, query=query, value=value))
    assert own_nodes(fused) == ["DeformableAttention1"] * 2
    with torch.no_grad():
        expected = module(query, value).numpy()
    out = run(fused, compiled, query=query.numpy(), value=value.numpy())
    np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("align_corners", 1), ("padding_mode", "border"), ("mode", "nearest")]
)
def test_another_way_of_sampling_is_refused(name, value):
    module = Attention(*CASES[0])
    graph = exported(module, query=torch.randn(1, 252, 64), value=torch.randn(1, 48, 64))
    for node in graph.graph.node:
        if node.op_type == "GridSample":
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])
    with pytest.raises(ValueError, match="computes something else"):
        fuse(graph)


def test_another_sum_is_left_alone():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 1])
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"], "mul"),
        helper.make_node("ReduceSum", ["squares", "axes"], ["y"], "sum", keepdims=1),
    ]
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(nodes, "norm", [x], [y], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert [n.op_type for n in fuse(model).graph.node] == ["Mul", "ReduceSum"]


def inputs(value=(12, 16), offsets=(5, 16), logits=(5, 8), reference=(5, 2), shapes=((3, 4),)):
    generator = np.random.default_rng(0)
    made = {
        "value": value, "offsets": offsets, "logits": logits, "reference": reference,
    }  # fmt: skip
    feed = {name: generator.normal(0, 0.3, side).astype(np.float32) for name, side in made.items()}
    return feed | {"shapes": np.array(shapes, np.int64)}


def run_lone(feed):
    return run(lone_node("DeformableAttention1", feed, heads=2), True, **feed)


@needs_library
def test_a_fitting_node_gives_numbers():
    assert np.isfinite(run_lone(inputs())).all()


@needs_library
@pytest.mark.parametrize(
    "wrong",
    [{"shapes": ((3, 5),)}, {"shapes": ((0, 4),)}, {"shapes": ((-3, -4),)}, {"offsets": (5, 8)},
     {"reference": (4, 2)}, {"logits": (5, 7)}, {"value": (12, 17)}, {"value": (12, 16, 0)},
     {"logits": (5, 8, 0)}, {"offsets": (5, 8, 2)}],
    ids=str,
)  # fmt: skip
def test_a_node_whose_inputs_do_not_fit_gives_nan(wrong):
    assert np.isnan(run_lone(inputs(**wrong))).all()


@needs_library
@pytest.mark.parametrize(
    ("name", "bad"),
    [("offsets", np.nan), ("offsets", np.inf), ("logits", np.nan), ("logits", np.inf),
     ("value", np.nan), ("value", -np.inf), ("reference", np.nan)],
)  # fmt: skip
def test_a_non_finite_input_does_not_become_a_number(name, bad):
    feed = inputs()
    feed[name][2] = bad  # of one query, or one cell
    out = run_lone(feed)
    assert not np.isfinite(out[2]).all() if name != "value" else not np.isfinite(out).all()
