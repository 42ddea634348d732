"""What the rules ask of a graph: shapes, constants, who reads what; and how they leave it tidy."""

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that is known, initializers included."""
    known = {i.name: tuple(i.dims) for i in model.graph.initializer}
    for info in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        known[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    return known


def constants(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Initializers by name."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def sort_nodes(model: ModelProto) -> None:
    """Put every node behind those that make its inputs; converters append theirs."""
    made = {tensor.name for tensor in (*model.graph.initializer, *model.graph.input)} | {""}
    waiting: dict[str, list[NodeProto]] = {}
    ordered: list[NodeProto] = []
    ready = list(model.graph.node)[::-1]
    while ready:
        node = ready.pop()
        missing = next((name for name in node.input if name not in made), None)
        if missing is not None:
            waiting.setdefault(missing, []).append(node)
            continue
        ordered.append(node)
        made.update(node.output)
        ready += [n for name in node.output for n in reversed(waiting.pop(name, []))]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def drop_unused(model: ModelProto) -> None:
    """Drop initializers that no node reads."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def drop_unread(model: ModelProto) -> None:
    """Drop casts whose results nobody reads, until there is none."""
    while True:
        readers = readers_of(model)
        kept = [n for n in model.graph.node if n.op_type != "Cast" or n.output[0] in readers]
        if len(kept) == len(model.graph.node):
            return
        del model.graph.node[:]
        model.graph.node.extend(kept)


def readers_of(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor; an empty one stands for an output of the graph."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    for output in model.graph.output:
        found.setdefault(output.name, []).append(NodeProto())
    return found
