"""A small network with what the quantizer meets: stem, attention, LayerNormalization, FADE."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from calibration.__main__ import cli
from cropseg_edge.bundle import Bundle, Manifest, write_bundle
from tests.tiny_bundle import HEIGHT, WIDTH, tiny_manifest

node = helper.make_node
SOURCE = "simulator:species=beet,frames=3,width=64,height=48"


def small_graph(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The tensors of the tiny bundle from a network of 5 convolutions, one Gemm, one attention."""
    rng = np.random.default_rng(0)
    h, w, c = height // 4, width // 4, 8

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    values = {
        "w0": weights(c, 3, 3, 3),
        "w1": weights(c, c, 3, 3),
        "b1": weights(c),
        "w2": weights(c, c, 1, 1),
        "scale": np.float32(rng.uniform(0.5, 2, c)),
        "shift": weights(c),
        "mean": weights(c),
        "variance": np.float32(rng.uniform(0.5, 2, c)),
        "ln": np.ones(c, np.float32),
        "lb": np.zeros(c, np.float32),
        "wq": weights(c, c) * np.float32(0.1),  # a calm attention
        "tokens": np.array([h * w, c], np.int64),
        "map": np.array([1, c, h, w], np.int64),
        "wl": weights(3, c, 1, 1),
        "wk": weights(25, c, 1, 1),
        "wg": weights(1, c, 1, 1),
        "bq": weights(c),
    }
    pads = [1, 1, 1, 1]
    nodes = [
        node("Conv", ["image", "w0"], ["s0"], "stem", pads=pads, strides=[2, 2]),
        node("Relu", ["s0"], ["s"], "stem_relu"),
        node("Conv", ["s", "w1", "b1"], ["d0"], "down", pads=pads, strides=[2, 2]),
        node("Relu", ["d0"], ["d1"], "down_relu"),
        node("BatchNormalization", ["d1", "scale", "shift", "mean", "variance"], ["n"], "norm"),
        node("Conv", ["n", "w2"], ["d"], "lateral"),
        node("Transpose", ["d"], ["t"], "t0", perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "tokens"], ["x"], "r0"),
        node("LayerNormalization", ["x", "ln", "lb"], ["y"], "layer_norm"),
        node("Gemm", ["y", "wq", "bq"], ["q"], "query"),
        node("Transpose", ["q"], ["qt"], "t1", perm=[1, 0]),
        node("MatMul", ["qt", "q"], ["p0"], "scores"),
        node("Softmax", ["p0"], ["p"], "softmax"),
        node("MatMul", ["q", "p"], ["a"], "attend"),
        node("Add", ["x", "a"], ["z"], "residual"),
        node("Transpose", ["z"], ["zt"], "t2", perm=[1, 0]),
        node("Reshape", ["zt", "map"], ["f"], "r1"),
        node("Conv", ["f", "wl"], ["logits"], "classifier"),
        node("Conv", ["f", "wg"], ["gate"], "gate_conv"),
        node("Conv", ["f", "wk"], ["kernels_low"], "low"),
        node("Conv", ["s", "wk"], ["kernels_high"], "high"),
        node("Conv", ["s", "wl"], ["guide"], "guide_conv"),
    ]
    shapes = {
        "logits": [1, 3, h, w],
        "kernels_high": [1, 25, 2 * h, 2 * w],
        "kernels_low": [1, 25, h, w],
        "guide": [1, 3, 2 * h, 2 * w],
        "gate": [1, 1, h, w],
    }
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    graph = small_graph()
    manifest = Manifest.model_validate(
        tiny_manifest().model_dump()
        | {"graphs": {"onnxruntime": "model.onnx", "tensorrt": "model.tensorrt.onnx"}}
    )
    path: Path = tmp_path_factory.mktemp("small") / "small.cropseg"
    return write_bundle(path, manifest, {"model.onnx": graph, "model.tensorrt.onnx": graph})


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Network inputs float32 [1, 3, 48, 64]."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32) for _ in range(4)]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer speaks at the root."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    yield
    root.setLevel(before)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    assert call("select", SOURCE, "--count", 2, "--out", folder).exit_code == 0
    return folder
