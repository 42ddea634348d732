"""A 3x3 convolution of each channel by itself as one node, `cropseg::DepthwiseConvolution`."""

import numpy as np
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper, numpy_helper

from calibration.fuse.body import DOMAIN, function
from calibration.graph import constants, shapes
from calibration.layers import attribute

NAME = "DepthwiseConvolution"
INPUTS = ("image", "weight", "bias")
BLOCK = 16  # channels that ONNX Runtime convolves side by side
FIXED = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
DEFAULT = {"strides": [1, 1], "dilations": [1, 1]}


def fuse_depthwise_convolutions(model: ModelProto) -> None:
    """Fuse depthwise convolutions whose channels do not come in blocks of 16."""
    values, known, found = constants(model), shapes(model), False
    for at, node in enumerate(model.graph.node):
        weight = values.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or not _fits(node, weight.shape) or known[node.input[0]][0] != 1:
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias not in ("", *values):
            continue
        if not bias:
            bias = f"{node.output[0]}/bias"
            zeros = np.zeros(len(weight), np.float32)
            model.graph.initializer.append(numpy_helper.from_array(zeros, bias))
        new = helper.make_node(
            NAME,
            [*node.input[:2], bias],
            node.output,
            node.name,
            domain=DOMAIN,
            group=len(weight),
        )
        model.graph.node[at].CopyFrom(new)
        found = True
    if found:
        model.functions.append(_function())


def _fits(node: NodeProto, shape: tuple[int, ...]) -> bool:
    return (
        len(shape) == 4
        and shape[1:] == (1, 3, 3)
        and shape[0] % BLOCK != 0
        and attribute(node, "group", 1) == shape[0]
        and all(attribute(node, key, None) == value for key, value in FIXED.items())
        and all(attribute(node, key, value) == value for key, value in DEFAULT.items())
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    )


def _function() -> FunctionProto:
    conv = helper.make_node("Conv", INPUTS, ["convolved"], **FIXED)
    group = AttributeProto(name="group", ref_attr_name="group", type=AttributeProto.INT)
    conv.attribute.append(group)
    return function(NAME, INPUTS, "convolved", [conv], ["group"])
