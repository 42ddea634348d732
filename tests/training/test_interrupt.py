"""Ctrl-C and SIGTERM: the step at work is done and saved, and the same command goes on."""

import os
import signal
from multiprocessing import active_children, current_process

import pytest

from cropseg_edge.errors import ConfigError
from training.checkpoint import read_state
from training.config import load_config
from training.interrupt import Held
from training.run import Run
from training.train import train


@pytest.mark.parametrize(
    ("number", "reading", "expected"),
    [
        (signal.SIGINT, 0, KeyboardInterrupt),
        (signal.SIGINT, 1, KeyboardInterrupt),
        (signal.SIGTERM, 1, SystemExit),
    ],
)
def test_a_signal_waits_until_its_step_is_saved(
    micro, config_file, tmp_path, caplog, number, reading, expected
):
    class Interrupted(Run):
        def loss(self, batch):
            if self.step == 3:  # Ctrl-C, and `timeout` or systemd, reach all of the group
                for process in (*active_children(), current_process()):
                    if os.getpgid(process.pid) == os.getpgrp():
                        os.kill(process.pid, number)
            return super().loss(batch)

    caplog.set_level("INFO", "training")
    options = ("size=micro", "save_every=6", f"data.workers={reading}")
    config, before = load_config(config_file, options), signal.getsignal(number)
    with pytest.raises(expected) as raised:
        train(config, tmp_path, Interrupted)
    assert getattr(raised.value, "code", 143) == 143
    assert signal.getsignal(number) is before
    assert "micro: step 4 is saved" in caplog.text
    assert read_state(tmp_path / "last.pt")["step"] == 4
    assert read_state(train(config, tmp_path))["step"] == 6


@pytest.mark.parametrize("told", [False, True], ids=["by itself", "with the run"])
def test_a_reader_that_is_killed_becomes_a_sentence(micro, config_file, tmp_path, told):
    class Robbed(Run):
        def loss(self, batch):
            if self.step == 3:
                if told:
                    os.kill(os.getpid(), signal.SIGTERM)
                for process in active_children():
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
            return super().loss(batch)

    options = ("size=micro", "steps=60", "save_every=2", "data.workers=1")
    config = load_config(config_file, options)
    expected = pytest.raises(SystemExit) if told else pytest.raises(ConfigError, match="was killed")
    with expected:
        train(config, tmp_path, Robbed)
    assert read_state(tmp_path / "last.pt")["step"] >= 2


def test_readers_are_of_another_group(micro, config_file, tmp_path):
    groups = set()

    class Watched(Run):
        def loss(self, batch):
            groups.update(os.getpgid(process.pid) for process in active_children())
            return super().loss(batch)

    train(load_config(config_file, ("size=micro", "data.workers=1")), tmp_path, Watched)
    assert groups
    assert os.getpgrp() not in groups


def test_a_second_signal_acts_at_once():
    with Held() as held:
        os.kill(os.getpid(), signal.SIGINT)
        assert held.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Held() as held:
            os.kill(os.getpid(), signal.SIGINT)
            assert held.number == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_processes_that_train_together_hold_no_signal(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Held(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
