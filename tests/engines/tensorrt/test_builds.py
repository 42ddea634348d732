"""Faults of builds and of the cache: a clear message, a working fallback, nothing stale."""

import re
import threading
from pathlib import Path

import pytest

from cropseg_edge.bundle import Bundle, Manifest, write_bundle
from cropseg_edge.engines.tensorrt import build_process
from cropseg_edge.engines.tensorrt.build import SMALL, build_and_accept, build_engine
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import BundleError, EngineError
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot
from tests.engines.tensorrt.fallback import assert_falls_back, built


def test_a_mismatch_is_built_anew_and_says_why(robot: Robot, bundle: Bundle) -> None:
    built(robot, bundle)
    robot.tensorrt("10.16.2.10")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append)
    assert "tensorrt is 10.16.2.10, was 10.3.0" in said[0]
    with Segmenter(bundle, engine="tensorrt") as segmenter:
        assert segmenter.engine.precision == "fp16"


def test_what_is_built_is_not_built_again_unless_settings_differ_or_it_is_forced(
    robot: Robot, bundle: Bundle
) -> None:
    build_and_accept(robot.platform(), bundle, ["fp16"])
    build_and_accept(robot.platform(), bundle, ["fp16"])
    assert robot.count("build") == 1
    build_and_accept(robot.platform(), bundle, ["fp16"], force=True)
    assert robot.count("build") == 2
    build_and_accept(robot.platform(), bundle, ["fp16"], BuildSettings(workspace_mb=64))
    assert robot.count("build") == 3
    with Segmenter(bundle, engine="tensorrt") as segmenter:  # whatever its settings
        assert segmenter.engine.precision == "fp16"
    assert build_and_accept(robot.platform(), bundle, ["fp16"])
    assert robot.count("build") == 3  # nobody asked for other settings


def test_where_a_build_fails_the_engine_that_was_accepted_stays(
    robot: Robot, bundle: Bundle
) -> None:
    built(robot, bundle)
    robot.builds("fp16=killed")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], force=True, say=said.append)
    assert "the build was killed" in said[-3]
    assert re.match(r"fp16: the engine built 2\d{3}-.* stays", said[-2])
    robot.runs("fp16=nan")
    build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append)  # quarantines it
    assert not build_and_accept(robot.platform(), bundle, ["fp16"], force=True, say=said.append)
    assert "the build was killed" in said[-1]


def test_a_bundle_without_golden_frames_is_refused_before_anything_is_built(
    robot: Robot, bundle: Bundle, tmp_path: Path, caplog
) -> None:
    document = bundle.manifest.model_dump() | {"golden": []}
    used = {
        name for golden in bundle.manifest.golden for name in (golden.image, golden.probabilities)
    }
    members = {name: data for name, data in bundle.members.items() if name not in used}
    bare = write_bundle(tmp_path / "bare.cropseg", Manifest.model_validate(document), members)
    with pytest.raises(BundleError, match=r"bare.cropseg has no golden frames"):
        build_and_accept(robot.platform(), bare)
    with Segmenter(bare, engine="auto", build_if_missing=True) as segmenter:
        assert segmenter.engine.name == "onnxruntime"
    assert "has no golden frames" in caplog.text
    assert robot.count("build") == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("killed", "the memory ran out; close other programs, add swap"),
        ("crash", "crashed with SIGSEGV"),
        ("memory", "out of memory during the build"),
    ],
)
def test_a_build_that_dies_leaves_nothing_and_says_what_to_do(
    robot: Robot, bundle: Bundle, picture, caplog, script: str, reason: str
) -> None:
    robot.builds(f"fp16={script}")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert reason in " ".join(said)
    assert not list(robot.cache.glob("*.engine"))
    assert not list(robot.cache.glob("*.json"))
    assert not list(robot.cache.glob("*.build-*"))
    assert_falls_back(bundle, picture, caplog, "it is not built yet")


@pytest.mark.parametrize(
    ("kind", "text", "out_of_memory"),
    [
        ("EngineError", "Cuda Runtime (out of memory)", True),
        ("MemoryError", "", True),
        ("OSError", "[Errno 12] Cannot allocate memory", True),
        ("EngineError", "Cuda Runtime (an illegal memory access was encountered)", False),
        ("ImportError", "libgomp.so.1: cannot allocate memory in static TLS block", False),
    ],
)
def test_not_every_error_with_the_word_memory_is_a_lack_of_it(
    kind: str, text: str, out_of_memory: bool
) -> None:
    error = build_process._as_error(kind, text)
    assert text in str(error)
    assert str(error).startswith("out of memory") == out_of_memory


