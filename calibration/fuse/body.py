"""What the rules share: the domain, bodies copied from a graph, and what a body computes."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "cropseg"
OPSET = 18


def function(
    name: str,
    inputs: Sequence[str],
    output: str,
    nodes: Sequence[NodeProto],
    attributes: Sequence[str] = (),
) -> FunctionProto:
    """An ONNX function of one output."""
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, name, inputs, [output], nodes, opsets, attributes)


def copied(
    nodes: Sequence[NodeProto],
    names: Mapping[str, str],
    values: Mapping[str, NDArray[np.generic]],
) -> list[NodeProto]:
    """The nodes of a graph as a function's: constants inside, tensors named anew beside `names`."""
    names = dict(names)
    body = []
    for node in nodes:
        for tensor in node.input:
            if tensor in values and tensor not in names:
                names[tensor] = f"constant{len(names)}"
                constant = numpy_helper.from_array(values[tensor], names[tensor])
                body.append(helper.make_node("Constant", [], [names[tensor]], value=constant))
        for tensor in node.output:
            names.setdefault(tensor, f"tensor{len(names)}")
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.doc_string = names[node.output[0]], ""
        copy.input[:] = [names[tensor] for tensor in node.input]
        copy.output[:] = [names[tensor] for tensor in node.output]
        body.append(copy)
    return body


def computed(
    body: FunctionProto, feed: Mapping[str, NDArray[np.generic]], **attributes: int
) -> NDArray[np.generic]:
    """What a function's standard operators give for these inputs."""
    node = helper.make_node(body.name, list(feed), body.output, domain=DOMAIN, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in feed.items()
    ]
    outputs = [helper.make_tensor_value_info(body.output[0], TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(
        helper.make_graph([node], "body", inputs, outputs),
        opset_imports=opsets,
        functions=[body],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(feed))[0])
