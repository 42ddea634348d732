"""Fixtures: a graph of this test run alone, and a segmentation node in it as a separate process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def private_domain() -> Iterator[None]:
    """Keep the graph to this computer and to this run; before anything starts rclpy."""
    from cropseg_ros.transport import environment, private_graph

    os.environ.update(private_graph())
    os.environ.update(environment())
    yield
    # Processes that a test killed leave 128 MiB of shared memory each.
    if fastdds := shutil.which("fastdds", path=f"{sys.prefix}/bin:{os.environ['PATH']}"):
        subprocess.run([fastdds, "shm", "clean"], stdout=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def harness(private_domain: None) -> Iterator[object]:
    """A camera and a consumer of masks, in this process."""
    pytest.importorskip("cropseg_msgs", reason="needs cropseg_msgs: source ros2_ws/env.sh")
    from tests.ros2.harness import Harness

    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def graph(private_domain: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Starts processes; stops what still runs."""
    from cropseg_ros.graph import Graph

    logs: Path = tmp_path_factory.mktemp("logs")
    with Graph(logs, {}) as graph:
        yield graph
