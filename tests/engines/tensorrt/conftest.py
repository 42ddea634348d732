"""A robot played by the CPU: TensorRT by ONNX Runtime, pycuda by NumPy, the kernels by C++."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cropseg_edge.bundle import Bundle, Manifest, read_bundle, write_bundle
from cropseg_edge.engines.tensorrt.platform import Platform, load_platform
from tests.fade.host_kernels import library

PLAYED = Path(__file__).with_name("played")


def with_tensorrt_graphs(bundle: Bundle, path: Path, precisions: tuple[str, ...]) -> Bundle:
    """The bundle with graphs for TensorRT that say in their doc_string which they are."""
    members, reduced = dict(bundle.members), {}
    for precision in ("fp32", *precisions):
        model = onnx.load_from_string(bundle.graph())
        model.doc_string = f"precision {precision}"
        members[f"model.tensorrt.{precision}.onnx"] = model.SerializeToString()
        if precision != "fp32":
            reduced[precision] = f"model.tensorrt.{precision}.onnx"
    document = bundle.manifest.model_dump() | {
        "graphs": {"onnxruntime": "model.onnx", "tensorrt": "model.tensorrt.fp32.onnx"},
        "reduced": {"tensorrt": reduced},
    }
    return write_bundle(path, Manifest.model_validate(document), members)


@pytest.fixture(scope="session")
def bundle(tiny_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with fp32, fp16 and int8 for TensorRT."""
    path = tmp_path_factory.mktemp("tensorrt") / "tiny.cropseg"
    return with_tensorrt_graphs(read_bundle(tiny_bundle_path), path, ("fp16", "int8"))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a built cache is kept for the tests after the first."""
    return tmp_path_factory.mktemp("kept")


class Robot:
    """What a test may do to the played machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, kept: Path) -> None:
        self._monkeypatch = monkeypatch
        self.cache = folder / "cache" / "cropseg" / "engines"
        self._log = folder / "tensorrt.log"
        self._kept = kept

    def builds(self, script: str) -> None:
        """Script of builds by precision, such as "fp16=killed"."""
        self._monkeypatch.setenv("FAKE_TENSORRT_BUILD", script)

    def runs(self, script: str) -> None:
        """Script of runs by precision, such as "fp16=nan"."""
        self._monkeypatch.setenv("FAKE_TENSORRT_RUN", script)

    def tensorrt(self, version: str) -> None:
        """Another version of TensorRT is installed now."""
        self._monkeypatch.setattr(sys.modules["tensorrt"], "__version__", version)

    @property
    def gpu(self) -> Any:
        """The state of the played GPU."""
        return sys.modules["pycuda.driver"].State  # type: ignore[attr-defined]

    def count(self, line: str) -> int:
        """How often TensorRT did something: "build" or "load"."""
        text = self._log.read_text() if self._log.exists() else ""
        return sum(logged.split()[0] == line for logged in text.splitlines())

    def remember(self, build: Callable[[], object]) -> None:
        """Call `build` the first time in a session, and copy what it left in the cache later."""
        kept = self._kept / "engines"
        if kept.exists():
            shutil.copytree(kept, self.cache)
        else:
            build()
            shutil.copytree(self.cache, kept)

    def platform(self) -> Platform:
        """The machine as the code finds it."""
        return load_platform()


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: Path) -> Iterator[Robot]:
    """A Jetson Orin with TensorRT 10.3, an empty cache, and plenty of memory."""
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(PLAYED))
    # of the processes that build, and of nodes
    paths = [str(PLAYED), str(PLAYED.parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_TENSORRT_LOG", str(tmp_path / "tensorrt.log"))
    for name in ("FAKE_TENSORRT_BUILD", "FAKE_TENSORRT_RUN", "FAKE_TENSORRT_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.build.available_memory_mb", lambda: 6000)
    library()  # skips where there is no compiler
    load_platform()
    robot = Robot(monkeypatch, tmp_path, kept)
    robot.gpu.reset()
    yield robot
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)


@pytest.fixture
def picture() -> np.ndarray:
    """BGR uint8 [60, 90, 3]: soil with a green and a red rectangle, and noise."""
    image = np.full((60, 90, 3), (70, 100, 100), np.uint8)
    image[10:40, 10:40] = (40, 180, 60)
    image[30:60, 50:80] = (40, 60, 180)
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
