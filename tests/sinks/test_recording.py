"""A recorded run leaves complete files that say what happened."""

import csv
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cropseg_edge.errors import ConfigError
from cropseg_edge.frames import Frame, open_source
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.sinks import RunRecorder

Make = Callable[..., tuple[Frame, CropMask]]


def recorder(out: Path, **options: Any) -> RunRecorder:
    return RunRecorder(
        out,
        source="simulator:",
        bundle_name="nano",
        bundle_sha256="ab" * 32,
        engine="onnxruntime fp32",
        **options,
    )


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_masks_are_written_with_the_label_values(tmp_path: Path, pair: Make) -> None:
    frame, mask = pair()
    with recorder(tmp_path) as run:
        run.record(frame, mask)
    written = cv2.imread(str(tmp_path / "masks" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, mask.labels)
    assert cv2.imread(str(tmp_path / "overlays" / "000000.jpg")).shape == frame.image.shape


def test_a_line_is_on_disk_as_soon_as_its_frame_is_recorded(tmp_path: Path, pair: Make) -> None:
    run = recorder(tmp_path)
    for sequence in range(3):
        run.record(*pair(sequence))
        assert [row["sequence"] for row in rows(tmp_path)] == [str(n) for n in range(sequence + 1)]
    run.close()


def test_a_row_holds_the_figures_of_its_frame(tmp_path: Path, pair: Make) -> None:
    with recorder(tmp_path) as run:
        run.record(*pair(3, status=Status.DEGRADED, reason='dark, "very"'))
    (row,) = rows(tmp_path)
    expected = {
        "sequence": "3",
        "name": "000003",
        "stamp_ns": "5300000000",
        "width": "64",
        "height": "48",
        "status": "DEGRADED",
        "reason": 'dark, "very"',
        "crop_percent": "8.333",
        "weed_percent": "4.167",
        "unknown_percent": "0.0",
        "mean_confidence": "0.8",
        "vegetation_iou_percent": "100.0",
        "crop_iou_percent": "100.0",
        "total_ms": "87.0",
        "engine_ms": "83.0",
        "upsample_ms": "4.0",
    }
    assert row == expected


def test_stages_that_appear_late_become_columns(tmp_path: Path, pair: Make) -> None:
    with recorder(tmp_path, overlays=False) as run:
        run.record(*pair(0, stage_ms={}))
        run.record(*pair(1))
        run.record(*pair(2, stage_ms={"check": 1.0}))
    assert [row["engine_ms"] for row in rows(tmp_path)] == ["", "81.0", ""]
    assert [row["check_ms"] for row in rows(tmp_path)] == ["", "", "1.0"]
    assert not (tmp_path / "overlays").exists()


def test_the_summary_counts_and_averages(tmp_path: Path, pair: Make) -> None:
    run = recorder(tmp_path)
    for sequence in range(9):
        run.record(*pair(sequence))
    run.record(*pair(9, status=Status.INVALID, reason="not finite"))
    summary = run.close(failed=2)
    assert run.close() is summary
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["frames"] == 10
    assert summary["failed"] == 2
    assert summary["status"] == {"OK": 9, "DEGRADED": 0, "INVALID": 1}
    assert summary["reasons"] == {"not finite": 1}
    assert summary["bundle"] == {"name": "nano", "sha256": "ab" * 32}
    assert summary["latency_ms"]["engine"]["p50"] == 84.5
    assert summary["latency_ms"]["engine"]["max"] == 89.0
    assert list(summary["latency_ms"]) == ["engine", "upsample", "total"]
    assert summary["cover_percent"]["unknown"] == 10.0
    assert summary["iou_percent"] == {"vegetation": 100.0, "crop": 100.0, "frames": 10}
    assert {"cropseg_edge", "python", "os", "cpu", "numpy", "opencv", "onnxruntime"} <= set(
        summary["versions"]
    )


def test_a_run_without_frames_closes(tmp_path: Path) -> None:
    summary = recorder(
        tmp_path, report=True, video=tmp_path / "v.webm", mcap=tmp_path / "b.mcap"
    ).close()
    assert summary["frames"] == 0
    assert (tmp_path / "report.html").exists()
    assert not (tmp_path / "v.webm").exists()


def test_partial_results_survive_an_error(tmp_path: Path, pair: Make) -> None:
    def lose_the_camera() -> None:
        with recorder(tmp_path, report=True) as run:
            run.record(*pair(0))
            raise RuntimeError("camera gone")

    with pytest.raises(RuntimeError, match="camera gone"):
        lose_the_camera()
    assert json.loads((tmp_path / "summary.json").read_text())["frames"] == 1
    assert (tmp_path / "report.html").exists()


def test_an_earlier_run_is_cleared_and_foreign_files_stay(tmp_path: Path, pair: Make) -> None:
    with recorder(tmp_path, report=True) as run:
        run.record(*pair(7))
    (tmp_path / "notes.txt").write_text("mine")
    with recorder(tmp_path) as run:
        run.record(*pair(1))
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["000001.png"]
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["000001.jpg"]
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("name", ["masks/000000.png", "overlays/a.jpg"])
def test_somebodys_labels_are_not_overwritten(tmp_path: Path, pair: Make, name: str) -> None:
    foreign = tmp_path / name
    foreign.parent.mkdir()
    foreign.write_text("labels")
    with pytest.raises(ConfigError, match="choose another --out"):
        recorder(tmp_path)
    assert foreign.read_text() == "labels"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may become larger than 64 KiB: writing fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("kind", ["video", "mcap"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, pair: Make, kind: str) -> None:
    name = {"video": "a.webm", "mcap": "a.mcap"}[kind]
    noise = np.random.default_rng(0)

    def fill() -> None:
        with recorder(tmp_path / "out", overlays=False, **{kind: tmp_path / name}) as run:
            for sequence in range(12):
                frame, mask = pair(sequence, size=(320, 240))
                frame.image[:] = noise.integers(0, 256, frame.image.shape)
                run.record(frame, mask)

    with pytest.raises(OSError, match="too large"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(rows(tmp_path / "out")) == len(list((tmp_path / "out/masks").iterdir())) > 0


def test_nothing_temporary_is_left(tmp_path: Path, pair: Make) -> None:
    options = {"video": tmp_path / "v.webm", "mcap": tmp_path / "b.mcap", "report": True}
    with recorder(tmp_path, **options) as run:
        run.record(*pair())
        assert not (tmp_path / "v.webm").exists()
        assert not (tmp_path / "b.mcap").exists()
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert names == {
        "b.mcap",
        "frames.csv",
        "masks",
        "masks/000000.png",
        "overlays",
        "overlays/000000.jpg",
        "report.html",
        "summary.json",
        "v.webm",
    }


@pytest.mark.parametrize("name", ["drive.webm", "drive.mp4"])
def test_the_video_plays_even_when_the_size_changes(tmp_path: Path, pair: Make, name: str) -> None:
    with recorder(tmp_path, video=tmp_path / name, rate_hz=5.0) as run:
        for sequence, size in enumerate([(64, 48), (80, 60), (64, 48)]):
            run.record(*pair(sequence, size=size))
    source = open_source(tmp_path / name)
    frames = list(source)
    source.close()
    assert source.rate_hz == 5.0
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 3


def test_the_bag_is_read_back_by_the_bag_source(tmp_path: Path, pair: Make) -> None:
    pairs = [pair(sequence) for sequence in range(4)]
    with recorder(tmp_path, mcap=tmp_path / "run.mcap") as run:
        for frame, mask in pairs:
            run.record(frame, mask)
    images = list(open_source(tmp_path / "run.mcap"))
    masks = list(open_source(tmp_path / "run.mcap", topic="/cropseg/mask"))
    for (frame, mask), image, labels in zip(pairs, images, masks, strict=True):
        assert image.stamp_ns == labels.stamp_ns == frame.stamp_ns
        assert image.frame_id == labels.frame_id == "cam"
        assert np.abs(image.image.astype(int) - frame.image).max() <= 3
        assert np.array_equal(labels.image[..., 0], mask.labels)


def test_the_bag_replaces_an_earlier_one(tmp_path: Path, pair: Make) -> None:
    for count in (3, 1):
        with recorder(tmp_path, mcap=tmp_path / "run.mcap") as run:
            for sequence in range(count):
                run.record(*pair(sequence))
    assert len(list(open_source(tmp_path / "run.mcap"))) == 1


def test_the_bag_has_what_foxglove_needs(tmp_path: Path, pair: Make) -> None:
    with recorder(tmp_path, mcap=tmp_path / "run.mcap") as run:
        run.record(*pair())
    data = (tmp_path / "run.mcap").read_bytes()
    assert data.startswith(b"\x89MCAP0\r\n")
    assert data.endswith(b"\x89MCAP0\r\n")
    # Header: opcode, record length, then the profile as a length-prefixed string.
    assert data[8:9] == b"\x01"
    assert data[17:25] == b"\x04\0\0\0ros2"
    for text in (b"sensor_msgs/msg/CompressedImage", b"ros2msg", b"cdr", b"MSG: std_msgs/Header"):
        assert text in data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": "a.avi"}, r"a\.avi: expected a name that ends in \.webm or \.mp4"),
        ({"mcap": "a.bag"}, r"a\.bag: expected a name that ends in \.mcap"),
        ({"mcap": "file/a.mcap"}, "cannot write to"),
        ({"video": "folder.mp4"}, "this is a folder"),
        ({"mcap": "folder.mcap"}, "this is a folder"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mcap").mkdir()
    with pytest.raises(ConfigError, match=message):
        recorder(tmp_path / "out", **{key: tmp_path / name for key, name in options.items()})
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*out"):
        recorder(tmp_path / "out")


def test_somebodys_table_is_no_proof_of_an_earlier_run(tmp_path: Path, pair: Make) -> None:
    (tmp_path / "frames.csv").write_text("name,stamp\n1,2\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/1.png").write_text("labels")
    with pytest.raises(ConfigError, match="not an earlier run's"):
        recorder(tmp_path)
    assert (tmp_path / "masks/1.png").read_text() == "labels"
    assert (tmp_path / "frames.csv").read_text() == "name,stamp\n1,2\n"


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, pair: Make) -> None:
    with recorder(tmp_path / "out", mcap=tmp_path / "a.mcap") as run:
        run.record(*pair(0))
        with pytest.raises(ConfigError, match="another run is writing to"):
            recorder(tmp_path / "out")
        run.record(*pair(1))
    assert len(rows(tmp_path / "out")) == 2
    with recorder(tmp_path / "out") as run:
        run.record(*pair(2))
    assert len(rows(tmp_path / "out")) == 1


@pytest.mark.parametrize("rate_hz", [90.123, 1 / 0.015, 1e-3, 5000.0])
@pytest.mark.parametrize("name", ["a.webm", "a.mp4"])
def test_a_video_is_written_at_any_rate(
    tmp_path: Path, pair: Make, rate_hz: float, name: str
) -> None:
    with recorder(tmp_path, video=tmp_path / name, rate_hz=rate_hz) as run:
        run.record(*pair())
    assert (tmp_path / name).exists()


def test_a_video_may_have_a_colon_in_its_relative_name(
    tmp_path: Path, pair: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with recorder(tmp_path, video=Path("12:30.mp4")) as run:
        run.record(*pair())
    assert (tmp_path / "12:30.mp4").exists()


def test_a_video_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only names in UTF-8"):
        recorder(tmp_path, video=tmp_path / "\udcff.mp4")


@pytest.mark.parametrize("name", ["a\udcff", "田" * 82], ids=["not UTF-8", "246 bytes"])
def test_frames_may_have_any_name_that_a_file_may_have(
    tmp_path: Path, pair: Make, name: str
) -> None:
    frame, mask = pair()
    with recorder(tmp_path, report=True) as run:
        for stages in ({}, {"engine": 1.0}):  # a new column writes the table again
            run.record(replace(frame, name=name), replace(mask, stage_ms=stages))
    assert (tmp_path / "masks" / f"{name}.png").exists()
    assert rows(tmp_path)[0]["name"] == name.replace("\udcff", "\\udcff")
