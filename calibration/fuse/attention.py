"""softmax(Q K^T / sqrt(depth)) V as one node, `cropseg::Attention`, whole or in windows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper

from calibration.fuse.body import DOMAIN, computed, copied, function
from calibration.graph import constants, readers_of, shapes

NAME = "Attention"
MULTIPLE, MOST_DEPTH = 4, 128  # what the compiled operator takes


def fuse_attention(model: ModelProto) -> None:
    """Fuse self-attentions that have neither a bias nor rotations.

    A node takes [windows, tokens, 3, heads, depth], queries, keys and values, and gives [windows,
    tokens, heads, depth]. What a group of nodes computes is tried on random numbers.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    readers, known, values = readers_of(model), shapes(model), constants(model)
    found = False
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        group = _group(softmax, made, readers, values)
        if group is None:
            continue
        inner, qkv, out = group
        if not _attends([node for node in graph.node if node in inner], qkv, out, known, values):
            continue
        for node in inner:
            graph.node.remove(node)
        graph.node.append(helper.make_node(NAME, [qkv], [out], f"{NAME}/{out}", domain=DOMAIN))
        found = True
    if found:
        model.functions.append(_function())


def _group(
    softmax: NodeProto,
    made: Mapping[str, NodeProto],
    readers: Mapping[str, list[NodeProto]],
    values: Mapping[str, NDArray[np.generic]],
) -> tuple[list[NodeProto], str, str] | None:
    """The nodes of the attention around a softmax, what they read and what they give."""
    product, after = made.get(softmax.input[0]), readers[softmax.output[0]]
    if product is None or product.op_type != "MatMul" or after[0].op_type != "MatMul":
        return None
    end = readers[after[0].output[0]][0]
    if end.op_type != "Transpose":
        return None
    inner = [product, softmax, after[0], end]
    split = None
    for at, tensor in enumerate((*product.input, after[0].input[1])):
        while (node := made.get(tensor)) is not None and node.op_type != "Split":
            computed = [name for name in node.input if name not in values]
            if node.op_type not in ("Transpose", "Squeeze", "Mul") or len(computed) != 1:
                return None
            inner.append(node)
            tensor = computed[0]
        if node is None or list(node.output).index(tensor) != at or split not in (None, node):
            return None
        split = node
    assert split is not None  # there were three tensors
    inner.append(split)
    own = {name for node in inner for name in node.output} - set(end.output)
    if any(reader not in inner for name in own for reader in readers.get(name, [])):
        return None
    return inner, split.input[0], end.output[0]


def _attends(
    nodes: Sequence[NodeProto],
    qkv: str,
    out: str,
    known: Mapping[str, tuple[int, ...]],
    values: Mapping[str, NDArray[np.generic]],
) -> bool:
    """Whether the nodes compute what the operator does, on random numbers."""
    shape = known.get(qkv, ())
    if (
        len(shape) != 5
        or 0 in shape
        or shape[2] != 3
        or shape[4] % MULTIPLE
        or shape[4] > MOST_DEPTH
    ):
        return False
    numbers = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    nodes = copied(nodes, {qkv: "qkv", out: "attended"}, values)
    group = function(NAME, ["qkv"], "attended", nodes)
    got, expected = (computed(body, {"qkv": numbers}) for body in (group, _function()))
    return got.shape == expected.shape and bool(np.allclose(got, expected, atol=1e-5))


def _function() -> FunctionProto:
    def node(kind: str, inputs: str, outputs: str, **attributes: object) -> NodeProto:
        return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)

    body = [
        node("Transpose", "qkv", "moved", perm=[2, 0, 3, 1, 4]),
        node("Split", "moved", "one two three", num_outputs=3),
        node("Constant", "", "first", value_ints=[0]),
        node("Squeeze", "one first", "query"),
        node("Squeeze", "two first", "key"),
        node("Squeeze", "three first", "value"),
        node("Shape", "query", "depth", start=-1),
        node("Cast", "depth", "number", to=TensorProto.FLOAT),
        node("Sqrt", "number", "root"),
        node("Reciprocal", "root", "scale"),
        node("Mul", "query scale", "scaled"),
        node("Transpose", "key", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "scaled turned", "scores"),
        node("Softmax", "scores", "weights", axis=-1),
        node("MatMul", "weights value", "heads"),
        node("Transpose", "heads", "attended", perm=[0, 2, 1, 3]),
    ]
    return function(NAME, ["qkv"], "attended", body)
