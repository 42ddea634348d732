"""A PyTorch module as a simplified graph, and sessions with and without the compiled operators."""

import io
import warnings

import onnxruntime
import pytest
import torch

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
