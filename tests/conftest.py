"""Shared fixtures: a small bundle with a real ONNX graph, for every test that needs a model."""

import os
import signal
from pathlib import Path

import pytest

from tests.tiny_bundle import write_tiny_bundle

# Networks of the tests are so small that threads cost more than they bring: five times the time,
# where the processor has other work. Read when PyTorch is first imported, by children as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A run in the background starts with Ctrl-C ignored, one under nohup with SIGHUP, and so would what
# the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a 64x48 (W x H) colour-index network: green is crop, red is weed."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.cropseg"
    write_tiny_bundle(path)
    return path
