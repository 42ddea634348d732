"""`cropseg verify`: the golden frames through the engine of this machine."""

from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the engine.")
def verify(bundle: Path | None, threads: int | None) -> None:
    """Run the golden frames of BUNDLE (default: the shipped one) and compare.

    Fails with exit code 2 where this machine's probabilities are further than 0.001 from the
    reference, or the masks overlap by less than 99 %.

    \b
    Example:
      cropseg verify my_model.cropseg
    """
    from cropseg_edge.bundle.verify import verify_golden

    for number, parity in enumerate(verify_golden(bundle, threads=threads)):
        click.echo(
            f"golden frame {number}: probabilities differ by at most {parity.difference:.1e}, "
            f"mask IoU {parity.iou:.4f}"
        )
    click.echo("the bundle gives its reference results on this machine")
