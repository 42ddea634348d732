"""The ONNX Runtime engine runs what the manifest says and refuses everything else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cropseg_edge.bundle import Bundle, Manifest, read_bundle, write_bundle
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine, physical_cores
from cropseg_edge.errors import BundleError, EngineError
from tests.tiny_bundle import tiny_graph, tiny_manifest


def rewritten(manifest: Manifest, **changes: object) -> Manifest:
    """The manifest with some values replaced, checked again."""
    document = manifest.model_dump()
    for path, value in changes.items():
        target, keys = document, path.split("__")
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
    return Manifest.model_validate(document)


@pytest.fixture
def engine(tiny_bundle_path: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(read_bundle(tiny_bundle_path), threads=1)


def test_the_same_input_gives_the_same_bytes(engine: OnnxRuntimeEngine) -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32)
    first = {name: tensor.copy() for name, tensor in engine.infer(image).items()}
    assert {name: tensor.shape for name, tensor in first.items()} == {
        "logits": (1, 3, 12, 16),
        "kernels_high": (1, 25, 24, 32),
        "kernels_low": (1, 25, 12, 16),
        "guide": (1, 3, 24, 32),
        "gate": (1, 1, 12, 16),
    }
    engine.infer(image * 2)
    again = engine.infer(image)
    for name, tensor in first.items():
        assert (again[name] == tensor).all()
        assert np.isfinite(tensor).all()


def test_buffers_are_used_again(engine: OnnxRuntimeEngine) -> None:
    image = np.zeros((1, 3, 48, 64), np.float32)
    assert engine.infer(image)["logits"] is engine.infer(image.copy())["logits"]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 3, 64, 48), np.float32),
        np.zeros((1, 3, 48, 64), np.float64),
        np.zeros((1, 3, 48, 128), np.float32)[..., ::2],
    ],
)
def test_an_input_that_does_not_fit_is_refused(
    engine: OnnxRuntimeEngine, image: np.ndarray
) -> None:
    with pytest.raises(EngineError, match=r"\[1, 3, 48, 64\]"):
        engine.infer(image)


def test_a_closed_engine_says_so(engine: OnnxRuntimeEngine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(np.zeros((1, 3, 48, 64), np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input__width": 128}, r"must be tensor\(float\) \[1, 3, 48, 128\], got .*64"),
        ({"input__tensor": "pixels"}, "takes .*image.*expected .*pixels"),
        ({"upsampler__tensors__gate": "door"}, "lacks .*door"),
        (
            {
                "upsampler__tensors__kernels_high": "kernels_low",
                "upsampler__tensors__kernels_low": "kernels_high",
            },
            r"kernels_low must be .*\[1, 25, 24, 32\], got .*12",
        ),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    manifest = rewritten(tiny_manifest(), **changes)
    bundle = write_bundle(tmp_path / "x.cropseg", manifest, {"model.onnx": tiny_graph()})
    with pytest.raises(EngineError, match=message):
        OnnxRuntimeEngine(bundle, threads=1)


def broken(kind: str) -> bytes:
    import onnx

    if kind == "empty":
        return b""
    model = onnx.load_from_string(tiny_graph())
    if kind == "unknown operator":
        model.graph.node[0].op_type = "Teleport"
    elif kind == "later opset":
        model.opset_import[0].version = 9999
    else:
        model.graph.node[0].input[0] = "nothing"
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["empty", "unknown operator", "later opset", "dangling edge"])
def test_a_graph_that_onnx_runtime_refuses_is_a_bundle_error(tmp_path: Path, kind: str) -> None:
    bundle: Bundle = write_bundle(
        tmp_path / "x.cropseg", tiny_manifest(), {"model.onnx": broken(kind)}
    )
    with pytest.raises(BundleError, match=r"x\.cropseg: ONNX Runtime .* refuses") as caught:
        OnnxRuntimeEngine(bundle, threads=1)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_threads_are_checked(tiny_bundle_path: Path) -> None:
    with pytest.raises(EngineError, match="at least 1"):
        OnnxRuntimeEngine(read_bundle(tiny_bundle_path), threads=0)
    assert physical_cores() >= 1


def test_onnx_runtime_keeps_no_device_id_and_sends_nothing(
    tmp_path: Path, tiny_bundle_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from cropseg_edge.segmenter import Segmenter\n"
        "Segmenter(Path(sys.argv[1])).warm_up()\n"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tiny_bundle_path)]
    subprocess.run(command, env=home, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
