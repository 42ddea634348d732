"""`python -m training COMMAND`: train a network, export it to a bundle."""

import logging
import sys
from pathlib import Path

import click

from cropseg_edge.errors import CropSegError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """From field photographs to a bundle that runs on the robot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@cli.command()
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


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
@click.option("--width", default=640, show_default=True, help="Network input, pixels.")
@click.option("--height", default=480, show_default=True, help="Network input, pixels.")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="JSON of `cropseg eval --json`, to go into the manifest.",
)
@click.option("--note", default="", help="What else should be known of the training.")
def export(
    checkpoint: Path, out: Path, width: int, height: int, metrics: Path | None, note: str
) -> None:
    """Write a checkpoint as a bundle; refuses if ONNX Runtime and PyTorch disagree.

    \b
    Example:
      python -m training export runs/nano/last.pt --out nano.cropseg
    """
    from training.export import export_bundle

    bundle = export_bundle(checkpoint, out, width=width, height=height, metrics=metrics, note=note)
    click.echo(f"{out}  sha256 {bundle.sha256}")


@cli.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), default="training.png", show_default=True)
def plot(runs: tuple[Path, ...], out: Path) -> None:
    """Draw loss and held-out mIoU of one or more runs as a picture.

    \b
    Example:
      python -m training plot runs/nano runs/other --out training.png
    """
    from training.plot import plot_runs

    plot_runs(runs, out)
    click.echo(out)


def main() -> None:
    """Entry point: errors of ours become one line and exit code 2."""
    try:
        cli(standalone_mode=True)
    except (CropSegError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
