"""`train`: configuration in, checkpoint out."""

from pathlib import Path

import click

from training.commands.options import carry_out, run_options


@click.command()
@run_options("training/configs", "Folder for checkpoint, log and effective configuration.")
def train(config_path: Path, out: Path, overrides: tuple[str, ...], threads: int | None) -> None:
    """Train a network; started again with the same --out, it goes on where it stood.

    With several GPUs, or machines, start it with torchrun; `batch` is shared by the processes.

    \b
    Example, on the simulator's data in minutes:
      cropseg simulate --random --frames 40 --seed 1 --width 320 --height 240 --out runs/known
      python -m training train --config training/configs/quick/train.yaml --out runs/stage1
    With all that is labelled; then on eight GPUs:
      python -m training train --config training/configs/nano.yaml --out runs/nano
      torchrun --nproc-per-node 8 -m training train --config training/configs/nano.yaml \\
        --out runs/nano --set batch=64
    """
    from training.config import TrainConfig
    from training.train import train as run

    carry_out(run, TrainConfig, config_path, out, overrides, threads)
