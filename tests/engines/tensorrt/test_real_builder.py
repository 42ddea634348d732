"""NVIDIA's own parser and ahead-of-time builder run our build code on every graph that is shipped.

`tensorrt_rtx` needs no GPU; its engines are for GPUs of a desktop, so that nothing is run here.
"""

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibration.fp16 import to_fp16
from calibration.layers import candidates
from calibration.qdq import quantize_for_tensorrt
from calibration.ranges import activation_ranges
from calibration.simplify import simplify
from cropseg_edge.bundle import read_bundle
from cropseg_edge.engines.tensorrt.build_process import Step, build_in_process
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import BundleError, EngineError
from tests.calibration.conftest import small_graph

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")

FAST = BuildSettings(optimization_level=0, workspace_mb=64, max_memory_mb=1024)
NAMES = ["small fp16", "small int8", "shipped fp32", "shipped fp16", "shipped int8"]
READ = """
import json, sys
import tensorrt_rtx as trt
from cropseg_edge.engines.tensorrt.builder import parse
parsed = parse(trt, open(sys.argv[1], "rb").read())
rows, makers = {}, {}
for i in range(parsed.network.num_layers):
    layer = parsed.network.get_layer(i)
    for j in range(layer.num_outputs):
        makers[layer.get_output(j).name] = layer.type.name
    inputs = [layer.get_input(j) for j in range(layer.num_inputs)]
    rows[layer.name] = [
        layer.type.name,
        layer.get_output(0).dtype.name,
        makers.get(inputs[0].name, "") if inputs and inputs[0] is not None else "",
    ]
network = parsed.network
rows["inputs"] = [network.get_input(i).dtype.name for i in range(network.num_inputs)]
rows["outputs"] = [network.get_output(i).dtype.name for i in range(network.num_outputs)]
print(json.dumps(rows))
"""
TYPES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF"}
WEIGHTY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "LayerNormalization", "Softmax"}


def layers(onnx_file: bytes, folder: Path) -> dict[str, list[str]]:
    """Type, output type and what makes the first input, by layer, as TensorRT has parsed them."""
    path = folder / "graph.onnx"
    path.write_bytes(onnx_file)
    command = [sys.executable, "-c", READ, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def small(precision: str) -> bytes:
    folded = simplify(small_graph())
    if precision == "fp16":
        return to_fp16(folded).SerializeToString()
    rng = np.random.default_rng(1)
    pictures = [rng.normal(size=(1, 3, 48, 64)).astype(np.float32) for _ in range(2)]
    ranges = activation_ranges(folded, pictures, "minmax")
    quantized = quantize_for_tensorrt(folded, ranges, candidates(folded))
    return to_fp16(quantized).SerializeToString()


@cache
def graph(name: str) -> bytes:
    """A graph that is shipped, or one made here by the quantizer."""
    whose, precision = name.split()
    if whose == "small":
        return small(precision)
    shipped = read_bundle()
    if precision not in shipped.manifest.precisions("tensorrt"):
        pytest.skip(f"the shipped bundle has no {precision} graph for TensorRT")
    return shipped.graph("tensorrt", precision)


@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_reads_the_types_that_the_graph_means(name: str, tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph(name)))
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in [*model.graph.value_info, *model.graph.output]
    }
    found = layers(graph(name), tmp_path)
    assert found.pop("inputs") in (["FLOAT"], ["HALF"])
    assert len(set(found.pop("outputs"))) == 1  # as TensorRtEngine wants it
    compared = 0
    for node in model.graph.node:
        if node.op_type in WEIGHTY and node.name in found and node.output[0] in kinds:
            expected = TYPES[kinds[node.output[0]]]
            assert found[node.name][1] == expected, node.name
            compared += 1
    assert compared >= 0.9 * sum(node.op_type in WEIGHTY for node in model.graph.node)
    norms = {row[1] for row in found.values() if row[0] == "NORMALIZATION"}
    assert norms == {"FLOAT"}
    if "fp32" in name:
        assert not {"HALF", "INT8"} & {row[1] for row in found.values()}


