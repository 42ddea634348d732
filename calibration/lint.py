"""What TensorRT 10.3 to 11 refuses, miscompiles or runs badly: named checks on an ONNX graph.

Each rule gives findings with node names, before an engine is built on a robot. The facts behind
them were measured with NVIDIA's parser or read in its documentation and issues.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from calibration.layers import attribute, weight_axis
from calibration.lint_graph import Graph

OPSETS = (17, 19)  # read by the parser of TensorRT 10.3, and enough for float16 scales
FP16_SCALES = 19
SAME_TYPE = (
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "MatMul", "Gemm", "Concat", "Where",
    "Conv", "ConvTranspose", "LayerNormalization",
)  # fmt: skip
WEIGHTED = ("Conv", "Gemm", "MatMul")
INTEGERS = (TensorProto.INT32, TensorProto.INT64)
SOFTMAX_TRAP = 1 / 127


class Finding(NamedTuple):
    """One violation: the rule's name, the node (or tensor) and what to do about it."""

    rule: str
    node: str
    message: str


Rule = Callable[[Graph], Iterator[tuple[str, str]]]


def lint(model: ModelProto) -> list[Finding]:
    """Run every rule on a graph for TensorRT. An empty list means that none is broken."""
    graph = Graph(model)
    return [
        Finding(name, node, message)
        for name, rule in RULES.items()
        for node, message in rule(graph)
    ]


def opset(graph: Graph) -> Iterator[tuple[str, str]]:
    """Opset 17 to 19."""
    if not OPSETS[0] <= graph.opset <= OPSETS[1]:
        yield "graph", f"opset {graph.opset}; TensorRT 10.3 needs {OPSETS[0]} to {OPSETS[1]}"


def standard_operators(graph: Graph) -> Iterator[tuple[str, str]]:
    """Nothing that asks for a plugin."""
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield (
                node.name,
                f"{node.domain}:{node.op_type} needs a plugin; use standard operators",
            )


def static_shapes(graph: Graph) -> Iterator[tuple[str, str]]:
    """Inputs and outputs have fixed sizes."""
    for tensor in (*graph.model.graph.input, *graph.model.graph.output):
        sizes = [d.dim_value for d in tensor.type.tensor_type.shape.dim]
        if not sizes or 0 in sizes:
            yield tensor.name, "has no fixed shape; export with static shapes"


def zero_point(graph: Graph) -> Iterator[tuple[str, str]]:
    """Every zero point is 0."""
    for node in _qdq(graph):
        zero = graph.values.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and np.any(zero):
            yield node.name, f"zero point {int(np.ravel(zero)[0])}; TensorRT takes 0 alone"


def quantized_type(graph: Graph) -> Iterator[tuple[str, str]]:
    """Integers are int8: uint8 is read as int8, int32 (a quantized bias) is refused."""
    for node in _qdq(graph):
        name = node.input[2] if len(node.input) > 2 else ""
        kind = graph.types.get(node.input[0] if node.op_type == "DequantizeLinear" else name)
        if kind is None and name in graph.values:
            kind = graph.types.get(name)
        if kind is None and node.op_type == "QuantizeLinear":
            kind = graph.types.get(node.output[0])
        if kind == TensorProto.INT32:
            yield node.name, "dequantizes int32: a quantized bias; leave biases in floating point"
        elif kind not in (None, TensorProto.INT8):
            yield node.name, f"quantizes to {TensorProto.DataType.Name(kind)}; use int8"


def scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """Scales are constant, positive and finite."""
    for node in _qdq(graph):
        scale = graph.values.get(node.input[1])
        if scale is None:
            yield node.name, f"scale {node.input[1]} is not a constant"
        elif not (np.isfinite(scale.astype(np.float32)).all() and (scale > 0).all()):
            yield node.name, "a scale is zero, negative or not finite; calibrate again"


def fp16_scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """float16 scales come with opset 19."""
    for node in _qdq(graph):
        if graph.types.get(node.input[1]) == TensorProto.FLOAT16 and graph.opset < FP16_SCALES:
            yield node.name, f"float16 scale at opset {graph.opset}; they need {FP16_SCALES}"


def channel_axis(graph: Graph) -> Iterator[tuple[str, str]]:
    """Per-channel weights on the output channels: Conv 0, Gemm transB 0, MatMul and Gemm 1.

    Another axis parses, builds and then does not run as an INT8 kernel.
    """
    for node in graph.nodes:
        weight = graph.made_by(node.input[1], "DequantizeLinear") if _weighted(node) else None
        scale = graph.values.get(weight.input[1]) if weight is not None else None
        if weight is None or scale is None or scale.size == 1:
            continue
        expected, found = weight_axis(node), attribute(weight, "axis", 1)
        value = graph.integers(weight)
        rank = value.ndim if value is not None else 0
        if found not in (expected, expected - rank):
            yield weight.name, f"axis {found} on the weight of {node.op_type}; use {expected}"


def both_inputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """A quantized weight without a quantized activation, or the reverse, is no INT8 layer; a
    product of two activations should be none."""
    for node in graph.nodes:
        if not _weighted(node):
            continue
        sides = [graph.made_by(name, "DequantizeLinear") for name in node.input[:2]]
        if all(sides) or not any(sides):
            continue
        if any(_is_weight(graph, name) for name in node.input[:2]):
            yield node.name, "only one of activation and weight is quantized; quantize both"
        else:
            yield node.name, "one of two activations is quantized; leave both in floating point"


