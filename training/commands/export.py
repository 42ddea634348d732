"""`export`: checkpoint in, bundle out."""

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
@click.option("--width", type=int, help="Network input, pixels; default: that of training.")
@click.option("--height", type=int, help="Network input, pixels; default: that of training.")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="JSON of `cropseg eval --json`, to go into the manifest.",
)
@click.option("--note", default="", help="What else should be known of the training.")
def export(
    checkpoint: Path,
    out: Path,
    width: int | None,
    height: int | None,
    metrics: Path | None,
    note: str,
) -> None:
    """Write a checkpoint as a bundle; refuses if ONNX Runtime and PyTorch disagree.

    \b
    Example, after the one of `train`:
      python -m training export runs/stage1/last.pt --out nano.cropseg
    """
    from training.export import export_bundle

    bundle = export_bundle(checkpoint, out, width=width, height=height, metrics=metrics, note=note)
    click.echo(f"{out}  sha256 {bundle.sha256}")
