"""Two processes, one network: samples, gradients, a kill, and what the checkpoint holds."""

import csv
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket

import pytest
import torch
import torch._dynamo  # it and the next two are here so that no forked process must load them
import torch.distributed.fsdp
import torch.distributed.tensor

from cropseg_edge.errors import ConfigError, CropSegError
from training.checkpoint import load_model, read_state
from training.config import load_config
from training.data.batches import CropDataset, batches
from training.distributed import Workers, join
from training.run import Run
from training.train import train, training_steps

TINY = ("size=micro", "batch=4", "save_every=2")
ONE_STEP = (*TINY, "steps=1", "drop_path=0")


class Plain(Run):
    """Without dropout, whose numbers differ between processes and parts."""

    def __init__(self, config, saved=None):
        super().__init__(config, saved)
        self.model.dropout.p = 0.0


def process(rank, port, config, out, kind, dies):
    torch.set_num_threads(1)  # the pool of the parent's threads does not survive a fork
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        for run in training_steps(config, out, kind):
            if dies == (rank, run.step):
                os.kill(os.getpid(), signal.SIGKILL)
    except CropSegError as error:
        (out / f"error{rank}.txt").write_text(str(error))
        raise SystemExit(2) from error


def train_with_two(config, out, kind=Run, dies=None):
    """Exit codes of two processes; where one dies, the other is ended as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=process, args=(rank, port, config, out, kind, dies)) for rank in (0, 1)
    ]
    for each in started:
        each.start()
    multiprocessing.connection.wait([each.sentinel for each in started], timeout=60)
    if dies is not None:
        started[1 - dies[0]].kill()
    for each in started:
        each.join(60)
    return [each.exitcode for each in started]


def losses(out):
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_a_killed_run_of_two_processes_goes_on_exactly(micro, config_file, tmp_path):
    config = load_config(config_file, (*TINY, "steps=4"))
    assert train_with_two(config, tmp_path / "whole") == [0, 0]
    assert -signal.SIGKILL in train_with_two(config, tmp_path / "resumed", dies=(1, 3))
    assert read_state(tmp_path / "resumed" / "last.pt")["step"] == 2
    assert train_with_two(config, tmp_path / "resumed") == [0, 0]

    whole, resumed = (read_state(tmp_path / run / "last.pt") for run in ("whole", "resumed"))
    assert resumed["step"] == whole["step"] == 4
    for part in ("model", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), name
    assert losses(tmp_path / "whole") == losses(tmp_path / "resumed")
    assert len(losses(tmp_path / "whole")) == 2


@pytest.fixture(scope="module")
def of_one(micro, config_file, tmp_path_factory):
    """What one process has after a step in two parts: state and losses."""
    out = tmp_path_factory.mktemp("one")
    path = train(load_config(config_file, (*ONE_STEP, "accumulate=2")), out, Plain)
    return read_state(path), losses(out)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_as_one_that_takes_two_parts(config_file, tmp_path, of_one, parallel):
    shared = load_config(config_file, (*ONE_STEP, f"parallel={parallel}"))
    assert train_with_two(shared, tmp_path, Plain) == [0, 0]
    alone, expected = of_one
    assert losses(tmp_path) == expected
    _, state = load_model(tmp_path / "last.pt")
    for index, moments in alone["optimiser"]["state"].items():  # after one step: the gradients
        gradient = moments["exp_avg"]
        got = state["optimiser"]["state"][index]["exp_avg"]
        torch.testing.assert_close(got, gradient, rtol=1e-2, atol=1e-6)
    further = load_config(config_file, (*ONE_STEP, "steps=2"))
    assert read_state(train(further, tmp_path, Plain))["step"] == 2


def seen_late_by_the_second(config):
    """A picture that the second process sees first, after the first step; and that step."""
    dataset, stems = CropDataset(config, config.steps * config.batch), []
    read = dataset.read
    dataset.read = lambda chosen, stem: stems.append(stem) or read(chosen, stem)
    for sample, _ in enumerate(dataset):
        step, place = divmod(sample, config.batch)
        if step and place >= config.batch // 2 and stems[-1] not in stems[:-1]:
            return stems[-1], step
    raise AssertionError("no such picture: take another seed")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_picture_that_one_process_cannot_read_costs_no_step(
    micro, config_file, field_root, tmp_path, parallel
):
    root = shutil.copytree(field_root, tmp_path / "root")
    own = (f"data.roots=['{root}']", "data.weights={complete: 1}", "data.cache=0", "steps=4")
    config = load_config(config_file, (*TINY, *own, "save_every=9", f"parallel={parallel}"))
    stem, step = seen_late_by_the_second(config)
    path = root / "complete" / "images" / f"{stem}.jpg"
    before = path.read_bytes()
    path.write_bytes(before[:200])

    assert train_with_two(config, tmp_path) == [2, 2]
    messages = [(tmp_path / f"error{rank}.txt").read_text() for rank in (0, 1)]
    assert "another process" in messages[0]
    assert path.name in messages[1]
    assert all(f"step {step} is saved" in message for message in messages)
    assert read_state(tmp_path / "last.pt")["step"] == step

    path.write_bytes(before)
    alone = config.model_copy(update={"parallel": "ddp"})
    assert read_state(train(alone, tmp_path))["step"] == 4


def test_the_processes_of_a_run_see_what_one_would_see(config_file):
    config = load_config(config_file, ("batch=4", "steps=3"))
    cpu = torch.device("cpu")
    whole = [image for image, _ in batches(config, 1)]
    halves = zip(*(batches(config, 1, Workers(rank, 2, cpu)) for rank in (0, 1)), strict=True)
    for image, ((first, _), (second, _)) in zip(whole, halves, strict=True):
        assert torch.equal(image, torch.cat([first, second]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("batch=3", "accumulate=2"), "choose a multiple"),
        (("parallel=fsdp",), "torchrun"),
        (("parallel=fsdp", "precision=fp16"), "bf16"),
    ],
)
def test_what_cannot_be_shared_is_refused(micro, config_file, options, message):
    with pytest.raises(ConfigError, match=message):
        Run(load_config(config_file, ("size=micro", *options)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    assert join("auto").device.type == "cpu"
    with pytest.raises(ConfigError, match="no GPU"):
        join("cuda")
