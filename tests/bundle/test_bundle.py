"""A bundle is read whole and unchanged, or refused with a message."""

import io
import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cropseg_edge.bundle import encode_probabilities, read_bundle, write_bundle
from cropseg_edge.bundle.archive import MANIFEST, pack, unpack
from cropseg_edge.bundle.bundle import parse_bundle
from cropseg_edge.bundle.manifest import is_safe_member
from cropseg_edge.bundle.verify import MIN_SHARE, mean_iou, verify_golden
from cropseg_edge.errors import BundleError, ParityError
from cropseg_edge.mask import CROP
from tests.tiny_bundle import tiny_graph, tiny_manifest


@pytest.fixture
def data(tiny_bundle_path: Path) -> bytes:
    return tiny_bundle_path.read_bytes()


def refused(data: bytes) -> str:
    """The message with which these bytes are refused: one or two lines, naming the file."""
    with pytest.raises(BundleError) as caught:
        parse_bundle(data, Path("x.cropseg"))
    message = str(caught.value)
    assert message.count("\n") <= 1
    assert "x.cropseg" in message
    return message


def with_manifest(data: bytes, **changes: object) -> bytes:
    members = unpack(data, "x")
    manifest = json.loads(members[MANIFEST])
    for key, value in changes.items():
        target, keys = manifest, key.split("__")
        for part in keys[:-1]:
            target = target[part]
        if value is None:
            del target[keys[-1]]
        else:
            target[keys[-1]] = value
    return pack({**members, MANIFEST: json.dumps(manifest).encode()})


def test_a_bundle_comes_back_as_it_was_written(tiny_bundle_path: Path) -> None:
    bundle = read_bundle(tiny_bundle_path)
    assert bundle.graph("onnxruntime") == bundle.graph("tensorrt") == tiny_graph()
    assert bundle.path == tiny_bundle_path
    [(image, probabilities)] = bundle.golden()
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert probabilities.shape == (3, 24, 32)
    assert np.allclose(probabilities.sum(0), 1, atol=1.5e-3)


def test_the_same_members_give_the_same_bytes() -> None:
    archive = pack({"b": b"2", MANIFEST: b"{}", "a": b"1"})
    assert archive == pack({"a": b"1", "b": b"2", MANIFEST: b"{}"})
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == [MANIFEST, "a", "b"]


