"""FP16: a graph in, a strongly typed one out, with LayerNormalization in FP32."""

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, version_converter

from calibration.graph import sort_nodes
from cropseg_edge.errors import ConfigError

FP32_TYPES = ("LayerNormalization", "GridSample")
LARGEST = 6e4  # float16 ends at 65504
OPSET = 19  # the first in which QuantizeLinear takes float16 scales


def to_fp16(model: ModelProto) -> ModelProto:
    """The same network in FP16, every cast written out; inputs and outputs stay float32.

    LayerNormalization keeps float32: TensorRT 10.3 sums it in the input's type and overflows
    (TensorRT issue 4723). Q/DQ nodes take float16 scales, for which the opset becomes 19.

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
    result: ModelProto = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    sort_nodes(result)
    del result.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result)
