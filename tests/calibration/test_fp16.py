"""What a GPU does with FP16 and a CPU does not show: rounded indices, overflow, rounded sums."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from calibration.bundles import Quantized, reduced_graphs
from calibration.fp16 import rounded, to_fp16
from calibration.layers import candidates
from calibration.ranges import activation_ranges
from calibration.simplify import simplify
from cropseg_edge.errors import ConfigError
from tests.calibration.conftest import small_graph
from tests.calibration.exporting import exported, run
from training.models.deformable_attention import sample_gather


class Sampled(nn.Module):
    """Points between the cells of a map, as deformable attention reads it for TensorRT."""

    def forward(self, value, points):
        return sample_gather(value, points)


def test_cells_beyond_2048_are_read_where_they_are():
    rng = np.random.default_rng(0)
    value = rng.normal(size=(1, 4, 64, 96)).astype(np.float32)  # 6,144 cells
    points = rng.uniform(-1, 1, (1, 500, 4, 2)).astype(np.float32)
    graph = exported(Sampled(), value=torch.from_numpy(value), points=torch.from_numpy(points))
    exact = run(graph, False, value=value, points=points)
    half = run(rounded(to_fp16(graph)), False, value=value, points=points)
    np.testing.assert_allclose(half, exact, atol=0.01)


def scaled_by_four() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "four"], ["big"]),
         helper.make_node("Div", ["big", "four"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [onnx.numpy_helper.from_array(np.float32([4]), "four")],
    )  # fmt: skip
    opset = helper.make_opsetid("", 18)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[opset], ir_version=8)
    )


def test_overflow_and_rounding_are_seen_on_a_cpu():
    model = rounded(to_fp16(scaled_by_four()))
    assert run(model, False, x=np.float32([3e4])) == np.inf
    assert run(model, False, x=np.float32([2049.0])) == 2048
    assert run(model, False, x=np.float32([7.5])) == 7.5


def test_activations_beyond_fp16_are_refused(pictures):
    folded = simplify(small_graph())
    ranges = activation_ranges(folded, pictures, "minmax")
    made = Quantized(folded, ranges, tuple(candidates(folded)), ())
    assert reduced_graphs("tensorrt", made)
    with pytest.raises(ConfigError, match=r"tensor d reaches \(-1\.0, 92606\.0\); FP16 ends"):
        reduced_graphs("tensorrt", replace(made, ranges={**ranges, "d": (-1.0, 92606.0)}))
