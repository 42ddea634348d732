"""A training step recorded as a CUDA graph does what the step does; skipped without a GPU."""

import pytest
import torch

from training.config import load_config
from training.train import train

if not torch.cuda.is_available():
    pytest.skip("torch sees no GPU", allow_module_level=True)


@pytest.fixture
def trained(tmp_path, config_file):
    def run(name: str, *options: str) -> dict:
        chosen = ("device=cuda", "data.resident=true", "precision=fp32", *options)
        path = train(load_config(config_file, chosen), tmp_path / name)
        return torch.load(path, map_location="cpu", weights_only=True)

    return run


def test_a_graph_trains_as_single_kernels_do(trained):
    one, other = trained("eager", "steps=8"), trained("graph", "steps=8", "graph=true")
    for name, value in one["ema"].items():
        torch.testing.assert_close(other["ema"][name], value, rtol=1e-2, atol=1e-3)


def test_a_run_that_began_as_a_graph_goes_on_without(trained):
    trained("run", "steps=5", "graph=true")
    state = trained("run", "steps=10")
    assert state["step"] == 10
    assert all(isinstance(group["lr"], float) for group in state["optimiser"]["param_groups"])
