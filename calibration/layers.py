"""Which nodes of a graph are quantized: the rule, before any measurement has its say.

Convolutions and Gemms with constant weights are. In floating point stay: what has no constant
weights (the attention's products, Softmax, LayerNormalization, residual adds, FADE's reassembly),
the patch embedding, the convolutions that write the network's outputs (classifier, FADE's gate) and
depthwise ones (FADE's kernels). Quantized are the stem's first one, whose picture has 8 bits,
and the one that writes FADE's guide: it is the largest map, and in floating point costs a tenth.
Sources: NVIDIA's Q/DQ placement guide; modelopt's exclusion of first and last layers.
"""

from onnx import ModelProto, NodeProto, helper

QUANTIZED_TYPES = ("Conv", "Gemm")


def candidates(model: ModelProto) -> list[str]:
    """Names of the nodes that the rule quantizes, in the order of the graph."""
    kept = set(kept_by_rule(model))
    return [node.name for node in weighted(model) if node.name not in kept]


def kept_by_rule(model: ModelProto) -> list[str]:
    """Names of the weighted nodes that stay in floating point."""
    pictures = {tensor.name for tensor in model.graph.input}
    for node in model.graph.node:
        if node.op_type == "AveragePool" and node.input[0] in pictures:
            pictures.update(node.output)
    outputs = {tensor.name for tensor in model.graph.output} - {"guide"}
    return [
        node.name
        for node in weighted(model)
        if (node.input[0] in pictures and _is_patchwise(node))
        or outputs & set(node.output)
        or _is_depthwise(node)
    ]


def weighted(model: ModelProto) -> list[NodeProto]:
    """Convolutions and matrix products whose weights are constants."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in QUANTIZED_TYPES and node.input[1] in weights
    ]


def weight_axis(node: NodeProto) -> int:
    """The axis of a weight that runs over the output channels.

    Conv [out, in, h, w]: 0. Gemm [in, out]: 1, with transB [out, in]: 0. MatMul [in, out]: 1.
    """
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return 0 if transposed else 1


def attribute(node: NodeProto, name: str, default: object) -> object:
    """The value of a node's attribute, or the default."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _is_patchwise(node: NodeProto) -> bool:
    """Whether it cuts the picture into patches: a patch embedding."""
    return attribute(node, "kernel_shape", None) == attribute(node, "strides", [])


def _is_depthwise(node: NodeProto) -> bool:
    return node.op_type == "Conv" and attribute(node, "group", 1) != 1
