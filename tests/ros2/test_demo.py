"""The demo as a user runs it: three processes, a drive through a simulated field, all files."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cropseg_ros.graph import Graph

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")


def _command(out: Path, bundle: Path, source: str) -> list[str]:
    command = [sys.executable, "-m", "cropseg_ros.demo", "--source", source, "--seconds", "3"]
    return [*command, "--out", str(out), "--bundle", str(bundle)]


def _demo(out: Path, bundle: Path, source: str) -> subprocess.CompletedProcess[str]:
    command = _command(out, bundle, source)
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_a_simulated_drive_leaves_everything_that_was_received(
    tmp_path: Path, tiny_bundle_path: Path
) -> None:
    out = tmp_path / "demo"
    result = _demo(out, tiny_bundle_path, "simulator:width=160,height=120,rate_hz=10")
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] >= 15
    assert summary["frames_per_second"] == pytest.approx(10, abs=3)
    assert summary["iou_percent"]["frames"] == summary["frames"]
    assert {"receive", "engine", "fade", "publish"} <= summary["latency_ms"].keys()
    assert f"frames          {summary['frames']}" in result.stdout
    with (out / "frames.csv").open() as table:
        assert len(list(csv.DictReader(table))) == summary["frames"]
    assert len(list((out / "masks").glob("*.png"))) == summary["frames"]
    for name in ("report.html", "overlay.mp4", "demo.mcap"):
        assert (out / name).stat().st_size > 1000, name


def test_a_source_that_is_missing_is_said_in_one_message(
    tmp_path: Path, tiny_bundle_path: Path
) -> None:
    result = _demo(tmp_path / "demo", tiny_bundle_path, str(tmp_path / "no.mp4"))
    assert result.returncode == 1
    assert "camera_node died" in result.stdout
    assert "no.mp4" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_mask_ends_the_demo_without_a_traceback(
    tmp_path: Path, tiny_bundle_path: Path, number: int, code: int
) -> None:
    command = _command(tmp_path, tiny_bundle_path, "simulator:width=160,height=120")
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "logs/camera_node.log").exists():
        assert time.monotonic() < deadline, "the demo did not start"
        time.sleep(0.02)
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=30)
    assert demo.returncode == code, said
    assert "Traceback" not in said


def test_ctrl_c_while_a_process_starts_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), Graph(tmp_path, {}) as graph:
        graph.start("camera_node", {})
    assert started[0].poll() is not None
