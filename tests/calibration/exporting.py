"""A PyTorch module as a simplified graph, and sessions with and without the compiled operators."""

import io
import warnings

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from calibration.simplify import simplify
from cropseg_edge.engines.onnxruntime import add_operators
from cropseg_edge.fade.compiled import library

needs_library = pytest.mark.skipif(library() is None, reason="the compiled library is not built")
BOTH = [False, pytest.param(True, marks=needs_library)]


def exported(module, **inputs):
    """The graph of a module; its inputs by name, its output is `out`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), buffer, input_names=list(inputs),
            output_names=["out"], opset_version=18, dynamo=False,
        )  # fmt: skip
    return simplify(buffer.getvalue())


def session(model, compiled):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    assert not compiled or add_operators(options)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model, compiled, **feed):
    return session(model, compiled).run(None, feed)[0]


def own_nodes(model):
    return [node.op_type for node in model.graph.node if node.domain]


def lone_node(kind, feed, **attributes):
    """A graph of one node without a body that takes `feed`."""
    node = helper.make_node(kind, list(feed), ["out"], domain="cropseg", **attributes)
    graph = helper.make_graph(
        [node],
        "lone",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feed.items()
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("cropseg", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
