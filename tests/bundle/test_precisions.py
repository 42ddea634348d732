"""A bundle may hold its network in several precisions, and says which one an engine runs."""

from pathlib import Path

import pytest

import cropseg_edge.engines.onnxruntime as engine_module
from cropseg_edge.bundle import Bundle, Manifest, read_bundle, write_bundle
from cropseg_edge.bundle.verify import verify_golden
from cropseg_edge.engines.integers import CONVOLUTION, int8_is_exact
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine
from cropseg_edge.errors import BundleError, ParityError
from cropseg_edge.segmenter import Segmenter
from tests.tiny_bundle import tiny_graph, tiny_manifest, write_tiny_bundle


def blinded_graph() -> bytes:
    """The tiny network with its class weights at zero: the same shapes, another answer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(tiny_graph())
    for tensor in model.graph.initializer:
        if tensor.name == "weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0, "weight"))
    return model.SerializeToString()


def with_int8(path: Path, graph: bytes, default: str = "int8") -> Bundle:
    plain = write_tiny_bundle(path)
    manifest = Manifest.model_validate(
        plain.manifest.model_dump()
        | {
            "reduced": {"onnxruntime": {"int8": "int8.onnx"}},
            "default_precision": {"onnxruntime": default},
        }
    )
    return write_bundle(path, manifest, {**plain.members, "int8.onnx": graph})


def test_a_bundle_that_was_never_calibrated_runs_fp32(tiny_bundle_path: Path) -> None:
    bundle = read_bundle(tiny_bundle_path)
    assert bundle.default_precision("tensorrt") == bundle.default_precision() == "fp32"
    assert bundle.manifest.precisions("onnxruntime") == ("fp32",)
    with pytest.raises(BundleError, match="no int8 graph for onnxruntime, but fp32"):
        OnnxRuntimeEngine(bundle, threads=1, precision="int8")


@pytest.mark.parametrize(
    ("asked", "exact", "runs", "said"),
    [
        (None, True, "int8", ""),
        ("fp32", True, "fp32", ""),
        (None, False, "fp32", "masks of INT8 are wrong here; FP32 runs instead"),
        ("int8", False, "int8", "masks of INT8 are wrong here; INT8 runs as asked for"),
        ("fp32", False, "fp32", ""),
    ],
)
def test_the_default_runs_unless_told_otherwise_or_this_processor_gets_it_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asked: str | None,
    exact: bool,
    runs: str,
    said: str,
) -> None:
    monkeypatch.setattr(engine_module, "int8_is_exact", lambda: exact)
    bundle = with_int8(tmp_path / "x.cropseg", tiny_graph())
    with Segmenter(bundle, threads=1, precision=asked) as segmenter:
        assert segmenter.engine.precision == runs
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_what_tries_the_integers_is_one_convolution() -> None:
    import onnx

    model = onnx.load_from_string(CONVOLUTION)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["QLinearConv"]


def test_integers_are_exact_where_the_processor_has_vnni() -> None:
    information = Path("/proc/cpuinfo")
    flags = set(information.read_text().split()) if information.exists() else set()
    if not flags & {"avx512_vnni", "avx_vnni"}:
        pytest.skip("needs an x86-64 processor with VNNI instructions")
    assert int8_is_exact()


def test_each_precision_is_verified_by_its_own_graph(tmp_path: Path) -> None:
    bundle = with_int8(tmp_path / "x.cropseg", blinded_graph(), default="fp32")
    verify_golden(bundle, threads=1)
    with pytest.raises(ParityError, match="int8 golden frame 0"):
        verify_golden(bundle, threads=1, precision="int8")


def test_a_default_without_a_graph_is_refused() -> None:
    document = tiny_manifest().model_dump() | {"default_precision": {"tensorrt": "fp16"}}
    with pytest.raises(ValueError, match="no fp16 graph for tensorrt"):
        Manifest.model_validate(document)
