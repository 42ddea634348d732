"""`quantize`: a bundle and calibration frames in, a bundle with FP16 and INT8 out."""

from pathlib import Path

import click

from calibration.commands.options import (
    budget_option,
    frames_option,
    method_option,
    threads_option,
)
from cropseg_edge.cli.options import finite


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@frames_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
@method_option
@click.option(
    "--percentile",
    type=click.FloatRange(min=50, max=100, min_open=True),
    callback=finite,
    default=99.999,
    show_default=True,
    help="Of --method percentile.",
)
@click.option(
    "--skip",
    type=click.Path(path_type=Path),
    help="sensitivity.json; its layers stay in floating point.",
)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "modelopt"]),
    default="onnxruntime",
    show_default=True,
    help="What computes TensorRT's scales; modelopt needs nvidia-modelopt[onnx].",
)
@budget_option
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Timed runs of each graph.",
)
@threads_option
def quantize(
    bundle: Path | None,
    frames: Path,
    out: Path,
    method: str,
    percentile: float,
    skip: Path | None,
    backend: str,
    budget: float,
    rounds: int,
    threads: int | None,
) -> None:
    """Add FP16 and INT8 graphs to BUNDLE (default: the shipped one) and write it to --out.

    INT8 becomes what ONNX Runtime runs by default where it is faster here and loses at most
    --budget points of vegetation mIoU on simulated frames; `report` decides on your own pictures.
    The effective configuration is written beside the result, as NAME.quantize.json.

    \b
    Example:
      python -m calibration select simulator:species=beet,frames=20 --count 8 --out out/frames
      python -m calibration quantize --frames out/frames --out out/nano.cropseg
    """
    from calibration.run import QuantizeConfig, quantize_bundle

    config = QuantizeConfig(
        frames=frames,
        out=out,
        method=method,  # type: ignore[arg-type]  # click checks it
        percentile=percentile,
        skip=skip,
        backend=backend,  # type: ignore[arg-type]
        budget=budget,
        rounds=rounds,
        threads=threads,
    )
    result = quantize_bundle(bundle, config)
    record = result.manifest.calibration
    click.echo(record.verdict if record else "")
    click.echo(f"{out}  sha256 {result.sha256}")
