"""NVIDIA's own parser reads every TensorRT graph that is made, and refuses a planted fault.

It runs in a process of its own, for a fault inside it ends the process.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration.fp16 import to_fp16
from calibration.layers import candidates
from calibration.qdq import quantize_for_tensorrt
from calibration.ranges import activation_ranges
from calibration.simplify import simplify
from tests.calibration.conftest import small_graph

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")

PARSE = """
import collections, sys
import tensorrt_rtx as trt
log = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(log)
network = builder.create_network()
parser = trt.OnnxParser(network, log)
if not parser.parse_from_file(sys.argv[1]):
    sys.exit("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
layers = [network.get_layer(i) for i in range(network.num_layers)]
print(sum(layer.type == trt.LayerType.QUANTIZE for layer in layers))
norms = [layer for layer in layers if layer.type == trt.LayerType.NORMALIZATION]
print(*{str(layer.get_output(0).dtype) for layer in norms})
convolutions = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
print(*{str(layer.get_output(0).dtype) for layer in convolutions})
"""


def parse(model: onnx.ModelProto, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = folder / "model.onnx"
    onnx.save(model, path)
    return subprocess.run(
        [sys.executable, "-c", PARSE, str(path)], capture_output=True, text=True, timeout=100
    )


@pytest.fixture(scope="module")
def graphs(pictures) -> dict[str, onnx.ModelProto]:
    folded = simplify(small_graph())
    ranges = activation_ranges(folded, pictures, "minmax")
    quantized = quantize_for_tensorrt(folded, ranges, candidates(folded))
    return {"fp16": to_fp16(folded), "int8": to_fp16(quantized)}


@pytest.mark.parametrize(("precision", "quantized"), [("fp16", 0), ("int8", 4)])
def test_the_parser_finds_the_types_that_were_meant(
    graphs, tmp_path: Path, precision: str, quantized: int
) -> None:
    result = parse(graphs[precision], tmp_path)
    assert result.returncode == 0, result.stderr
    layers, norms, convolutions = result.stdout.splitlines()
    assert int(layers) == quantized
    assert norms == "DataType.FLOAT"
    assert convolutions == "DataType.HALF"


def test_a_zero_point_is_refused(graphs, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graphs["int8"])
    for tensor in model.graph.initializer:
        if tensor.name.endswith("s/zero_point"):
            tensor.CopyFrom(numpy_helper.from_array(np.int8(3), tensor.name))
    result = parse(model, tmp_path)
    assert result.returncode != 0
    assert "zero point" in result.stderr.lower()
