"""A graph as the rules of `lint` read it: constants, element types, who makes each tensor."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from calibration.graph import constants

NUMBERS = {
    "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Cast",
         "Identity")  # fmt: skip


class Graph:
    """A model with what the rules ask for: constants, element types, who makes each tensor."""

    def __init__(self, model: ModelProto) -> None:
        try:
            self.model = onnx.shape_inference.infer_shapes(model)
        except onnx.shape_inference.InferenceError:  # of an operator that is not ONNX's
            self.model = ModelProto()
            self.model.CopyFrom(model)
        self.nodes = list(self.model.graph.node)
        for node in self.nodes:
            node.name = node.name or f"the {node.op_type} that makes {node.output[0]}"
        self.values: dict[str, NDArray[np.generic]] = constants(self.model)
        for node in (n for n in self.nodes if n.op_type == "Constant"):
            given = node.attribute[0]
            if given.name == "value":
                self.values[node.output[0]] = numpy_helper.to_array(given.t)
            elif given.name in NUMBERS:
                number = helper.get_attribute_value(given)
                self.values[node.output[0]] = np.asarray(number, NUMBERS[given.name])
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.types = {i.name: i.data_type for i in self.model.graph.initializer}
        graph = self.model.graph
        for info in (*graph.value_info, *graph.input, *graph.output):
            self.types[info.name] = info.type.tensor_type.elem_type
        self.opset = max((o.version for o in self.model.opset_import if not o.domain), default=0)

    def made_by(self, name: str, *types: str) -> NodeProto | None:
        """The node behind a tensor if it is of one of these types."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type in types else None

    def before_moves(self, name: str) -> str:
        """The tensor whose numbers these are, in another place or type."""
        while (node := self.made_by(name, *MOVES)) is not None:
            name = node.input[0]
        return name

    def integers(self, dequantize: NodeProto) -> NDArray[np.generic] | None:
        """The constant that a DequantizeLinear reads, itself or through a QuantizeLinear."""
        quantize = self.made_by(dequantize.input[0], "QuantizeLinear")
        return self.values.get((quantize or dequantize).input[0])