def test_files_of_the_current_folder_are_not_imported(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "base64.py").write_text("raise SystemExit('of the current folder')\n")
    (tmp_path / "json.py").write_text("raise SystemExit('of the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert build_engine(robot.platform(), bundle, "fp16", BuildSettings())


def test_a_build_on_demand_that_fails_says_why(robot: Robot, bundle: Bundle) -> None:
    robot.builds("fp16=killed")
    with pytest.raises(EngineError, match="the build was killed") as caught:
        Segmenter(bundle, engine="tensorrt", precision="fp16", build_if_missing=True)
    assert "builds and tries them" not in str(caught.value)


def test_a_killed_rebuild_leaves_no_engine_that_could_be_stale(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between engine and sidecar: the engine file alone is never used."""
    built(robot, bundle)

    def killed(*_: object) -> None:
        raise SystemExit("killed here")

    monkeypatch.setattr("cropseg_edge.engines.tensorrt.cache.EngineCache.update", killed)
    with pytest.raises(SystemExit):
        build_and_accept(robot.platform(), bundle, ["fp16"], force=True)
    assert list(robot.cache.glob("*.engine"))
    with pytest.raises(EngineError, match="it is not built yet"):
        Segmenter(bundle, engine="tensorrt", precision="fp16")


def test_what_a_killed_build_left_is_cleared_by_the_next(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []

    def killed(*arguments: object) -> None:
        places.append(arguments[-1])
        raise SystemExit("killed here")

    platform = robot.platform()
    with monkeypatch.context() as context:
        context.setattr("cropseg_edge.engines.tensorrt.build.build_in_process", killed)
        for precision in ("fp16", "int8"):
            with pytest.raises(SystemExit):
                build_engine(platform, bundle, precision, BuildSettings())
    assert [place.parent for place in places] == [robot.cache, robot.cache]
    for place in places:  # as SIGKILL leaves them
        place.mkdir()
        (place / "graph.onnx").touch()
    assert build_engine(platform, bundle, "fp16", BuildSettings())
    assert [place.exists() for place in places] == [False, True]  # int8 may be being built


def test_too_little_memory_is_said_before_the_build(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.build.available_memory_mb", lambda: 900)
    with pytest.raises(EngineError, match=r"may need 1512 MB of memory and 900 MB are free.*swap"):
        build_engine(robot.platform(), bundle, "fp16", BuildSettings())
    small = BuildSettings(workspace_mb=64, max_memory_mb=800)
    assert build_engine(robot.platform(), bundle, "fp16", small)
    assert robot.count("build") == 1


def test_a_smaller_build_is_advised_only_where_it_would_be_let_through(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = "cropseg_edge.engines.tensorrt.build.available_memory_mb"
    monkeypatch.setattr(free, lambda: 1300)
    with pytest.raises(EngineError, match=r"1300 MB are free, swap on disk included") as caught:
        build_engine(robot.platform(), bundle, "fp16", None)
    assert "--workspace-mb 128 --max-memory 2000 --optimization-level 2`" in str(caught.value)
    assert build_engine(robot.platform(), bundle, "fp16", SMALL)
    monkeypatch.setattr(free, lambda: 1000)
    with pytest.raises(EngineError, match="close other programs or add swap") as caught:
        build_engine(robot.platform(), bundle, "int8", SMALL)
    assert "--workspace-mb" not in str(caught.value)


def test_two_who_build_at_once_build_once(robot: Robot, bundle: Bundle) -> None:
    robot.builds("fp16=slow")
    said: list[str] = []
    engines = []

    def build() -> None:
        engine = build_engine(robot.platform(), bundle, "fp16", BuildSettings(), say=said.append)
        engines.append(engine)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({engine.sidecar.engine_sha256 for engine in engines}) == 1
    assert robot.count("build") == 1
    assert any("another process builds this engine" in line for line in said)


def test_a_lock_that_stays_held_ends_in_a_message(robot: Robot, bundle: Bundle) -> None:
    cache = robot.platform().cache
    with (
        cache.lock(bundle, "fp16"),
        pytest.raises(EngineError, match="another process has been building"),
        cache.lock(bundle, "fp16", timeout_s=0),
    ):
        pass
    with cache.lock(bundle, "fp16", timeout_s=0):
        pass
