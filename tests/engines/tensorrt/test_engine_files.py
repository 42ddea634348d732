"""Faults of engine files, sidecars and the GPU's memory: a clear message, then ONNX Runtime."""

import json
import os
import shutil
from pathlib import Path

import pytest

from cropseg_edge.bundle import Bundle, Manifest, write_bundle
from cropseg_edge.engines.tensorrt.build import build_and_accept
from cropseg_edge.engines.tensorrt.cache import KEPT
from cropseg_edge.errors import DeviceLostError
from cropseg_edge.segmenter import Segmenter
from tests.engines.tensorrt.conftest import Robot
from tests.engines.tensorrt.fallback import assert_falls_back, built


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


def test_two_that_are_called_orin_are_told_apart(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(robot, bundle)
    robot.gpu.multiprocessors = 16
    monkeypatch.setattr("cropseg_edge.engines.tensorrt.device.board_model", lambda: "AGX Orin")
    loads = robot.count("load")
    assert_falls_back(
        bundle, picture, caplog, "multiprocessors is 16, was 8", "board is AGX Orin, was none"
    )
    assert robot.count("load") == loads


def test_an_engine_whose_sidecar_does_not_name_the_board_is_refused_with_the_difference(
    robot: Robot, bundle: Bundle, picture, caplog
) -> None:
    _, sidecar = built(robot, bundle)
    document = json.loads(sidecar.read_text())
    del document["fingerprint"]["multiprocessors"], document["fingerprint"]["board"]
    sidecar.write_text(json.dumps(document))
    assert_falls_back(bundle, picture, caplog, "multiprocessors is 8, was none")


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
        (lambda path: path.parent.chmod(0o770), "chmod 700"),
    ],
    ids=[
        "gone",
        "empty",
        "cut",
        "newer",
        "other hash",
        "link",
        "engine a link",
        "open folder",
        "open to the group",
    ],
)
def test_a_wrong_sidecar_or_folder_is_refused(
    robot: Robot, bundle: Bundle, picture, caplog, damage, reason: str
) -> None:
    _, sidecar = built(robot, bundle)
    damage(sidecar)
    loads = robot.count("load")
    assert_falls_back(bundle, picture, caplog, reason)
    assert robot.count("load") == loads


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


def test_a_gpu_that_is_lost_at_load_is_not_tried_again_in_this_process(
    robot: Robot, bundle: Bundle, picture, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(robot, bundle)

    def loses_the_gpu(*_: object) -> None:
        robot.gpu.lost = True

    monkeypatch.setattr("tensorrt.Runtime.deserialize_cuda_engine", loses_the_gpu)
    assert_falls_back(bundle, picture, caplog, "this process must be started anew")
    with pytest.raises(DeviceLostError):
        Segmenter(bundle, engine="tensorrt")


def test_a_context_that_is_lost_before_an_engine_is_made_is_said(
    robot: Robot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(robot, bundle)
    cuda = robot.platform().cuda

    def refuses(_: object) -> None:
        raise cuda.LaunchError("cuCtxPushCurrent failed")

    monkeypatch.setattr(cuda.Context, "push", refuses)
    with pytest.raises(DeviceLostError, match="cuCtxPushCurrent failed"):
        Segmenter(bundle, engine="tensorrt")


def test_only_the_engines_of_the_last_bundles_are_kept(robot: Robot, bundle: Bundle) -> None:
    engine, sidecar = built(robot, bundle)
    for number in range(KEPT):
        stem = engine.name.replace(bundle.sha256[:16], f"{number:016x}")
        for path in (engine, sidecar):
            shutil.copy(path, engine.with_name(stem).with_suffix(path.suffix))
            os.utime(engine.with_name(stem), (number, number))
    other = engine.with_name(f"another-{bundle.sha256[:16]}-int8.engine")
    shutil.copy(engine, other)
    build_and_accept(robot.platform(), bundle, ["fp16"], force=True)
    left = {path.name for path in engine.parent.glob("*-fp16.engine")}
    assert engine.name in left
    assert len(left) == KEPT
    assert not any("-0000000000000000-" in path.name for path in engine.parent.iterdir())
    assert other.exists()
