"""Faults of engine files, the cache, builds and the GPU: a clear message, then ONNX Runtime."""

import errno
import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from cropseg_edge.bundle import Bundle, Manifest, read_bundle, write_bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept, build_engine
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import EngineError, StorageError
from cropseg_edge.frames import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot


def built(robot: Robot, bundle: Bundle, precision: str = "fp16") -> tuple[Path, Path]:
    """An accepted engine and its sidecar; built once, then copied."""
    robot.remember(lambda: build_and_accept(robot.platform(), bundle, [precision]))
    (engine,) = robot.cache.glob(f"*-{precision}.engine")
    return engine, engine.with_suffix(".json")


def assert_falls_back(
    bundle: Bundle, picture: np.ndarray, caplog: pytest.LogCaptureFixture, *reasons: str
) -> None:
    """`tensorrt` refuses with the reasons, `auto` warns with them and segments on the CPU."""
    with pytest.raises(EngineError) as caught:
        Segmenter(bundle, engine="tensorrt", precision="fp16")
    caplog.clear()
    with Segmenter(bundle, engine="auto", precision="fp16", threads=1) as segmenter:
        assert segmenter.engine.name == "onnxruntime"
        assert segmenter.segment(Frame(picture, 0, "", 0, "name")).status is Status.OK
    assert "ONNX Runtime on the CPU is used" in caplog.text
    for reason in reasons:
        assert reason in str(caught.value)
        assert reason in caplog.text


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "its file is damaged"),
        (lambda data: data[:99] + bytes([data[99] ^ 4]) + data[100:], "its file is damaged"),
        (lambda data: b"", "its file is damaged (0 bytes"),
        (lambda data: data + b"x", "its file is damaged"),
    ],
    ids=["truncated", "bit flipped", "empty", "longer"],
)
def test_a_damaged_engine_never_reaches_tensorrt(
    robot: Robot, bundle: Bundle, picture, caplog, damage, reason: str
) -> None:
    engine, _ = built(robot, bundle)
    engine.write_bytes(damage(engine.read_bytes()))
    loads = robot.count("load")
    assert_falls_back(bundle, picture, caplog, reason)
    assert robot.count("load") == loads


def test_an_engine_of_another_tensorrt_names_both_versions(
    robot: Robot, bundle: Bundle, picture, caplog
) -> None:
    built(robot, bundle)
    robot.tensorrt("10.16.2.10")
    loads = robot.count("load")
    assert_falls_back(bundle, picture, caplog, "tensorrt is 10.16.2.10, was 10.3.0")
    assert robot.count("load") == loads


def test_an_engine_of_another_device_names_both(
    robot: Robot, bundle: Bundle, picture, caplog
) -> None:
    built(robot, bundle)
    robot.gpu.name, robot.gpu.capability, robot.gpu.driver = "Thor", (11, 0), 13020
    loads = robot.count("load")
    assert_falls_back(
        bundle,
        picture,
        caplog,
        "device is Thor, was Orin",
        "compute_capability is 11.0, was 8.7",
        "driver is 13.2, was 12.6",
    )
    assert robot.count("load") == loads


def test_an_engine_of_another_bundle_is_not_used(
    robot: Robot, bundle: Bundle, picture, caplog, tmp_path: Path
) -> None:
    engine, sidecar = built(robot, bundle)
    document = bundle.manifest.model_dump() | {"version": "0.0.2"}
    manifest = Manifest.model_validate(document)
    other = write_bundle(tmp_path / "other.cropseg", manifest, bundle.members)
    copy = engine.with_name(engine.name.replace(bundle.sha256[:16], other.sha256[:16]))
    shutil.copy(engine, copy)
    shutil.copy(sidecar, copy.with_suffix(".json"))
    loads = robot.count("load")
    assert_falls_back(
        other, picture, caplog, f"bundle_sha256 is {other.sha256}, was {bundle.sha256}"
    )
    assert robot.count("load") == loads


