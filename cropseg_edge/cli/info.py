"""`cropseg info`: what a bundle is, in readable form."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cropseg_edge.bundle import Bundle


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def info(bundle: Path | None) -> None:
    """Check BUNDLE (default: the shipped one) and show what it is.

    Every hash is verified; a damaged or changed bundle is refused with exit code 2.

    \b
    Examples:
      cropseg info
      cropseg info my_model.cropseg
    """
    from cropseg_edge.bundle import read_bundle

    checked = read_bundle(bundle)
    manifest, spec = checked.manifest, checked.manifest.input
    size = sum(len(member) for member in checked.members.values()) / 1e6
    gated = "gated" if manifest.upsampler.gated else "ungated"
    lite = " lite" if manifest.upsampler.lite else ""
    lines = {
        "bundle": f"{manifest.name} {manifest.version} (size {manifest.size}), {size:.1f} MB",
        "file": str(checked.path),
        "sha256": f"{checked.sha256} (all {len(manifest.sha256)} members verified)",
        "licence": f"{manifest.licence} (the weights)",
        "classes": ", ".join(manifest.classes),
        "input": f"{spec.tensor}: {spec.width}x{spec.height}, {spec.color_order}, "
        f"mean {list(spec.mean)}, std {list(spec.std)}",
        "engines": ", ".join(f"{engine} ({graph})" for engine, graph in manifest.graphs.items()),
        "precisions": ", ".join(
            f"{engine} {'/'.join(manifest.precisions(engine))} (runs {_runs(checked, engine)})"
            for engine in manifest.graphs
        ),
        "upsampler": f"FADE{lite}, {gated}, 5x5, x{manifest.upsampler.scale}",
        "golden": f"{len(manifest.golden)} frames",
        "trained": f"{manifest.training.steps} steps, {manifest.training.images_seen} images seen, "
        f"code {manifest.training.code_version}",
    }
    for key, value in lines.items():
        click.echo(f"{key:<10} {value}")
    if manifest.training.note:
        click.echo(f"{'note':<10} {manifest.training.note}")
    if manifest.calibration is not None:
        record = manifest.calibration
        click.echo(
            f"{'calibrated':<10} {len(record.frames)} frames, {record.method}, {record.tool}"
        )
        if record.verdict:
            click.echo(f"{'verdict':<10} {record.verdict}")
    click.echo("training data")
    for data in manifest.training.datasets:
        click.echo(f"  {data.name:<24}{data.split:<12}{data.images:>7} images  {data.licence}")
    if manifest.metrics:
        click.echo("metrics, percent")
    for name, figures in manifest.metrics.items():
        text = ", ".join(f"{key} {value:.1f}" for key, value in figures.items())
        click.echo(f"  {name:<24}{text}")


def _runs(bundle: "Bundle", engine: str) -> str:
    if engine == "tensorrt":
        return "the fastest that the device accepts"
    return bundle.default_precision(engine)