def test_writing_leaves_nothing_but_the_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.cropseg", tiny_manifest(), {"model.onnx": tiny_graph()})
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b.cropseg", tiny_manifest(), {})
    with pytest.raises(BundleError, match="cannot write"):
        write_bundle(tmp_path / "no" / "c.cropseg", tiny_manifest(), {"model.onnx": tiny_graph()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.cropseg"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_is_refused(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    at = draw.draw(st.integers(0, len(data) - 1) | st.integers(len(data) - 400, len(data) - 1))
    changed[at] ^= 1 << draw.draw(st.integers(0, 7))
    refused(bytes(changed))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_bundle_is_refused(data: bytes, share: float) -> None:
    refused(data[: int(len(data) * share)])


def test_bytes_around_the_archive_are_refused(data: bytes) -> None:
    refused(data + b"\0")
    refused(b"#!/bin/sh\n" + data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour"),
        ({"format": 2}, "format"),
        ({"name": None}, "name"),
        ({"name": "../up"}, "name"),
        ({"classes": ["background", "crop"]}, "classes"),
        ({"input__width": "640"}, "input.width"),
        ({"input__width": 0}, "input.width"),
        ({"input__std": [1.0, 0.0, 1.0]}, "input.std"),
        ({"input__gamma": 2.2}, "input.gamma"),
        ({"input__color_order": "hsv"}, "color_order"),
        ({"graphs": {"tensorrt": "model.onnx"}}, "onnxruntime"),
        ({"graphs": {"onnxruntime": "../model.onnx"}}, "relative path"),
        ({"graphs": {"onnxruntime": "other.onnx"}}, "other.onnx"),
        ({"upsampler__gated": False}, "guide and gate"),
        ({"upsampler__tensors__gate": "guide"}, "name of its own"),
        ({"sha256": {}}, "model.onnx|golden"),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(
    data: bytes, changes: dict[str, object], message: str
) -> None:
    import re

    assert re.search(message, refused(with_manifest(data, **changes)))


def test_a_member_that_does_not_match_its_hash_is_refused(data: bytes) -> None:
    members = unpack(data, "x")
    assert "hash" in refused(pack({**members, "model.onnx": members["model.onnx"] + b"\0"}))


def test_members_and_manifest_must_name_each_other(data: bytes) -> None:
    members = unpack(data, "x")
    assert "not in the manifest" in refused(pack({**members, "extra.bin": b"1"}))
    del members["model.onnx"]
    assert "missing" in refused(pack(members))
    assert "no manifest.json" in refused(pack({"model.onnx": b"1"}))


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../x",
        "/x",
        "\\x",
        "a\\b",
        "C:x",
        "C:/x",
        "./x",
        "a//b",
        "a/",
        "",
        "ü",
        "a\n",
        "~/x",
    ],
)
def test_a_member_that_points_elsewhere_is_refused(data: bytes, name: str) -> None:
    assert not is_safe_member(name)
    if name:
        refused(pack({**unpack(data, "x"), name: b"1"}))


def archive_of(*entries: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return buffer.getvalue()


def test_a_symlink_is_refused() -> None:
    info = zipfile.ZipInfo("manifest.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "plain file" in refused(archive_of((info, b"/etc/passwd")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_are_refused() -> None:
    info = zipfile.ZipInfo("manifest.json")
    assert "two members" in refused(archive_of((info, b"{}"), (info, b"{}")))


def test_a_zip_bomb_is_refused_before_it_unpacks() -> None:
    info = zipfile.ZipInfo("manifest.json")
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
    assert "compressed" in refused(archive_of((info, bytes(20_000_000))))


def test_a_lie_about_the_size_is_refused(data: bytes) -> None:
    directory = data.index(b"PK\x01\x02")
    large = bytearray(data)
    large[directory + 20 : directory + 28] = b"\xff\xff\xff\x7f" * 2
    assert "512 MB" in refused(bytes(large))


def test_too_many_members_are_refused() -> None:
    assert "members" in refused(pack({f"m{number}": b"" for number in range(65)}))


def test_an_encrypted_member_is_refused(data: bytes) -> None:
    locked = bytearray(data)
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(bytes(locked))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.cropseg", "no bundle at"),
        (tmp_path, "not a file"),
        (Path("/dev/zero"), "not a file"),
        (Path("a\0b"), "cannot read"),
    ):
        with pytest.raises(BundleError, match=message):
            read_bundle(path)


def test_a_graph_with_external_data_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(tiny_graph())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    tensor.ClearField("raw_data")
    for graph, message in (
        (model.SerializeToString(), "outside"),
        (b"\xff" * 40, "not a readable"),
    ):
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "x.cropseg", tiny_manifest(), {"model.onnx": graph})


def test_external_data_inside_a_subgraph_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    tensor = onnx.TensorProto(name="t", data_type=1, dims=[1])
    tensor.external_data.add(key="location", value="/etc/passwd")
    body = helper.make_graph([helper.make_node("Constant", [], ["t"], value=tensor)], "b", [], [])
    branch = helper.make_node("If", ["c"], ["t"], then_branch=body, else_branch=body)
    graph = helper.make_model(helper.make_graph([branch], "g", [], [])).SerializeToString()
    with pytest.raises(BundleError, match="outside"):
        write_bundle(tmp_path / "x.cropseg", tiny_manifest(), {"model.onnx": graph})


@pytest.mark.parametrize("content", [b"", b"no picture"])
@pytest.mark.parametrize("member", ["golden/0.png", "golden/0.probabilities.png"])
def test_a_golden_picture_that_is_none_is_refused(
    data: bytes, tmp_path: Path, member: str, content: bytes
) -> None:
    members = unpack(data, "x")
    del members[MANIFEST]
    members[member] = content
    bundle = write_bundle(tmp_path / "x.cropseg", tiny_manifest(golden=True), members)
    with pytest.raises(BundleError, match="not a readable PNG"):
        bundle.golden()


def test_golden_probabilities_of_eight_bits_are_refused(data: bytes, tmp_path: Path) -> None:
    members = unpack(data, "x")
    del members[MANIFEST]
    members["golden/0.probabilities.png"] = members["golden/0.png"]
    bundle = write_bundle(tmp_path / "x.cropseg", tiny_manifest(golden=True), members)
    with pytest.raises(BundleError, match="16 bits, got uint8"):
        bundle.golden()


def test_golden_frames_tell_when_results_differ(data: bytes, tmp_path: Path) -> None:
    members = unpack(data, "x")
    del members[MANIFEST]
    bundle = write_bundle(tmp_path / "good.cropseg", tiny_manifest(golden=True), members)
    assert verify_golden(bundle)[0].difference < 5e-4
    members["golden/0.probabilities.png"] = encode_probabilities(bundle.golden()[0][1][::-1])
    swapped = write_bundle(tmp_path / "bad.cropseg", tiny_manifest(golden=True), members)
    with pytest.raises(ParityError, match="golden frame 0"):
        verify_golden(swapped)


def test_a_label_of_a_few_pixels_does_not_decide_on_an_engine() -> None:
    reference = np.zeros((20, 50), np.uint8)
    reference[:10] = 1
    other = reference.copy()
    other[0, :9] = 2  # 0.9 % of the pixels
    assert mean_iou(other, reference) == pytest.approx((1 + 491 / 500) / 2)
    other[0, :10] = 2
    assert mean_iou(other, reference) == pytest.approx((1 + 490 / 500 + 0) / 3)


def test_every_shipped_golden_frame_shows_enough_crop_to_judge_an_engine() -> None:
    for _, reference in read_bundle().golden():
        assert (reference.argmax(0) == CROP).mean() >= MIN_SHARE
