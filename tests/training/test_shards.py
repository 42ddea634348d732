"""Shards: the same samples as from folders, plain WebDataset, killed and resumed, damaged."""

import json
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import torch

from cropseg_edge.errors import ConfigError, CropSegError, FrameError
from training.config import load_config
from training.data.batches import CropDataset
from training.data.fields import find_set
from training.data.shards import write_shards
from training.validation import validation_pictures


@pytest.fixture
def packed(field_root, tmp_path):
    """The folders' pictures, three a shard."""
    write_shards(field_root, "train", tmp_path / "shards", per_shard=3)
    return tmp_path / "shards"


def read_all(root):
    field = find_set([root], "complete", "train")
    return [field.read(stem) for stem in field.pairs]


def test_a_run_over_shards_sees_what_a_run_over_folders_sees(config_file, packed):
    folders = load_config(config_file, ("data.validation=0.5",))
    shards = load_config(config_file, ("data.validation=0.5", f"data.roots=['{packed}']"))
    both = [CropDataset(config, 12) for config in (folders, shards)]
    for index in range(12):
        for one, other in zip(both[0][index], both[1][index], strict=True):
            assert torch.equal(one, other)
    stems = [[stem for _, stem in validation_pictures(config)] for config in (folders, shards)]
    assert stems[0] == stems[1] != []


def test_shards_are_what_a_webdataset_reader_expects(field_root, packed):
    samples = {}
    for path in sorted((packed / "complete").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, ending = member.name.split(".", 1)
                samples.setdefault(key, {})[ending] = tar.extractfile(member).read()
    assert sorted(samples) == [f"{i:09d}" for i in range(8)]
    for sample in samples.values():
        about = json.loads(sample["json"])
        assert about["dataset"] == "complete"
        folder = field_root / "complete"
        assert sample["jpg"] == (folder / "images" / f"{about['stem']}.jpg").read_bytes()
        assert sample["mask.png"] == (folder / "masks" / f"{about['stem']}.png").read_bytes()


def test_packing_that_was_killed_goes_on(field_root, packed):
    folder = packed / "complete"
    index = (folder / "train.csv").read_bytes()
    kept = (folder / "train-000000.tar").stat().st_mtime_ns
    whole = (folder / "train-000001.tar").read_bytes()
    (folder / "train.csv").unlink()
    (folder / "train-000001.tar").unlink()
    assert write_shards(field_root, "train", packed, per_shard=3) == {"complete": 8, "open": 8}
    assert (folder / "train.csv").read_bytes() == index
    assert (folder / "train-000000.tar").stat().st_mtime_ns == kept
    assert (folder / "train-000001.tar").read_bytes() == whole


def test_sets_are_added_to_shards_one_by_one(field_root, tmp_path):
    for name in ("complete", "open"):
        assert write_shards(field_root, "train", tmp_path, sets=(name,)) == {name: 8}
    assert len(find_set([tmp_path], "complete", "train").pairs) == 8
    assert find_set([tmp_path], "open", "train").licence == "MIT"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_shard": 4}, "other pictures"),
        ({"sets": ("missing",)}, "missing"),
        ({"split": "test"}, "nothing in split 'test'"),
    ],
)
def test_shards_of_something_else_are_refused(field_root, packed, options, message):
    with pytest.raises(ConfigError, match=message):
        write_shards(field_root, options.pop("split", "train"), packed, **options)


@pytest.mark.parametrize("damage", ["shard", "index", "gone", "cut", "empty"])
def test_a_damaged_shard_is_named(field_root, packed, damage):
    shard, index = packed / "complete" / "train-000000.tar", packed / "complete" / "train.csv"
    if damage == "shard":
        shard.write_bytes(b"no tar file" * 100)
        with pytest.raises(ConfigError, match=r"train-000000\.tar"):
            write_shards(field_root, "train", packed, per_shard=3)
    elif damage == "index":
        index.write_text("stem,shard\np0,train-000000.tar\n")
    elif damage == "empty":
        index.write_text(index.read_text().splitlines()[0] + "\n")
    elif damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(CropSegError, match=r"train(-000000\.tar|\.csv)"):
        read_all(packed)


def test_a_bad_picture_stops_packing_and_is_named(field_root, tmp_path):
    root = shutil.copytree(field_root, tmp_path / "root")
    cv2.imwrite(str(root / "open" / "masks" / "p3.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(FrameError, match=r"p3\.png: the mask is 8x8, its image 96x64"):
        write_shards(root, "train", tmp_path / "shards")
