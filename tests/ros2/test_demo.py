"""The demo as a user runs it: three processes, a drive through a simulated field, all files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: make test installs it where it can")
pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")


def _demo(out: Path, bundle: Path, source: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cropseg_ros.demo", "--source", source, "--seconds", "3"]
    command += ["--out", str(out), "--bundle", str(bundle)]
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
