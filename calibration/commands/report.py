"""`report`: FP32, FP16 and INT8 of a bundle side by side, and a verdict."""

from pathlib import Path

import click

from calibration.commands.options import (
    budget_option,
    root_option,
    threads_option,
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@root_option
@click.option("--split", default="dev", show_default=True, help="Of the root.")
@click.option("--set", "sets", multiple=True, help="Only this set of the root (may be repeated).")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Pictures of each set, simulated ones in all; default: all.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Timed runs of each graph.",
)
@budget_option
@threads_option
@click.option("--tensorrt/--no-tensorrt", default=True, help="Also judge TensorRT's graphs (slow).")
@click.option("--update", is_flag=True, help="Write verdict and default precision into BUNDLE.")
def report(
    bundle: Path,
    out: Path,
    root: Path | None,
    split: str,
    sets: tuple[str, ...],
    limit: int | None,
    rounds: int,
    budget: float,
    threads: int | None,
    tensorrt: bool,
    update: bool,
) -> None:
    """Measure every graph of BUNDLE and write report.html, report.json with the plain verdict.

    TensorRT's graphs are computed by ONNX Runtime on the CPU: their masks can be judged here,
    their speed cannot. Figures are by set and condition: the simulator's, or those of a column
    `condition` in splits.csv. They are kept for each graph, so that a run can be cut off.

    \b
    Example:
      python -m calibration report out/nano.cropseg --limit 4 --out out/report
    """
    from calibration.compare import ReportConfig, compare

    config = ReportConfig(
        bundle=bundle,
        out=out,
        root=root,
        split=split,
        sets=sets,
        limit=limit,
        rounds=rounds,
        budget=budget,
        threads=threads,
        tensorrt=tensorrt,
        update=update,
    )
    result = compare(config, lambda text: click.echo(text))
    click.echo(result.verdict)
    click.echo(str(out / "report.html"))