def _swap_hash(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"engine_sha256": "0" * 64}))


def _to_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "it is not built yet"),
        (lambda path: path.write_text(""), "its sidecar is damaged"),
        (lambda path: path.write_text(path.read_text()[:200]), "its sidecar is damaged"),
        (lambda path: path.write_text('{"format": 2}'), "its sidecar is damaged"),
        (_swap_hash, "its file is damaged"),
        (_to_link, "cannot be read"),
        (lambda path: _to_link(path.with_suffix(".engine")), "cannot be read"),
        (lambda path: path.parent.chmod(0o777), "chmod 700"),
    ],
    ids=["gone", "empty", "cut", "newer", "other hash", "link", "engine a link", "open folder"],
)
def test_a_wrong_sidecar_or_folder_is_refused(
    robot: Robot, bundle: Bundle, picture, caplog, damage, reason: str
) -> None:
    _, sidecar = built(robot, bundle)
    damage(sidecar)
    loads = robot.count("load")
    assert_falls_back(bundle, picture, caplog, reason)
    assert robot.count("load") == loads


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
    assert_falls_back(bundle, picture, caplog, "it is not built yet")


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


def test_too_little_memory_is_said_before_the_build(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.build.available_memory_mb", lambda: 900)
    with pytest.raises(EngineError, match=r"may need 1512 MB of memory and 900 MB are free.*swap"):
        build_engine(robot.platform(), bundle, "fp16", BuildSettings())
    small = BuildSettings(workspace_mb=64, max_memory_mb=800)
    assert build_engine(robot.platform(), bundle, "fp16", small)
    assert robot.count("build") == 1


@pytest.mark.parametrize(
    ("script", "budget", "reason"),
    [
        ("unloadable", 1 << 30, "cannot load the engine: out of memory (1024 MB are free"),
        ("memory", 1 << 30, "cannot make a context"),
        ("", 1 << 15, "the GPU's memory ran out"),
        ("", 60_000, "the GPU's memory ran out"),
        ("", 140_000, "the GPU's memory ran out"),
    ],
)
def test_out_of_memory_at_load_falls_back_and_frees_everything(
    robot: Robot, bundle: Bundle, picture, caplog, script: str, budget: int, reason: str
) -> None:
    built(robot, bundle)
    robot.runs(f"fp16={script}" if script else "")
    robot.gpu.budget = budget
    assert_falls_back(bundle, picture, caplog, reason)
    assert robot.gpu.live == {}


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", ["full", "no home", "a file in the way"])
def test_without_a_cache_it_builds_warns_and_runs(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch, tmp_path: Path, fault: str
) -> None:
    if fault == "full":
        monkeypatch.setattr("cropseg_edge.engines.tensorrt.cache.write_atomically", _full)
    elif fault == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with Segmenter(bundle, engine="auto", build_if_missing=True) as segmenter:
        assert segmenter.engine.name == "tensorrt"
        assert segmenter.segment(Frame(picture, 0, "", 0, "name")).status is Status.OK
    assert "engines cannot be kept" in caplog.text
    assert "set XDG_CACHE_HOME" in caplog.text
    with pytest.raises(StorageError, match="cannot be kept"):
        build_and_accept(robot.platform(), bundle, ["fp16"], must_keep=True)


def test_a_read_only_cache_is_read(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(robot, bundle)
    for name in ("mkdir", "touch", "write_bytes", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, _full)  # root may write to a read-only folder
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.cache.write_atomically", _full)
    with Segmenter(bundle, engine="tensorrt") as segmenter:
        assert segmenter.engine.precision == "fp16"


def test_no_room_for_temporary_files_is_said(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryDirectory", _full)
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "No space left on device; TMPDIR names another folder" in said[-1]


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


@pytest.mark.parametrize(
    ("script", "reason"),
    [("nan", "NaN or infinity"), ("wrong", "mask IoU"), ("fails", "TensorRT failed to run")],
)
def test_an_engine_that_fails_is_quarantined_until_it_is_built_again(
    robot: Robot, bundle: Bundle, picture, caplog, script: str, reason: str
) -> None:
    robot.runs(f"fp16={script}")
    said: list[str] = []
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "quarantined" in said[-1]
    assert reason in said[-1]
    robot.runs("")
    assert_falls_back(bundle, picture, caplog, "quarantined since", reason)
    assert build_and_accept(robot.platform(), bundle, ["fp16"], say=said.append) == {}
    assert "--force" in said[-1]
    assert build_and_accept(robot.platform(), bundle, ["fp16"], force=True)
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == "tensorrt"


@pytest.mark.parametrize(
    ("script", "accepted"),
    [
        ("", ["int8", "fp16"]),
        ("int8=nan", ["fp16"]),
        ("int8=wrong fp16=nan", ["fp32"]),
        ("int8=wrong fp16=nan fp32=fails", []),
    ],
)
def test_the_chain_goes_on_to_the_next_precision(
    robot: Robot, bundle: Bundle, script: str, accepted: list[str]
) -> None:
    robot.runs(script)
    said: list[str] = []
    assert list(build_and_accept(robot.platform(), bundle, say=said.append)) == accepted
    for word in script.split():
        precision = word.split("=")[0]
        assert any(line.startswith(f"{precision}: quarantined: ") for line in said)
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.name == ("tensorrt" if accepted else "onnxruntime")
        assert segmenter.engine.precision in (accepted or ["fp32"])


def test_the_fastest_accepted_engine_is_taken(robot: Robot, bundle: Bundle) -> None:
    build_and_accept(robot.platform(), bundle)
    for precision, latency in (("int8", 9.0), ("fp16", 4.0)):
        (path,) = robot.cache.glob(f"*-{precision}.json")
        document = json.loads(path.read_text())
        document["verdict"]["latency_ms"] = latency
        path.write_text(json.dumps(document))
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.precision == "fp16"
    robot.runs("fp16=memory")
    with Segmenter(bundle, engine="auto") as segmenter:
        assert segmenter.engine.precision == "int8"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(None, "has not been tried on this device"), ("0.0.1", "accepted by cropseg-edge 0.0.1")],
)
def test_only_an_engine_that_was_accepted_by_this_version_runs(
    robot: Robot, bundle: Bundle, picture, caplog, verdict: str | None, reason: str
) -> None:
    _, sidecar = built(robot, bundle)
    document = json.loads(sidecar.read_text())
    document["verdict"] = verdict and document["verdict"] | {"package": verdict}
    sidecar.write_text(json.dumps(document))
    assert_falls_back(bundle, picture, caplog, reason)


def test_an_engine_that_takes_the_gpu_down_is_remembered(robot: Robot, bundle: Bundle) -> None:
    robot.runs("int8=lost")
    with pytest.raises(EngineError, match="started anew"):
        build_and_accept(robot.platform(), bundle)
    robot.gpu.lost = False  # a new process
    said: list[str] = []
    assert list(build_and_accept(robot.platform(), bundle, say=said.append)) == ["fp16"]
    assert any("int8: it is quarantined" in line for line in said)


def test_a_laptop_without_tensorrt_is_quiet(tiny_bundle_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    with Segmenter(read_bundle(tiny_bundle_path), engine="auto", threads=1) as segmenter:
        assert segmenter.engine.name == "onnxruntime"
    assert caplog.text == ""


def test_a_broken_installation_of_tensorrt_is_said(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot.tensorrt("8.6.2")
    assert_falls_back(bundle, picture, caplog, "TensorRT 8.6.2 is too old; 10.3")
    robot.tensorrt("10.3.0")
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    assert_falls_back(bundle, picture, caplog, "pycuda cannot be imported")
