"""`benchmark`: configuration in, images/s of training out."""

import json
from pathlib import Path

import click

from training.commands.options import threads_option


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Train as this YAML file says, reading its data; else random pictures from memory.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As in train: size, batch, ..."
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Timed steps.")
@click.option("--warmup", type=click.IntRange(0), default=3, show_default=True)
@click.option(
    "--peak", type=click.FloatRange(0, min_open=True), help="The device's peak, TFLOP/s, if known."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here."
)
@threads_option
def benchmark(
    config_path: Path | None,
    overrides: tuple[str, ...],
    steps: int,
    warmup: int,
    peak: float | None,
    json_path: Path | None,
    threads: int | None,
) -> None:
    """Time training steps: images/s and, on a GPU, the fraction of its peak.

    \b
    Example, in a minute on two CPU cores; then the largest size on a GPU:
      python -m training benchmark --set batch=4 --set data.crop=320 --steps 5
      python -m training benchmark --set size=large --set data.crop=512 --set batch=8 \\
        --set checkpointing=true --json large_512.json
    """
    import dataclasses

    import torch

    from cropseg_edge.files import write_atomically
    from training.benchmark import FixedBatch
    from training.benchmark import benchmark as measure
    from training.config import TrainConfig, configured, load_config
    from training.distributed import first_process
    from training.run import Run

    if threads:
        torch.set_num_threads(threads)
    if config_path is not None:
        config, kind = load_config(config_path, overrides), Run
    else:
        values = {"steps": 1, "data": {"roots": [], "weights": {"random": 1}}}
        config, kind = configured(values, overrides, TrainConfig, "--set"), FixedBatch
    speed = measure(config, warmup=warmup, steps=steps, kind=kind, peak=peak)
    if not first_process():
        return
    share = f", {100 * speed.fraction:.1f} % of {speed.peak:g}" if speed.fraction else ""
    memory = f", {speed.memory_gb:g} GB" if speed.memory_gb else ""
    click.echo(
        f"{speed.size} {speed.crop}x{speed.crop} batch {speed.batch} {speed.precision} on "
        f"{speed.processes} x {speed.device}: {speed.images_per_second:g} images/s, "
        f"{speed.tflops:g} TFLOP/s{share}{memory}"
    )
    if json_path is not None:
        write_atomically(json_path, json.dumps(dataclasses.asdict(speed), indent=1).encode())
