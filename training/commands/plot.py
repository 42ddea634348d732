"""`plot`: runs in, picture out."""

from pathlib import Path

import click


@click.command()
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
