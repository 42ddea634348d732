"""`cropseg verify`: the golden frames through the engine of this machine."""

from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the engine.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    help="Graph to run; default: the one that the bundle prefers.",
)
def verify(bundle: Path | None, threads: int | None, precision: str | None) -> None:
    """Run the golden frames of BUNDLE (default: the shipped one) and compare.

    Fails with exit code 2 where this machine's probabilities are further than 0.001 from the
    reference (fp32), or the masks overlap by less than 99 % (int8: 97 %).

    \b
    Example:
      cropseg verify my_model.cropseg
    """
    from cropseg_edge.bundle.verify import verify_golden

    results = verify_golden(bundle, threads=threads, precision=precision)
    for number, parity in enumerate(results):
        click.echo(
            f"golden frame {number}: probabilities differ by at most {parity.difference:.1e}, "
            f"mask IoU {parity.iou:.4f}"
        )
    click.echo("the bundle gives its reference results on this machine")
