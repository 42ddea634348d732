"""Folding changes nothing but speed; INT8 and FP16 graphs stay near it and follow the rules."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.fp16 import to_fp16
from calibration.graph import constants
from calibration.layers import candidates, kept_by_rule
from calibration.lint import lint
from calibration.qdq import quantize_for_cpu, quantize_for_tensorrt, symmetric_scale
from calibration.ranges import METHODS, activation_ranges
from calibration.simplify import simplify
from cropseg_edge.engines.integers import int8_is_exact
from cropseg_edge.errors import BundleError, ConfigError
from tests.calibration.conftest import small_graph

OUTPUTS = ("logits", "kernels_high", "kernels_low", "guide", "gate")


@pytest.fixture(scope="module")
def folded() -> onnx.ModelProto:
    return simplify(small_graph())


@pytest.fixture(scope="module")
def ranges(folded, pictures):
    return activation_ranges(folded, pictures, "minmax")


def run(model: onnx.ModelProto | bytes, picture: np.ndarray, optimise: bool = True):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(list(OUTPUTS), {"image": picture})


def relative_error(got, expected) -> float:
    return max(
        float(np.abs(a - b).mean() / np.abs(b).mean()) for a, b in zip(got, expected, strict=True)
    )


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_folding_keeps_the_function(folded, pictures) -> None:
    assert relative_error(run(folded, pictures[0]), run(small_graph(), pictures[0])) < 1e-5
    assert "BatchNormalization" not in types(folded)


def test_a_batch_norm_that_something_else_reads_stays() -> None:
    model = onnx.load_from_string(small_graph())
    model.graph.node.append(helper.make_node("Relu", ["n"], ["extra"], "second_reader"))
    model.graph.output.append(
        helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 8, 12, 16])
    )
    assert "BatchNormalization" in types(simplify(model.SerializeToString()))


@pytest.mark.parametrize(
    ("shape", "wide"),
    [((2,), (4, 4, 2)), ((1, 50, 1, 1, 2), (1, 50, 4, 4, 2)), ((32,), (32,)), ((), ())],
)
def test_constants_with_short_runs_are_written_out(shape, wide) -> None:
    size = [1, 50, 4, 4, 2] if shape != (32,) else [1, 50, 32]
    constant = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Mul", ["x", "c"], ["y"], "scale")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, size)],
            [numpy_helper.from_array(constant, "c")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    result = simplify(model.SerializeToString())
    written = constants(result)[result.graph.node[0].input[1]]
    assert written.shape[-len(wide) :] == wide if wide else written.shape == ()
    assert (np.broadcast_to(written, size) == np.broadcast_to(constant, size)).all()


def test_the_rule_keeps_ends_and_attention_in_floating_point(folded) -> None:
    assert candidates(folded) == ["stem", "guide_conv", "down", "lateral", "query"]
    kept = {"classifier", "gate_conv", "low", "high"}
    assert set(kept_by_rule(folded)) == kept


def patches(folded: onnx.ModelProto) -> onnx.ModelProto:
    """The network with a patch embedding of the picture's averages for an output."""
    model = onnx.ModelProto()
    model.CopyFrom(folded)
    weight = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "wp"))
    two, four = (
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [4, 4], "strides": [4, 4]},
    )
    model.graph.node.extend(
        [
            helper.make_node("AveragePool", ["image"], ["half"], "pool", **two),
            helper.make_node("Conv", ["half", "wp"], ["patches"], "patch_embed", **four),
        ]
    )
    shape = [1, 2, 48 // 8, 64 // 8]
    model.graph.output.append(helper.make_tensor_value_info("patches", TensorProto.FLOAT, shape))
    return model


def test_the_patch_embedding_stays_in_floating_point(folded) -> None:
    model = patches(folded)
    del model.graph.output[-1]  # what writes an output stays anyway
    assert "patch_embed" in kept_by_rule(model)


def test_averages_are_taken_of_the_picture_not_of_its_eight_bits(folded, ranges, pictures) -> None:
    model = patches(folded)
    quantized = quantize_for_cpu(model, ranges, candidates(folded))
    expected, got = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["patches"], {"image": pictures[0]}
        )[0]
        for m in (model, quantized)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def upsampling(**attributes: object) -> bytes:
    """A transposed convolution, then a Relu."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.normal(size=(5, 7, 2, 2)).astype(np.float32),
        "b": rng.normal(size=7).astype(np.float32),
    }
    up = helper.make_node("ConvTranspose", ["x", "w", "b"], ["u"], "up", strides=[2, 2])
    up.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    graph = helper.make_graph(
        [up, helper.make_node("Relu", ["u"], ["y"], "relu")],
        "up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def test_a_transposed_convolution_becomes_a_plain_one() -> None:
    raw = upsampling()
    assert types(simplify(raw, widen=False)) == ["ConvTranspose", "Relu"]
    plain = simplify(raw)
    assert types(plain) == ["Conv", *["Transpose", "Reshape"] * 2, "Transpose", "Relu"]
    feed = {"x": np.random.default_rng(1).normal(size=(1, 5, 3, 4)).astype(np.float32)}
    expected, got = (
        onnxruntime.InferenceSession(g, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for g in (raw, plain.SerializeToString())
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [{"dilations": [2, 2]}, {"output_shape": [7, 9]}, {"pads": [1, 1, 0, 0]}],
    ids=str,
)
def test_another_transposed_convolution_stays(attributes) -> None:
    assert "ConvTranspose" in types(simplify(upsampling(**attributes)))


@pytest.mark.parametrize(
    ("kind", "values", "stays"),
    [
        ("Pad", {"pads": [0, 0, 0, 0]}, False),
        ("Pad", {"pads": [1, 0, -1, 0]}, True),
        ("Slice", {"starts": [0], "ends": [99], "axes": [0], "steps": [1]}, False),
        ("Slice", {"starts": [0], "ends": [2], "axes": [0], "steps": [1]}, True),
        ("Slice", {"starts": [-1], "ends": [-99], "axes": [0], "steps": [-1]}, True),
    ],
    ids=str,
)
def test_what_only_copies_is_left_out(kind, values, stays) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"], "first"),
            helper.make_node(kind, ["a", *values], ["b"], "middle"),
            helper.make_node("Relu", ["b"], ["y"], "last"),
        ],
        "copies",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(v), k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    result = simplify(model.SerializeToString())
    assert (kind in types(result)) == stays


def test_equal_constants_become_one() -> None:
    values = {name: np.arange(2, dtype=np.float32) for name in ("a", "b")} | {"c": np.float32(1)}
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "a"], ["y"], "first"),
            helper.make_node("Mul", ["y", "b"], ["z"], "second"),
        ],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    result = simplify(model.SerializeToString())
    assert len(result.graph.initializer) == 1
    assert result.graph.node[0].input[1] == result.graph.node[1].input[1]


@pytest.mark.parametrize("method", METHODS)
def test_ranges_cover_what_was_seen(folded, pictures, method) -> None:
    ranges = activation_ranges(folded, pictures, method)
    seen = [run_tensor(folded, "s", picture) for picture in pictures]
    low, high = ranges["s"]
    assert low == pytest.approx(0, abs=0.01)
    assert 0.3 * np.max(seen) < high <= np.max(seen) * 1.001


def run_tensor(model: onnx.ModelProto, name: str, picture: np.ndarray) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run([name], {"image": picture})[0]


def test_no_frame_gives_no_ranges(folded) -> None:
    with pytest.raises(ConfigError, match="no calibration frame"):
        activation_ranges(folded, [], "minmax")


@pytest.mark.skipif(not int8_is_exact(), reason="needs a processor with exact 8-bit sums")
def test_the_cpu_graph_stays_near(folded, ranges, pictures) -> None:
    model = quantize_for_cpu(folded, ranges, candidates(folded))
    assert relative_error(run(model, pictures[0]), run(folded, pictures[0])) < 0.05


def test_the_cpu_graph_runs_on_integers(folded, ranges, tmp_path) -> None:
    model = quantize_for_cpu(folded, ranges, candidates(folded))
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fused = types(onnx.load(tmp_path / "fused.onnx"))
    assert fused.count("QLinearConv") == 4
    assert fused.count("QGemm") == 1


def test_the_tensorrt_graph_is_symmetric_and_stays_near(folded, ranges, pictures) -> None:
    model = quantize_for_tensorrt(folded, ranges, candidates(folded))
    onnx.checker.check_model(model)
    assert lint(model) == []
    assert relative_error(run(model, pictures[0], False), run(folded, pictures[0])) < 0.08
    assert types(model).count("QuantizeLinear") == 4
    integers = [t for t in model.graph.initializer if t.name.endswith("/int8")]
    assert len(integers) == 5
    assert all(np.abs(numpy_helper.to_array(t)).max() == 127 for t in integers)


def test_a_layer_that_was_skipped_stays_floating(folded, ranges) -> None:
    model = quantize_for_tensorrt(folded, ranges, ["down"])
    assert types(model).count("QuantizeLinear") == 1


def test_a_layer_that_the_rule_keeps_cannot_be_quantized(folded, ranges) -> None:
    with pytest.raises(ConfigError, match="classifier"):
        quantize_for_cpu(folded, ranges, ["classifier"])


@pytest.mark.parametrize("quantized", [False, True])
def test_fp16_is_strongly_typed_with_layer_norm_in_fp32(
    folded, ranges, pictures, quantized
) -> None:
    source = quantize_for_tensorrt(folded, ranges, candidates(folded)) if quantized else folded
    model = to_fp16(source)
    onnx.checker.check_model(model, full_check=True)
    assert lint(model) == []
    error = relative_error(run(model, pictures[0]), run(folded, pictures[0]))
    assert error < (0.08 if quantized else 0.005)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds["ln"] == TensorProto.FLOAT
    assert kinds["b1"] == TensorProto.FLOAT16


def test_a_weight_beyond_fp16_is_refused(folded) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(folded)
    for tensor in model.graph.initializer:
        if tensor.name == "b1":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 7e4, np.float32), "b1"))
    with pytest.raises(ConfigError, match="b1 reaches 70000"):
        to_fp16(model)


def test_scales_are_float16_numbers_and_never_zero() -> None:
    scales = symmetric_scale(np.array([0, 1e-9, 0.013, 700], np.float32))
    assert (scales > 0).all()
    assert (scales == scales.astype(np.float16)).all()


def test_a_graph_that_onnx_runtime_refuses_is_said() -> None:
    with pytest.raises(BundleError, match="refuses"):
        simplify(b"nothing")
