"""Checkpoints that are damaged or are not what they say: refused with the file and the reason."""

import copy
import pickle
import shutil

import pytest
import torch

from cropseg_edge.errors import ConfigError
from training.checkpoint import read_state
from training.config import load_config
from training.train import train

OPTIONS = ("size=micro", "steps=1")


@pytest.fixture(scope="module")
def first(micro, config_file, tmp_path_factory):
    """The state of a first stage, after a step."""
    out = tmp_path_factory.mktemp("first")
    return read_state(train(load_config(config_file, OPTIONS), out))


def without_a_norm(weights):
    del weights["backbone.vit.blocks.0.norm1.bias"]


def cut(weights):
    weights["backbone.prior.stem.0.0.weight"] = weights["backbone.prior.stem.0.0.weight"][:1]


def with_another(weights):
    weights["other"] = torch.zeros(1)


def broken(weights):
    weights["classifier.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_norm, r"do not fit its size \(Missing key.*norm1\.bias"),
        (cut, r"do not fit its size \(size mismatch for .*stem"),
        (with_another, r"do not fit its size \(Unexpected key.*other"),
        (broken, "not finite"),
    ],
)
def test_weights_that_are_not_of_their_size_start_no_run(
    config_file, first, tmp_path, damage, message
):
    state = copy.deepcopy(first)
    damage(state["ema"])
    torch.save(state, tmp_path / "first.pt")
    config = load_config(config_file, (*OPTIONS, f"init={tmp_path}/first.pt"))
    with pytest.raises(ConfigError, match=rf"first\.pt: .*{message}"):
        train(config, tmp_path / "run")
    state["step"] = 1
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match=r"last\.pt: "):
        train(config, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("config", "a: [1"), ("config", "word"), ("config", 3), ("step", "x"), ("step", None)],
)
def test_a_checkpoint_whose_step_or_configuration_is_none_is_refused(first, tmp_path, key, value):
    torch.save(first | {key: value}, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match=r"last\.pt is a damaged checkpoint"):
        read_state(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty, cut off or another kind of file"),
        (b"junk", "empty, cut off or another kind of file"),
        (b"# A README\n\nwith text.\n", "empty, cut off or another kind of file"),
        (pickle.dumps(shutil.copy, protocol=2), "more than tensors and plain values"),
        (None, "No such file"),
    ],
)
def test_why_a_file_is_no_checkpoint_is_said_in_a_few_words(tmp_path, content, reason):
    path = tmp_path / "last.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^\S*last\.pt is no checkpoint .*{reason}[^.]*$"):
        read_state(path)
