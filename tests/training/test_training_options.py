"""Options of training: schedules, layer decay, precision, memory, drop path, trunk, benchmark."""

import json

import pytest
import torch
from click.testing import CliRunner

from training.__main__ import cli
from training.benchmark import FixedBatch, benchmark
from training.checkpoint import read_state
from training.config import OptimiserConfig, load_config
from training.models.registry import build
from training.optimiser import learning_rate
from training.run import Run
from training.start import start
from training.train import train


@pytest.mark.parametrize(
    ("options", "expected"),  # of the steps 0, 5, 50 and 75 of 100
    [
        ({}, (0.1, 0.6, 1.0, 0.625)),
        ({"schedule": "constant-linear", "decay": 0.5}, (0.1, 0.6, 1.0, 0.5)),
        ({"schedule": "cosine"}, (0.1, 0.5963, 0.5, 0.1464)),
        ({"schedule": "poly"}, (0.1, 0.57, 0.5, 0.25)),
        ({"schedule": "poly", "power": 2.0}, (0.1, 0.5415, 0.25, 0.0625)),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(options, expected):
    config = OptimiserConfig(lr=2.0, warmup=10, **options)
    rates = [learning_rate(step, 100, config) / 2 for step in (0, 5, 50, 75)]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_a_configuration_overrides_its_sizes_form(config_file):
    options = ("drop_path=0.4", "last_step=bilinear", "fine=2", "subpixel=1")
    size, _ = start(load_config(config_file, ("size=nano", *options)))
    assert (size.drop_path, size.last_step, size.fine, size.subpixel) == (0.4, "bilinear", 2, 1)


def losses(config_file, *options, steps=2):
    run = Run(load_config(config_file, ("size=micro", "drop_path=0", *options)))
    stream = iter(run.batches())
    return run, [float(run.train_step(next(stream))) for _ in range(steps)]


@pytest.mark.parametrize(
    ("option", "tolerance"),
    [
        ("checkpointing=true", 1e-5),
        ("channels_last=false", 1e-4),
        ("precision=bf16", 0.03),
        ("precision=fp16", 0.01),
    ],
)
def test_memory_and_precision_leave_the_loss_where_it_is(micro, config_file, option, tolerance):
    _, expected = losses(config_file)
    _, got = losses(config_file, option)
    assert got == pytest.approx(expected, rel=tolerance)


def test_checkpointing_keeps_less_for_the_way_back(micro, config_file):
    def kept(*options):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.nbytes
            return tensor

        run = Run(load_config(config_file, ("size=micro", *options)))
        run.model.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run.loss(next(iter(run.batches())))
        return total

    assert kept("checkpointing=true") < 0.8 * kept()


def test_a_loss_that_overflows_is_left_out_and_the_scale_survives_a_resume(micro, config_file):
    class Overflowing(Run):
        def loss(self, batch):
            return super().loss(batch) * (float("inf") if self.step == 1 else 1.0)

    config = load_config(config_file, ("size=micro", "precision=fp16"))
    run, stream = Overflowing(config), iter(Overflowing(config).batches())
    run.train_step(next(stream))
    before = run.model.classifier.weight.clone()
    run.train_step(next(stream))
    assert torch.equal(run.model.classifier.weight, before)
    assert run.scaler.get_scale() == 2**15  # halved
    resumed = Run(config)
    resumed.load_state(run.state())
    assert resumed.scaler.get_scale() == 2**15


def test_layer_decay_slows_the_trunks_first_layers(micro, config_file):
    run, _ = losses(config_file, "optimiser.layer_decay=0.5", "optimiser.lr=0.1", steps=1)
    rates = {id(p): g["lr"] for g in run.optimiser.param_groups for p in g["params"]}
    vit = run.model.backbone.vit
    assert rates[id(vit.patch_embed.weight)] == pytest.approx(0.1 / 2**5)
    assert rates[id(vit.blocks[3].mlp[0].weight)] == pytest.approx(0.1 / 2)
    assert rates[id(run.model.classifier.weight)] == pytest.approx(0.1)


def test_drop_path_is_the_configurations_and_may_change_on_the_way(micro, config_file, tmp_path):
    options = ("size=micro", "drop_path=0.3")
    path = train(load_config(config_file, (*options, "steps=1")), tmp_path)
    assert read_state(path)["size"]["drop_path"] == 0.3
    changed = load_config(config_file, ("size=micro", "drop_path=0.2", "steps=2"))
    assert Run(changed).model.backbone.vit.blocks[3].drop_path.rate == pytest.approx(0.2)
    assert read_state(train(changed, tmp_path))["step"] == 2


@pytest.fixture
def vit(micro, tmp_path):
    """A trunk's weights, and a file of them under timm's names and with a class token."""
    theirs = {"patch_embed.proj": "patch_embed", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
    own = build("micro").backbone.vit.state_dict()
    weights = {}
    for name, value in own.items():
        for their, our in theirs.items():
            name = name.replace(f"{our}.", f"{their}.")
        weights[name] = value
    patches = weights.pop("pos_embed").flatten(2).transpose(1, 2)
    weights["pos_embed"] = torch.cat([torch.zeros(1, 1, 16), patches], 1)
    weights["cls_token"] = torch.ones(1, 1, 16)
    torch.save(weights, tmp_path / "vit.pth")
    return own, tmp_path / "vit.pth"


def test_a_trunk_starts_from_weights_and_the_next_stage_has_its_form(config_file, vit, tmp_path):
    own, path = vit
    options = ("size=micro", "steps=1")
    config = load_config(config_file, (*options, f"trunk={path}"))
    run = Run(config)
    assert run.size.prefix == 1
    trained = run.model.backbone.vit.state_dict()
    for name in ("blocks.2.attn.qkv.weight", "patch_embed.weight", "pos_embed"):
        torch.testing.assert_close(trained[name], own[name])
    first = train(config, tmp_path / "first")
    second = load_config(config_file, (*options, f"init={first}"))
    assert read_state(train(second, tmp_path / "second"))["size"]["prefix"] == 1


def test_a_run_goes_on_without_the_files_that_it_started_from(config_file, vit, tmp_path):
    _, path = vit

    def stage(name, start, steps):
        options = ("size=micro", f"steps={steps}", start)
        return train(load_config(config_file, options), tmp_path / name)

    trunk = f"trunk={path}"
    init = f"init={stage('first', trunk, 1)}"
    stage("second", init, 1)
    path.unlink()
    assert read_state(stage("first", trunk, 2))["step"] == 2
    (tmp_path / "first" / "last.pt").unlink()
    assert read_state(stage("second", init, 2))["step"] == 2


def test_what_a_run_says_lies_beside_its_results(config_file, vit, tmp_path):
    arguments = ["train", "--config", str(config_file), "--out", str(tmp_path / "run")]
    for override in ("size=micro", "steps=2", f"trunk={vit[1]}", "dice=1e39"):
        arguments += ["--set", override]
    result = CliRunner().invoke(cli, arguments)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "vit.pth" in log
    assert "WARNING step 0: gradient is not finite, step left out" in log
    assert f"ERROR {result.exception}" in log
    CliRunner().invoke(cli, arguments[:-2], catch_exceptions=False)
    assert "micro: step 2" in (tmp_path / "run" / "train.log").read_text()


def test_the_benchmark_relates_speed_to_the_peak(micro, config_file):
    config = load_config(config_file, ("size=micro",))
    speed = benchmark(config, warmup=0, steps=2, kind=FixedBatch, peak=1e-3)
    assert speed.images_per_second == pytest.approx(config.batch / speed.step_seconds, rel=0.01)
    operations = 6e9 * speed.gmacs_per_image * speed.images_per_second
    assert speed.tflops * 1e12 == pytest.approx(operations, rel=0.01)
    assert speed.fraction == pytest.approx(speed.tflops / 1e-3, rel=0.01)


def test_the_benchmark_reads_data_or_needs_none(micro, config_file, tmp_path):
    short = ["benchmark", "--set", "size=micro", "--steps", "1", "--warmup", "0"]
    out = tmp_path / "speed.json"
    for more in (["--config", str(config_file)], ["--set", "data.crop=64"]):
        result = CliRunner().invoke(cli, [*short, *more, "--json", str(out)])
        assert result.exit_code == 0, result.output
        assert "images/s" in result.output
        assert json.loads(out.read_text())["crop"] == 64
