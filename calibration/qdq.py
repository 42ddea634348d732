"""Q/DQ: a graph and its activation ranges in, the INT8 graph of an engine out.

TensorRT takes symmetric INT8 on the inputs of a node and nothing else; ONNX Runtime's CPU kernels
want unsigned activations (a ReLU then costs nothing) and quantized outputs. One choice of layers,
two dialects.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.graph import constants, sort_nodes
from calibration.layers import candidates, weight_axis
from calibration.ranges import Range
from cropseg_edge.errors import ConfigError

PASSING = ("Relu", "MaxPool", "Resize", "Transpose", "Reshape")
SMALLEST_SCALE = 2.0**-21  # eight steps of float16's subnormals: scales survive the cast


def quantize_for_cpu(
    model: ModelProto, ranges: Mapping[str, Range], layers: Collection[str]
) -> ModelProto:
    """Q/DQ that ONNX Runtime fuses into QLinearConv and QGemm.

    Weights are symmetric int8 with a scale for each output channel, activations uint8 with a zero
    point; what between two convolutions only picks or mixes numbers runs on the integers. Nodes
    that stay in floating point read the picture itself, not its 8 bits.

    Args:
        model: as `simplify` gives it; left as it is.
        ranges: of `activation_ranges`.
        layers: names of the nodes to quantize.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    _check(model, layers)
    copy = _copy(model)
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    types = ["Conv", "Gemm", *PASSING]
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=_with_neighbours(copy, layers),
        nodes_to_exclude=[],
        op_types_to_quantize=types,
        extra_options={
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["Gemm"],
        },
    )
    quantizer.quantize_model()
    result: ModelProto = quantizer.model.model
    pictures = {tensor.name for tensor in model.graph.input}
    floating = {n.name: n.input for n in model.graph.node if n.name not in layers}
    for node in result.graph.node:
        if pictures & set(floating.get(node.name, ())):
            node.input[:] = floating[node.name]
    sort_nodes(result)
    return result


def quantize_for_tensorrt(
    model: ModelProto, ranges: Mapping[str, Range], layers: Collection[str]
) -> ModelProto:
    """Explicit symmetric Q/DQ on the activation and the weight of each layer; biases stay floating.

    A tensor that several layers read is quantized once. Zero points are 0; weights are int8
    initializers with a scale for each output channel; scales are float16 numbers, so that the graph
    may be cast. Arguments as in `quantize_for_cpu`.
    """
    _check(model, layers)
    result, chosen = _copy(model), set(layers)
    values = constants(result)
    quantized: dict[str, str] = {}
    nodes: list[NodeProto] = []
    tensors: list[TensorProto] = []
    for node in result.graph.node:
        if node.name in chosen:
            source, weight = node.input[0], node.input[1]
            if source not in quantized:
                quantized[source] = _activation(source, ranges, nodes, tensors)
            node.input[0] = quantized[source]
            node.input[1] = _weight(node, values[weight], nodes, tensors)
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(tensors)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in result.graph.initializer if tensor.name in read]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    return result


def symmetric_scale(limit: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """limit / 127 as a float16 number, never 0."""
    scale = np.maximum(np.asarray(limit, np.float32) / 127, SMALLEST_SCALE)
    return scale.astype(np.float16).astype(np.float32)


def _activation(
    source: str, ranges: Mapping[str, Range], nodes: list[NodeProto], tensors: list[TensorProto]
) -> str:
    if source not in ranges:
        raise ConfigError(f"no range of {source}; calibrate this graph, not another one")
    scale, zero = f"{source}/scale", f"{source}/zero_point"
    limit = max(abs(ranges[source][0]), abs(ranges[source][1]))
    tensors.append(numpy_helper.from_array(symmetric_scale(limit).reshape(()), scale))
    tensors.append(numpy_helper.from_array(np.zeros((), np.int8), zero))
    integers, result = f"{source}/int8", f"{source}/dequantized"
    quantize = helper.make_node(
        "QuantizeLinear", [source, scale, zero], [integers], f"{source}/QuantizeLinear"
    )
    dequantize = helper.make_node(
        "DequantizeLinear", [integers, scale, zero], [result], f"{source}/DequantizeLinear"
    )
    nodes += [quantize, dequantize]
    return result


def _weight(
    node: NodeProto,
    weight: NDArray[np.generic],
    nodes: list[NodeProto],
    tensors: list[TensorProto],
) -> str:
    axis, base = weight_axis(node), f"{node.name}/weight"
    array = np.asarray(weight, np.float32)
    others = tuple(i for i in range(array.ndim) if i != axis)
    scale = symmetric_scale(np.abs(array).max(axis=others))
    shaped = scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    integers = np.clip(np.rint(array / shaped), -127, 127).astype(np.int8)
    parts = {"int8": integers, "scale": scale, "zero_point": np.zeros(scale.shape, np.int8)}
    names = [f"{base}/{key}" for key in parts]
    tensors += [
        numpy_helper.from_array(part, name)
        for name, part in zip(names, parts.values(), strict=True)
    ]
    nodes.append(
        helper.make_node(
            "DequantizeLinear",
            names,
            [f"{base}/dequantized"],
            f"{base}/DequantizeLinear",
            axis=axis,
        )
    )
    return f"{base}/dequantized"


def _with_neighbours(model: ModelProto, layers: Collection[str]) -> list[str]:
    """The layers, with what follows them and is done on integers as well."""
    chosen, made = list(layers), set()
    wanted = set(layers)
    for node in model.graph.node:
        if node.name in wanted:
            made.update(node.output)
        elif node.op_type in PASSING and node.input[0] in made:
            chosen.append(node.name)
            made.update(node.output)
    return chosen


def _check(model: ModelProto, layers: Collection[str]) -> None:
    if not layers:  # ONNX Runtime would take that for all of them
        raise ConfigError("no layer to quantize")
    if unknown := set(layers) - set(candidates(model)):
        raise ConfigError(
            f"cannot quantize {sorted(unknown)[:3]}: not a convolution or Gemm of this graph that "
            "the rule allows"
        )


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy
