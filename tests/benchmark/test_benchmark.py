"""`cropseg bench` and what is under it, with a network of a millisecond."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropseg_edge.benchmark import benchmark, load_frames, table
from cropseg_edge.benchmark.figures import change
from cropseg_edge.benchmark.sensors import Sensors
from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine
from cropseg_edge.errors import EngineError, FrameError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.segmenter import Segmenter
from tests.cli.conftest import Cropseg, cropseg
from tests.doctor.conftest import Planted, orin, plant
from tests.frames.conftest import RAW, raw_fields, write_bag

__all__ = ["cropseg", "orin", "write_bag"]

STAGES = ["check", "preprocess", "engine", "fade", "decode", "end to end"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of noise on soil, in a folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        image = rng.integers(60, 190, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder


def test_a_benchmark_names_what_was_measured_and_on_what(
    orin: Planted, tiny_bundle_path: Path, pictures: Path
) -> None:
    frames, described = load_frames(str(pictures))
    assert (described["frames"], described["width"], described["height"]) == (3, 128, 96)
    with Segmenter(tiny_bundle_path, threads=1) as segmenter:
        document = benchmark(segmenter, frames, count=7, warm_up=2, system=orin)
        assert document["bundle"]["sha256"] == segmenter.bundle.sha256
    assert document["engine"] == {"name": "onnxruntime", "precision": "fp32"}
    assert document["measured"]["frames"] == 7
    assert list(document["measured"]["latency_ms"]) == STAGES
    assert document["warm_up"]["frames"] == 2
    assert list(document["warm_up"]["latency_ms"]) == STAGES
    assert document["machine"]["l4t"] == "36.4.3"
    assert document["machine"]["power_mode"] == "15W"
    assert document["before"]["clocks"]["gpu"]["mhz"] == 306
    assert document["after"]["celsius"]["gpu-thermal"] == 50.25
    assert document["watts"]["VDD_IN"] == {"mean": 5.08, "max": 5.08}
    assert document["available_mb_min"] == 5468
    json.dumps(document)


def test_the_table_of_a_jetson(orin: Planted, tiny_bundle_path: Path, pictures: Path) -> None:
    plant(orin.root, {"/proc/loadavg": "99.00 3.00 2.00 1/200 4711"})
    frames, described = load_frames(str(pictures))
    with Segmenter(tiny_bundle_path, threads=1) as segmenter:
        document = benchmark(segmenter, frames, count=2, warm_up=0, system=orin)
    text = table({**document, "source": described})
    for line in (
        "board        NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, "
        "JetPack 6.2 (L4T 36.4.3), power mode 15W",
        "before       load 99.0, cpu 730/1510 MHz, gpu 306/612 MHz, 50 °C (gpu-thermal)",
        "VDD_IN       5.1 W mean, 5.1 W max",
        "busy         other programs wanted 99.0",
    ):
        assert line in text


def test_an_engine_that_fails_is_not_praised_for_its_speed(
    orin: Planted, tiny_bundle_path: Path
) -> None:
    black = Frame(np.zeros((96, 128, 3), np.uint8), 0, "", 0, "black")
    with Segmenter(tiny_bundle_path, threads=1) as segmenter:
        document = benchmark(segmenter, [black], count=3, warm_up=0, system=orin)
    assert document["verdict"].endswith("NOT USABLE: 3 of 3 masks are INVALID")
    assert sum(document["measured"]["reasons"].values()) == 3
    assert document["measured"]["engine_failures"] == 0, "the picture is at fault"


def test_the_command_fails_where_the_engine_did(
    cropseg: Cropseg,
    tmp_path: Path,
    tiny_bundle_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: OnnxRuntimeEngine, image: np.ndarray) -> object:
        raise EngineError("out of luck")

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", fail)
    out = tmp_path / "bench.json"
    result = cropseg(
        "bench", tiny_bundle_path, "--source", pictures, "--frames", 3, "--warm-up", 0,
        "--engine", "onnxruntime", "--json", out,
    )  # fmt: skip
    assert result.code == 2
    assert "  3 x out of luck" in result.out
    assert "error: the engine failed on 3 of 3 frames" in result.err
    assert json.loads(out.read_text())["measured"]["engine_failures"] == 3


def test_the_topic_of_a_bag_can_be_chosen(
    tmp_path: Path, write_bag: Callable[..., Path], cropseg: Cropseg
) -> None:
    images = {
        "/left": np.full((48, 64, 3), 90, np.uint8),
        "/right": np.zeros((32, 48, 3), np.uint8),
    }
    messages = [(topic, RAW, 1, raw_fields(image)) for topic, image in images.items()]
    bag = write_bag(tmp_path / "bag", messages)
    assert load_frames(str(bag))[1]["width"] == 64
    assert load_frames(str(bag), topic="/right")[1]["width"] == 48
    result = cropseg("bench", "--source", bag, "--topic", "/up")
    assert result.code == 2
    assert "/up" in result.err


def test_a_source_without_a_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        load_frames(str(tmp_path / "nothing"))


def test_sensors_of_a_machine_without_any(tmp_path: Path) -> None:
    with Sensors(Planted(root=tmp_path)) as sensors:
        pass
    assert sensors.watts() == {}
    assert sensors.resident_mb() is None
    assert sensors.available_mb() is None


def test_sensors_keep_mean_and_maximum(orin: Planted) -> None:
    sensors = Sensors(orin)
    sensors.read()
    (orin.root / "sys/class/hwmon/hwmon1/curr1_input").write_text("3000\n")
    sensors.read()
    assert sensors.watts()["VDD_IN"] == {"mean": 10.16, "max": 15.24}


def test_the_command_prints_a_table_and_writes_everything(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, pictures: Path
) -> None:
    out = tmp_path / "bench.json"
    result = cropseg(
        "bench", tiny_bundle_path, "--source", pictures, "--frames", 5, "--warm-up", 1,
        "--threads", 1, "--json", out,
    )  # fmt: skip
    assert result.code == 0, result
    for word in (*STAGES, "p99", "onnxruntime fp32", "128x96", "5 OK", "one after the other"):
        assert word in result.out
    document = json.loads(out.read_text())
    assert result.out.rstrip().endswith(document["verdict"])
    assert document["versions"]["cropseg_edge"]
    assert document["source"]["name"] == str(pictures)
    assert document["resident_mb_max"] > 10
    piped = cropseg("bench", tiny_bundle_path, "--source", pictures, "--frames", 2, "--json", "-")
    assert json.loads(piped.out).keys() == document.keys()


def test_the_command_at_a_rate_counts_deadlines(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, pictures: Path
) -> None:
    out = tmp_path / "bench.json"
    result = cropseg(
        "bench", tiny_bundle_path, "--source", pictures, "--rate", 200, "--seconds", 0.05,
        "--json", out,
    )  # fmt: skip
    assert result.code == 0, result
    measured = json.loads(out.read_text())["measured"]
    assert measured["released"] == 10
    assert measured["frames"] == 10 - measured["skipped"]
    assert measured["deadline_ms"] == 5
    assert "released at 200 Hz" in result.out
    assert "at 200 Hz" in result.out.splitlines()[-1]


def test_two_measurements_side_by_side(
    cropseg: Cropseg, tmp_path: Path, tiny_bundle_path: Path, pictures: Path
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        cropseg("bench", tiny_bundle_path, "--source", pictures, "--frames", 50, "--json", file)
    document = json.loads(files[1].read_text())
    assert len(document["measured"]["p50_of_fifths_ms"]) == 5
    document["measured"]["latency_ms"]["engine"] = {"p50": 2.0, "p99": 4.0}
    document["measured"]["p50_of_fifths_ms"] = [1e6] * 5
    files[1].write_text(json.dumps(document))
    first = json.loads(files[0].read_text())["measured"]["latency_ms"]["engine"]["p50"]
    result = cropseg("bench", "--compare", *files)
    assert result.code == 0, result
    (line,) = [line for line in result.out.splitlines() if line.startswith("engine")]
    assert line.split()[2:4] == ["2.0", f"{first / 2:.2f}"]
    assert "times slower" in result.out.splitlines()[-1]
    document["measured"]["p50_of_fifths_ms"] = []
    files[1].write_text(json.dumps(document))
    assert "no verdict" in cropseg("bench", "--compare", *files).out.splitlines()[-1]
    ignored = cropseg("bench", tiny_bundle_path, "--compare", *files, "--json", tmp_path / "c.json")
    assert ignored.code == 2
    assert "leave out BUNDLE, --json" in ignored.err


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([50, 50, 50, 50, 50], "B is 2.00 times faster"),
        ([150, 150, 151, 150, 150], "B is 1.50 times slower"),
        ([98, 99, 103, 100, 101], "no change"),
        ([125, 125, 125, 125, 100], "no change"),
    ],
)
def test_a_change_is_one_where_it_is_larger_than_the_noise(second: list[float], said: str) -> None:
    assert change([100, 100, 100, 100, 100], second).startswith(said)


@pytest.mark.parametrize("second", [[0.0] * 5, [float("nan")] * 5])
def test_times_that_are_none_make_no_change(second: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        change([100, 100, 100, 100, 100], second)


@pytest.mark.parametrize(
    "option", ["--seconds=nan", "--seconds=inf", "--rate=nan", "--rate=1e-300", "--rate=0"]
)
def test_times_that_never_end_are_refused(cropseg: Cropseg, option: str) -> None:
    result = cropseg("bench", option)
    assert result.code == 2
    assert "Invalid value" in result.err


_WRONG = (
    '{"machine": {"board": "b"}, "engine": {"name": "n", "precision": "p"}, "verdict": "v", '
    '"bundle": {"name": "n", "sha256": "0"}, "versions": {"cropseg_edge": "1"}, '
    '"measured": {"latency_ms": {"engine": {"p50": "fast", "p99": "fast"}}}}'
)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", _WRONG])
def test_files_that_are_no_measurements_are_refused(
    cropseg: Cropseg, tmp_path: Path, text: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    result = cropseg("bench", "--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert result.code == 2
    assert "a.json" in result.err
    assert "Traceback" not in result.err
