"""Every rule of lint finds its fault, planted into a graph that has none, and names the node."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from calibration.fp16 import to_fp16
from calibration.layers import candidates
from calibration.lint import RULES, lint
from calibration.qdq import quantize_for_tensorrt
from calibration.ranges import activation_ranges
from calibration.simplify import simplify
from tests.calibration.conftest import small_graph

node = helper.make_node


@pytest.fixture(scope="module")
def clean(pictures) -> ModelProto:
    folded = simplify(small_graph())
    ranges = activation_ranges(folded, pictures, "minmax")
    return quantize_for_tensorrt(folded, ranges, candidates(folded))


def put(model: ModelProto, name: str, value: np.ndarray) -> None:
    """Add or replace an initializer."""
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value), name)])


def find(model: ModelProto, name: str):
    return next(n for n in model.graph.node if n.name == name)


def before(model: ModelProto, name: str, *new) -> None:
    """Insert nodes in front of the named one."""
    nodes = list(model.graph.node)
    at = next(i for i, n in enumerate(nodes) if n.name == name)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *new, *nodes[at:]])


def pair(model: ModelProto, source: str, kind: type = np.int8, scale: float = 0.02) -> tuple:
    put(model, f"{source}/s", np.float32(scale))
    put(model, f"{source}/z", kind(0))
    return (
        node("QuantizeLinear", [source, f"{source}/s", f"{source}/z"], [f"{source}/i"], "bad_q"),
        node("DequantizeLinear", [f"{source}/i", f"{source}/s", f"{source}/z"], [f"{source}/d"]),
    )


def newer_opset(model: ModelProto) -> str:
    model.opset_import[0].version = 23
    return "graph"


def plugin(model: ModelProto) -> str:
    find(model, "down_relu").domain = "farm"
    return "down_relu"


def deformable(model: ModelProto) -> str:
    find(model, "down_relu").op_type = "DeformConv"
    return "down_relu"


def free_batch(model: ModelProto) -> str:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return "image"


def shifted(model: ModelProto) -> str:
    put(model, "s/zero_point", np.int8(3))
    return "s/QuantizeLinear"


def unsigned(model: ModelProto) -> str:
    put(model, "s/zero_point", np.uint8(0))
    return "s/QuantizeLinear"


def quantized_bias(model: ModelProto) -> str:
    put(model, "bias32", np.arange(8, dtype=np.int32))
    put(model, "bias_scale", np.float32(0.1))
    before(model, "down", node("DequantizeLinear", ["bias32", "bias_scale"], ["bias"], "bias_dq"))
    find(model, "down").input[2] = "bias"
    return "bias_dq"


def zero_scale(model: ModelProto) -> str:
    put(model, "s/scale", np.float32(0))
    return "s/QuantizeLinear"


def early_fp16_scale(model: ModelProto) -> str:
    put(model, "s/scale", np.float16(0.1))
    return "s/QuantizeLinear"


def wrong_axis(model: ModelProto) -> str:
    find(model, "down/weight/DequantizeLinear").attribute[0].i = 1
    return "down/weight/DequantizeLinear"


def half_quantized(model: ModelProto) -> str:
    find(model, "down").input[0] = "s"
    return "down"


def quantized_attention(model: ModelProto) -> str:
    before(model, "scores", *pair(model, "qt"), *pair(model, "q"))
    find(model, "scores").input[:] = ["qt/d", "q/d"]
    return "scores"


def quantized_softmax(model: ModelProto) -> str:
    name = find(model, "softmax").output[0]
    reader = next(n for n in model.graph.node if name in n.input)
    before(model, reader.name, *pair(model, name, scale=1 / 127))
    return "bad_q"


def moved_softmax(model: ModelProto) -> str:
    move = node("Transpose", [find(model, "softmax").output[0]], ["moved"], "move", perm=[1, 0])
    before(model, "attend/MatMulAddFusion", move, *pair(model, "moved"))
    find(model, "attend/MatMulAddFusion").input[1] = "moved/d"
    return "bad_q"


def nameless(model: ModelProto) -> str:
    find(model, "down_relu").op_type = "Gelu"
    find(model, "down_relu").name = ""
    return "the Gelu that makes d1"


def sampled(model: ModelProto) -> str:
    find(model, "down_relu").op_type = "GridSample"
    return "down_relu"


def mixed(model: ModelProto) -> str:
    put(model, "half", np.ones(8, np.float16))
    before(model, "layer_norm", node("Add", ["x", "half"], ["mixed"], "mixed_add"))
    return "mixed_add"


def mixed_weights(model: ModelProto) -> str:
    put(model, "half", np.ones((2, 8, 1, 1), np.float16))
    before(model, "classifier", node("Conv", ["f", "half"], ["mixed"], "mixed_conv"))
    return "mixed_conv"


def mixed_bias(model: ModelProto) -> str:
    put(model, "single", np.ones((2, 8, 1, 1), np.float32))
    put(model, "half", np.ones(2, np.float16))
    before(model, "classifier", node("Conv", ["f", "single", "half"], ["mixed"], "mixed_conv"))
    return "mixed_conv"


def mixed_norm(model: ModelProto) -> str:
    put(model, "half", np.ones(8, np.float16))
    find(model, "layer_norm").input[1] = "half"
    return "layer_norm"


def wide_output(model: ModelProto) -> str:
    before(model, "classifier", node("ArgMax", ["f"], ["labels"], "argmax", axis=1))
    output = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 1, 12, 16])
    model.graph.output.append(output)
    return "labels"


def decomposed_norm(model: ModelProto) -> str:
    put(model, "two", np.float32(2))
    before(
        model,
        "layer_norm",
        node("ReduceMean", ["x"], ["m"], "mean"),
        node("Sub", ["x", "m"], ["c"], "centre"),
        node("Pow", ["c", "two"], ["c2"], "square"),
        node("ReduceMean", ["c2"], ["v"], "variance"),
    )
    return "variance"


def half_index(model: ModelProto) -> str:
    half = helper.make_attribute("to", TensorProto.FLOAT16)
    integer = helper.make_attribute("to", TensorProto.INT64)
    casts = (node("Cast", ["x"], ["hx"], "half"), node("Cast", ["hx"], ["index"], "index"))
    for cast, attribute in zip(casts, (half, integer), strict=True):
        cast.attribute.append(attribute)
    before(model, "layer_norm", *casts)
    return "index"


def weight_quantized_in_the_graph(model: ModelProto) -> None:
    put(model, "constant", np.ones((8, 8), np.float32))
    before(model, "scores", *pair(model, "q"), *pair(model, "constant"))
    before(model, "scores", node("MatMul", ["q/d", "constant/d"], ["linear"], "linear"))


def axis_from_behind(model: ModelProto) -> None:
    find(model, "down/weight/DequantizeLinear").attribute[0].i = -4


def scale_of_a_constant_node(model: ModelProto) -> None:
    constant = node("Constant", [], ["constant_scale"], "constant", value_float=0.1)
    before(model, "s/QuantizeLinear", constant)
    find(model, "s/QuantizeLinear").input[1] = "constant_scale"


LEGAL = [weight_quantized_in_the_graph, axis_from_behind, scale_of_a_constant_node]

FAULTS: list[tuple[str, Callable[[ModelProto], str]]] = [
    ("opset", newer_opset),
    ("standard-operators", plugin),
    ("unsupported-operators", deformable),
    ("unsupported-operators", nameless),
    ("static-shapes", free_batch),
    ("zero-point", shifted),
    ("quantized-type", unsigned),
    ("quantized-type", quantized_bias),
    ("scales", zero_scale),
    ("fp16-scales", early_fp16_scale),
    ("fp16-index", half_index),
    ("channel-axis", wrong_axis),
    ("both-inputs", half_quantized),
    ("attention-products", quantized_attention),
    ("softmax-scale", quantized_softmax),
    ("softmax-scale", moved_softmax),
    ("grid-sample", sampled),
    ("mixed-types", mixed),
    ("mixed-types", mixed_weights),
    ("mixed-types", mixed_bias),
    ("mixed-types", mixed_norm),
    ("int64-outputs", wide_output),
    ("layer-norm", decomposed_norm),
]


def test_a_clean_graph_breaks_no_rule(clean) -> None:
    assert lint(clean) == []


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, _ in FAULTS} == set(RULES)


@pytest.mark.parametrize(("rule", "plant"), FAULTS, ids=[f.__name__ for _, f in FAULTS])
def test_a_planted_fault_is_found_and_named(clean, rule, plant) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(clean)
    expected = plant(model)
    assert expected in [finding.node for finding in lint(model) if finding.rule == rule]


@pytest.mark.parametrize(
    ("plant", "advice"),
    [(half_quantized, "quantize both"), (moved_softmax, "leave both in floating point")],
)
def test_half_a_layer_is_completed_and_half_an_attention_undone(clean, plant, advice) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(clean)
    plant(model)
    messages = [finding.message for finding in lint(model) if finding.rule == "both-inputs"]
    assert len(messages) == 1
    assert advice in messages[0]


@pytest.mark.parametrize("change", LEGAL)
def test_what_is_legal_breaks_no_rule(clean, change) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(clean)
    change(model)
    assert lint(model) == []


def test_layer_norm_in_fp16_is_found(clean) -> None:
    model = to_fp16(clean)
    norm = next(n for n in model.graph.node if n.op_type == "LayerNormalization")
    cast = next(n for n in model.graph.node if norm.input[0] in n.output)
    norm.input[0] = cast.input[0]
    assert ("layer-norm", norm.name) in [(f.rule, f.node) for f in lint(model)]
