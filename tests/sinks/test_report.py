"""report.html is one file that shows the run, and the worst of it."""

import csv
import json
import re
import xml.dom.minidom
from collections.abc import Callable
from pathlib import Path

import pytest

from cropseg_edge.frames import Frame
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.sinks import RunRecorder
from cropseg_edge.sinks.report import choose_stills, write_report

Make = Callable[..., tuple[Frame, CropMask]]


def record(out: Path, pair: Make, count: int, *, truth: bool = True) -> str:
    with RunRecorder(
        out,
        source="drive <script>&.mcap",
        bundle_name="nano",
        bundle_sha256="cd" * 32,
        engine="onnxruntime fp32",
        report=True,
    ) as run:
        for sequence in range(count):
            bad = sequence == 2
            status = Status.INVALID if bad else Status.OK
            reason = "output is not finite" if bad else ""
            run.record(*pair(sequence, status=status, reason=reason, truth=truth))
    return (out / "report.html").read_text()


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("count", [1, 2, 20, 900])
def test_the_report_is_complete_and_self_contained(
    tmp_path: Path, pair: Make, count: int, truth: bool
) -> None:
    page = record(tmp_path, pair, count, truth=truth)
    for text in ("cd" * 32, "onnxruntime fp32", "p99", "not a safety component", "data:image/jpeg"):
        assert text in page
    assert ("IoU against ground truth" in page) == truth
    assert ("output is not finite" in page) == (count > 2)
    assert "drive &lt;script&gt;&amp;.mcap" in page
    assert not re.search(r"<script|https?://|url\(|@import|<link", page)
    assert not re.search(r"\bnan\b|\binf\b|None", page)
    assert len(page) < 600_000
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        xml.dom.minidom.parseString(svg)


def test_the_worst_frame_is_among_the_stills(tmp_path: Path, pair: Make) -> None:
    page = record(tmp_path, pair, 40)
    assert re.search(r"worst frame</b> 000002 · INVALID", page)
    assert page.count("<figure") == 6


def test_a_report_is_made_again_from_the_files(tmp_path: Path, pair: Make) -> None:
    page = record(tmp_path, pair, 10)
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((tmp_path / "summary.json").read_text())
    path = write_report(tmp_path, summary, rows, choose_stills(rows, tmp_path / "overlays"))
    assert path.read_text() == page


def test_missing_overlays_leave_the_rest(tmp_path: Path, pair: Make) -> None:
    record(tmp_path, pair, 3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "No overlays" in write_report(tmp_path, summary, [], []).read_text()