@pytest.mark.parametrize("name", [name for name in NAMES if "int8" in name])
def test_tensorrt_reads_the_layers_that_were_quantized(name: str, tmp_path: Path) -> None:
    model = onnx.load_from_string(graph(name))
    made = {node.output[0]: node.op_type for node in model.graph.node}
    intended = {
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHTY and made.get(node.input[0]) == "DequantizeLinear"
    }
    found = {
        layer for layer, row in layers(graph(name), tmp_path).items()
        if row[0] in ("CONVOLUTION", "MATRIX_MULTIPLY") and row[2] == "DEQUANTIZE"
    }  # fmt: skip
    assert intended
    assert found == intended


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_every_graph_is_built_ahead_of_time(name: str) -> None:
    steps: list[Step] = []
    built = build_in_process("tensorrt_rtx", graph(name), FAST, None, steps.append)
    assert len(built.plan) > 10_000
    assert steps[-1].done > 0
    assert any(step.phase for step in steps)


def broken(kind: str) -> bytes:
    model = onnx.load_from_string(small("int8" if kind == "zero point" else "fp16"))
    nodes = model.graph.node
    target = next(node for node in nodes if node.op_type == "Conv")
    if kind == "custom operator":
        target.op_type, target.domain = "Teleport", "nowhere"
        model.opset_import.append(helper.make_opsetid("nowhere", 1))
    elif kind == "mixed types":
        target = next(node for node in nodes if node.op_type == "MatMul")
        cast = helper.make_node("Cast", [target.input[0]], ["widened"], "widen", to=1)
        nodes.insert(list(nodes).index(target), cast)
        target.input[0] = "widened"
    else:
        target = next(node for node in nodes if node.op_type == "QuantizeLinear")
        for tensor in model.graph.initializer:
            if tensor.name == target.input[2]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.int8(3), tensor.name))
    target.name = "the_planted_one"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("custom operator", "Teleport the_planted_one"),
        ("mixed types", "the_planted_one"),
        ("zero point", "the_planted_one.*zero point"),
    ],
)
def test_an_illegal_graph_is_refused_with_the_nodes_name(kind: str, reason: str) -> None:
    with pytest.raises(BundleError, match=f"(?i){reason}"):
        build_in_process("tensorrt_rtx", broken(kind), FAST)


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(BundleError, match=r"TensorRT .* refuses"):
        build_in_process("tensorrt_rtx", b"\x08\x09 not a graph", FAST)


def test_without_the_module_it_says_so() -> None:
    with pytest.raises(EngineError, match="No module named 'tensorrt_of_nobody'"):
        build_in_process("tensorrt_of_nobody", b"", FAST)


def child_of(pid: int) -> int:
    """The one child of a process, or 0."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_real_build_that_is_killed_becomes_a_sentence_with_advice() -> None:
    def kill(step: Step) -> None:
        if step.phase and (pid := child_of(os.getpid())):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(EngineError, match=r"was killed.*memory ran out.*add swap"):
        build_in_process("tensorrt_rtx", graph("shipped fp32"), FAST, None, kill)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_build_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph("shipped fp32"))
    code = (
        "import sys; from pathlib import Path\n"
        "from cropseg_edge.engines.tensorrt.build_process import build_in_process\n"
        "from cropseg_edge.engines.tensorrt.settings import BuildSettings\n"
        "graph = Path(sys.argv[1]).read_bytes()\n"
        "say = lambda step: step.phase and print('building', flush=True)\n"
        "build_in_process('tensorrt_rtx', graph, BuildSettings(), None, say)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "graph.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "building\n"
        builder = child_of(parent.pid)
        assert builder
        parent.kill()
    give_up = time.monotonic() + 10
    while Path(f"/proc/{builder}/exe").exists() and time.monotonic() < give_up:
        os.sched_yield()
    assert not Path(f"/proc/{builder}/exe").exists()
