"""A cache that is full, closed or open to others: a warning, or an error where it must be kept."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept, build_engine
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import StorageError
from cropseg_edge.frames import Frame
from cropseg_edge.mask import Status
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot
from tests.engines.tensorrt.fallback import built


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


def test_a_disk_that_is_full_keeps_the_engine_and_goes_without_the_timing_cache(
    robot: Robot, bundle: Bundle, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = "cropseg_edge.engines.tensorrt.cache.EngineCache"
    with monkeypatch.context() as context:
        context.setattr(f"{cache}.store_timing_cache", _full)
        assert build_and_accept(robot.platform(), bundle, ["fp16"], must_keep=True)
    assert "what the build measured is not kept: No space left on device" in caplog.text
    with Segmenter(bundle, engine="tensorrt") as segmenter:
        assert segmenter.engine.precision == "fp16"
    monkeypatch.setattr(f"{cache}.store", _full)
    with pytest.raises(StorageError, match=r"No space left on device\); free some space there"):
        build_and_accept(robot.platform(), bundle, ["int8"], must_keep=True)


def test_where_an_engine_would_not_be_read_again_nothing_is_built(
    robot: Robot, bundle: Bundle
) -> None:
    robot.cache.mkdir(parents=True)
    robot.cache.chmod(0o777)
    with pytest.raises(StorageError, match=r"cannot be kept: .* chmod 700"):
        build_and_accept(robot.platform(), bundle, ["fp16"], must_keep=True)
    assert robot.count("build") == 0


def test_a_verdict_that_cannot_be_recorded_is_an_error_unless_an_earlier_one_is_there(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = robot.platform()
    build_engine(platform, bundle, "fp16", None)
    cache = "cropseg_edge.engines.tensorrt.cache.EngineCache"
    with monkeypatch.context() as context:
        context.setattr(f"{cache}.update", _full)
        with pytest.raises(StorageError, match="the fp16 engine is right, but that cannot be rec"):
            build_and_accept(platform, bundle, ["fp16"], must_keep=True)
    assert build_and_accept(platform, bundle, ["fp16"], must_keep=True)
    monkeypatch.setattr(f"{cache}.update", _full)
    assert build_and_accept(platform, bundle, ["fp16"], must_keep=True)


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
    assert "No space left on device; XDG_CACHE_HOME and TMPDIR name other folders" in said[-1]


def test_a_cache_without_room_or_open_to_others_is_no_place_to_build(
    robot: Robot, bundle: Bundle, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=100)
    with monkeypatch.context() as context:
        context.setattr("shutil.disk_usage", lambda _: usage)
        assert build_engine(robot.platform(), bundle, "fp16", BuildSettings())
    assert "in a temporary folder: [Errno 28] No space left" in caplog.text
    robot.cache.chmod(0o777)
    assert build_engine(robot.platform(), bundle, "int8", BuildSettings())
    assert "others may write there" in caplog.text
