"""Deformable attention as one node: `cropseg::DeformableAttentionL` for L levels."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto, NodeProto, helper, numpy_helper

from calibration.fuse.body import DOMAIN, computed, copied, function
from calibration.graph import constants, readers_of, shapes

INPUTS = ("value", "offsets", "logits", "reference", "shapes")
OUTPUT = "attended"
SOURCES = ("Gemm", "DequantizeLinear")  # what makes values, offsets and logits


def fuse_deformable_attention(model: ModelProto) -> None:
    """Fuse attentions that sample by GridSample.

    A node takes what three linear layers made, each [tokens, channels], and gives [queries,
    channels] to the output's layer. What a group of nodes computes is tried on random numbers.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    readers, known, values = readers_of(model), shapes(model), constants(model)
    bodies: dict[str, FunctionProto] = {}
    tables: dict[str, NDArray[np.generic]] = {}
    for total in [node for node in graph.node if _sums_samples(node, made)]:
        after = [total]
        for _ in ("Reshape", "Transpose", "Reshape"):
            after += readers[after[-1].output[0]]
        inner, out = _up_to_sources(after, made), after[-1].output[0]
        own = {name for node in inner for name in node.output} - {out}
        if any(reader not in inner for name in own for reader in readers.get(name, [])):
            continue
        samples = [node for node in inner if node.op_type == "GridSample"]
        softmax = next(node for node in inner if node.op_type == "Softmax")
        moved = next(node for node in inner if node.op_type == "Add")
        points = next(name for name in moved.input if name in values)
        grid = values[points]  # [1, Q, heads, P, 2]
        levels = np.array([known[node.input[0]][2:] for node in samples], np.int64)
        name, heads = f"DeformableAttention{len(levels)}", known[softmax.input[0]][2]
        sources = [
            _source(tensor, made, values)
            for tensor in (samples[0].input[0], samples[0].input[1], softmax.input[0])
        ]
        held = [np.ascontiguousarray(grid[0, :, 0, 0]), levels]
        inputs = [
            *sources,
            *(_table(tables, f"{name}/{key}", a) for key, a in zip(INPUTS[3:], held, strict=True)),
        ]
        ends = {**dict(zip(inputs, INPUTS, strict=True)), out: OUTPUT}
        body = _function(name, inner, ends, values, points)
        if bodies.setdefault(name, body) != body:
            raise ValueError(f"{total.name} has another body than the first {name}")
        if not _attends(body, [known[source] for source in sources], held, heads):
            raise ValueError(f"{total.name} computes something else than {name}")
        for node in inner:
            graph.node.remove(node)
        label = total.name.rpartition("/")[0]
        graph.node.append(
            helper.make_node(name, inputs, [out], name=label, domain=DOMAIN, heads=heads)
        )
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in tables.items())
    model.functions.extend(bodies.values())


def _table(tables: dict[str, NDArray[np.generic]], name: str, array: NDArray[np.generic]) -> str:
    """The name of a constant of this content; a new one is added."""
    while name in tables and not np.array_equal(tables[name], array):
        name += "_"
    tables[name] = array
    return name


def _sums_samples(node: NodeProto, made: Mapping[str, NodeProto]) -> bool:
    """Whether it is the sum over samples times weights that ends a deformable attention."""
    for kind in ("ReduceSum", "Mul", "Concat"):
        if node.op_type != kind or node.input[0] not in made:
            return False
        node = made[node.input[0]]
    return node.op_type == "GridSample"


def _up_to_sources(nodes: list[NodeProto], made: Mapping[str, NodeProto]) -> list[NodeProto]:
    """`nodes` and all before them down to, without, the linear layers; inputs' makers first."""
    found: dict[str, NodeProto] = {}

    def visit(node: NodeProto) -> None:
        for name in node.input:
            before = made.get(name)
            if before is not None and before.op_type not in SOURCES and name not in found:
                visit(before)
        found.update(dict.fromkeys(node.output, node))

    for node in nodes:
        visit(node)
    return list({id(node): node for node in found.values()}.values())  # Split has several outputs


def _source(
    tensor: str, made: Mapping[str, NodeProto], values: Mapping[str, NDArray[np.generic]]
) -> str:
    """The linear layer's output that `tensor` is made of, beside constants."""
    while made[tensor].op_type not in SOURCES:
        tensor = next(name for name in made[tensor].input if name not in values)
    return tensor


def _function(
    name: str,
    nodes: list[NodeProto],
    ends: Mapping[str, str],
    values: Mapping[str, NDArray[np.generic]],
    points: str,
) -> FunctionProto:
    """The nodes as a function; `ends` names what goes in and comes out.

    The grid of `points`, as large as the weights of a layer, is not among the constants: it is the
    reference, one for each query.
    """
    side = numpy_helper.from_array(np.array([1, -1, 1, 1, 2]), "grid")
    start = [
        helper.make_node("Constant", [], ["grid"], value=side),
        helper.make_node("Reshape", ["reference", "grid"], ["points"]),
    ]
    body = copied(nodes, {**ends, points: "points"}, values)
    return function(name, INPUTS, OUTPUT, [*start, *body], ["heads"])


def _attends(
    body: FunctionProto,
    sides: Sequence[tuple[int, ...]],
    held: Sequence[NDArray[np.generic]],
    heads: int,
) -> bool:
    """Whether the function computes what the operator does, on random numbers."""
    if any(len(side) != 2 or 0 in side for side in sides):
        return False
    rng = np.random.default_rng(0)
    sources = [rng.normal(0, 0.5, side).astype(np.float32) for side in sides]
    feed = dict(zip(INPUTS, (*sources, *held), strict=True))
    got = computed(body, feed, heads=heads)
    expected = _reference(*sources, *held, heads)
    return got.shape == expected.shape and bool(np.allclose(got, expected, atol=1e-4))


def _reference(
    value: NDArray[np.float32],
    offsets: NDArray[np.float32],
    logits: NDArray[np.float32],
    reference: NDArray[np.float32],
    levels: NDArray[np.int64],
    heads: int,
) -> NDArray[np.float32]:
    """Zhu et al., "Deformable DETR", ICLR 2021, equation 3: value [S, channels], offsets and logits
    [Q, heads, levels, points (, 2)] flat, reference [Q, 2] to [Q, channels]."""
    queries, count = len(logits), len(levels)
    weights = logits.reshape(queries, heads, -1)
    weights = np.exp(weights - weights.max(-1, keepdims=True))
    weights = (weights / weights.sum(-1, keepdims=True)).reshape(queries, heads, count, -1, 1)
    places = reference[:, None, None, None] + offsets.reshape(queries, heads, count, -1, 2)
    result, first = np.zeros((queries, heads, value.shape[1] // heads), np.float32), 0
    for level, (height, width) in enumerate(levels):
        cells = value[first : first + height * width].reshape(height, width, heads, -1)
        first += height * width
        at = ((places[:, :, level] + 1) * [width, height] - 1) / 2  # [Q, heads, points, 2]
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            cell = np.floor(at).astype(int) + np.array([dx, dy])
            share = (1 - np.abs(at - cell)).prod(-1)
            share *= ((cell >= 0) & (cell < [width, height])).all(-1)
            x, y = np.moveaxis(cell.clip(0, [width - 1, height - 1]), -1, 0)
            read = cells[y, x, np.arange(heads)[:, None]]  # [Q, heads, points, depth]
            result += (weights[:, :, level] * share[..., None] * read).sum(2)
    return result.reshape(queries, -1)
