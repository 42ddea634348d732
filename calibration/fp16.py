"""FP16: a graph in, a strongly typed one out, with LayerNormalization and indices in FP32."""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from calibration.graph import drop_unread, readers_of, sort_nodes
from calibration.layers import attribute
from calibration.lint import INTEGERS
from cropseg_edge.errors import ConfigError

FP32_TYPES = ("LayerNormalization", "GridSample")
LARGEST = 6e4  # float16 ends at 65504
OPSET = 19  # the first in which QuantizeLinear takes float16 scales
# Where the way back from an index ends: what comes before is no longer a position.
_SUMS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Softmax", "LayerNormalization")
_MOVES = ("Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Gather",
          "GatherElements", "Concat")  # fmt: skip


def to_fp16(model: ModelProto) -> ModelProto:
    """The same network in FP16, every cast written out; inputs and outputs stay float32.

    LayerNormalization keeps float32: TensorRT 10.3 sums it in the input's type and overflows
    (TensorRT issue 4723). So do positions that become indices, and what reads them: float16 has
    every integer to 2048 only, and 1/16 at 100 pixels. Q/DQ nodes take float16 scales, for which
    the opset becomes 19.

    Raises:
        ConfigError: a weight does not fit into float16.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
            if not largest < LARGEST:
                raise ConfigError(f"weight {tensor.name} reaches {largest:g}; FP16 ends at 65504")
    newest = max(opset.version for opset in model.opset_import if opset.domain == "")
    if newest < OPSET:
        model = version_converter.convert_version(model, OPSET)
    blocked = [*(set(DEFAULT_OP_BLOCK_LIST) - {"Min", "Max"}), *FP32_TYPES]
    result: ModelProto = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=blocked, node_block_list=_positions(model)
    )
    _join_casts(result)
    sort_nodes(result)
    del result.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result)


def is_fp16(model: ModelProto) -> bool:
    """Whether a graph computes in FP16."""
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)


def rounded(model: ModelProto) -> ModelProto:
    """A graph of `to_fp16` in FP32, every FP16 tensor rounded to FP16 by a pair of casts.

    ONNX Runtime's CPU computes FP16 nodes in FP32 and drops the casts between them, so that it
    never rounds; this graph does what a GPU does, but for the order of sums.
    """
    result = ModelProto()
    result.CopyFrom(model)
    half = {
        info.name
        for info in (*model.graph.value_info, *model.graph.output)
        if info.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        nodes.append(node)
        for given in node.attribute:
            if node.op_type == "Cast" and given.name == "to" and given.i == TensorProto.FLOAT16:
                given.i = TensorProto.FLOAT
            elif given.type == given.TENSOR and given.t.data_type == TensorProto.FLOAT16:
                value = numpy_helper.to_array(given.t).astype(np.float32)
                given.t.CopyFrom(numpy_helper.from_array(value))
        for number, name in enumerate(node.output):
            if name in half and node.op_type not in _MOVES:
                node.output[number] = f"{name}/exact"
                nodes += [
                    helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=10),
                    helper.make_node("Cast", [f"{name}/half"], [name], to=1),
                ]
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    return result


def _positions(model: ModelProto) -> list[str]:
    """The nodes that compute what becomes an index, and those that read their numbers."""
    made = {name: node for node in model.graph.node for name in node.output}
    waiting = [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and attribute(node, "to", 0) in INTEGERS
    ]
    found: dict[str, NodeProto] = {}
    while waiting:
        node = made.get(waiting.pop())
        if node is not None and node.op_type not in _SUMS and node.name not in found:
            found[node.name] = node
            waiting += node.input
    readers = readers_of(model)
    reading = (r.name for n in found.values() for name in n.output for r in readers.get(name, ()))
    return [name for name in dict.fromkeys([*found, *reading]) if name]


def _join_casts(model: ModelProto) -> None:
    """Take out the casts to FP16 and back that the converter writes between two nodes in FP32."""
    made = {name: node for node in model.graph.node for name in node.output}
    exact = {}
    for node in model.graph.node:
        before = made.get(node.input[0]) if node.op_type == "Cast" else None
        if before is not None and before.op_type == "Cast":
            kinds = attribute(before, "to", 0), attribute(node, "to", 0)
            if kinds == (TensorProto.FLOAT16, TensorProto.FLOAT):
                exact[node.output[0]] = before.input[0]
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = exact.get(name, name)
    drop_unread(model)