def attention_products(graph: Graph) -> Iterator[tuple[str, str]]:
    """The attention's matrix products stay in floating point: INT8 breaks the fused kernel."""
    for node in graph.nodes:
        if node.op_type != "MatMul":
            continue
        sources = [graph.made_by(name, "DequantizeLinear") for name in node.input[:2]]
        if all(s is not None and graph.integers(s) is None for s in sources):
            yield node.name, "a product of two quantized activations; leave attention in FP16"


def softmax_scale(graph: Graph) -> Iterator[tuple[str, str]]:
    """Softmax is not quantized; a scale of 1/127 zeroes every probability under 0.004."""
    for node in _qdq(graph):
        source = graph.before_moves(node.input[0])
        if node.op_type != "QuantizeLinear" or not graph.made_by(source, "Softmax"):
            continue
        scale = float(np.ravel(graph.values.get(node.input[1], np.float32(np.nan)))[0])
        fixed = " with the fixed scale 1/127" if abs(scale - SOFTMAX_TRAP) < 1e-4 else ""
        yield node.name, f"quantizes a Softmax{fixed}; leave it in floating point"


def grid_sample(graph: Graph) -> Iterator[tuple[str, str]]:
    """GridSample is miscompiled from TensorRT 10.14 on."""
    for node in graph.nodes:
        if node.op_type == "GridSample":
            yield node.name, "miscompiled from TensorRT 10.14 on; export it as gathers"


def mixed_types(graph: Graph) -> Iterator[tuple[str, str]]:
    """No operator gets FP16 and FP32 at once: a strongly typed network refuses it."""
    floats = {TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16"}
    for node in graph.nodes:
        if node.op_type in SAME_TYPE:
            inputs = node.input[1:] if node.op_type == "Where" else node.input
            kinds = {floats[k] for name in inputs if (k := graph.types.get(name)) in floats}
            if len(kinds) > 1:
                yield node.name, "FP16 and FP32 meet in one operator; write the cast out"


def int64_outputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """An int64 output needs eight bytes a pixel and a binding that hosts get wrong."""
    for tensor in graph.model.graph.output:
        if tensor.type.tensor_type.elem_type == TensorProto.INT64:
            yield tensor.name, "an int64 output; cast it to uint8"


def layer_norm(graph: Graph) -> Iterator[tuple[str, str]]:
    """LayerNormalization is one node, and in FP32: a decomposed or FP16 one overflows on 10.3."""
    for node in graph.nodes:
        if node.op_type == "LayerNormalization":
            if graph.types.get(node.input[0]) == TensorProto.FLOAT16:
                yield node.name, "LayerNormalization in FP16 overflows on TensorRT 10.3; use FP32"
        elif node.op_type == "ReduceMean":
            power = graph.made_by(node.input[0], "Pow", "Mul")
            centred = graph.made_by(power.input[0], "Sub") if power is not None else None
            if centred is not None and graph.made_by(centred.input[1], "ReduceMean"):
                yield node.name, "a decomposed LayerNormalization; export opset 17 or newer"


def unsupported_operators(graph: Graph) -> Iterator[tuple[str, str]]:
    """No DeformConv, Attention or control flow, which the parsers lack or build badly."""
    for node in graph.nodes:
        if node.op_type in ("DeformConv", "Attention", "If", "Loop", "Scan", "Gelu"):
            yield node.name, f"{node.op_type} is not understood by every version; decompose it"


def fp16_index(graph: Graph) -> Iterator[tuple[str, str]]:
    """No index is computed in FP16, which has every integer to 2048 only."""
    for node in graph.nodes:
        if node.op_type != "Cast" or attribute(node, "to", 0) not in INTEGERS:
            continue
        if graph.types.get(node.input[0]) == TensorProto.FLOAT16:
            yield (
                node.name,
                "an index in FP16, which has every integer to 2048 only; use FP32",
            )


RULES: dict[str, Rule] = {
    "opset": opset,
    "standard-operators": standard_operators,
    "unsupported-operators": unsupported_operators,
    "static-shapes": static_shapes,
    "zero-point": zero_point,
    "quantized-type": quantized_type,
    "scales": scales,
    "fp16-scales": fp16_scales,
    "fp16-index": fp16_index,
    "channel-axis": channel_axis,
    "both-inputs": both_inputs,
    "attention-products": attention_products,
    "softmax-scale": softmax_scale,
    "grid-sample": grid_sample,
    "mixed-types": mixed_types,
    "int64-outputs": int64_outputs,
    "layer-norm": layer_norm,
}


def _qdq(graph: Graph) -> list[NodeProto]:
    return [n for n in graph.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")]


def _weighted(node: NodeProto) -> bool:
    return node.op_type in WEIGHTED and len(node.input) > 1


def _is_weight(graph: Graph, name: str) -> bool:
    """Whether a tensor is a constant, itself or quantized."""
    source = graph.before_moves(name)
    dequantize = graph.made_by(source, "DequantizeLinear")
    return source in graph.values if dequantize is None else graph.integers(dequantize) is not None
