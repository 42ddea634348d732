"""`train`: configuration in, checkpoint out."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    help="YAML file; see training/configs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for checkpoint, log and effective configuration.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one value, e.g. --set data.crop=256.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: torch's choice).")
def train(config_path: Path, out: Path, overrides: tuple[str, ...], threads: int | None) -> None:
    """Train a network; started again with the same --out, it goes on where it stood.

    \b
    Example:
      python -m training train --config training/configs/nano.yaml --out runs/nano
    """
    import torch

    from training.config import load_config
    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    click.echo(run(load_config(config_path, overrides), out))
