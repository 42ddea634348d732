"""`sensitivity`: what each quantized layer costs, and which ones to leave in floating point."""

from pathlib import Path

import click

from calibration.commands.options import (
    budget_option,
    frames_option,
    method_option,
    root_option,
    threads_option,
)


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@frames_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@root_option
@click.option("--split", default="train", show_default=True, help="Of the root; never dev.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Pictures of each set, simulated ones in all.",
)
@budget_option
@method_option
@threads_option
def sensitivity(
    bundle: Path | None,
    frames: Path,
    out: Path,
    root: Path | None,
    split: str,
    limit: int,
    budget: float,
    method: str,
    threads: int | None,
) -> None:
    """Quantize the layers of BUNDLE (default: the shipped one) one at a time and measure masks.

    Writes sensitivity.json, which `quantize --skip` takes, and sensitivity.png. Goes on where it
    was cut off.

    \b
    Example:
      python -m calibration sensitivity --frames out/frames --limit 2 --out out/sensitivity
    """
    import json

    import matplotlib  # noqa: F401  the chart's, missed before hours of measuring

    from calibration.bundles import prepare
    from calibration.frames import read_set
    from calibration.labels import labelled_sets
    from calibration.sensitivity import KEY, RESULT, chart, measure_layers
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.files import write_atomically

    checked, chosen = read_bundle(bundle), read_set(frames)
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "bundle": str(checked.path),
        "frames": str(frames),
        "root": str(root) if root else "simulator",
        "split": split,
        "limit": limit,
        "budget": budget,
        "method": method,
    }
    write_atomically(out / "config.json", json.dumps(config, indent=2).encode() + b"\n")
    size = (checked.manifest.input.width, checked.manifest.input.height)
    sets = labelled_sets(root, split, out / "simulated", size, limit, decides=True)
    made = prepare(checked.graph(), chosen, checked, method)  # type: ignore[arg-type]

    def progress(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            click.echo(f"{done}/{total} layers")

    result = measure_layers(checked, made, sets, out, budget, threads, progress)
    chart(result, out / "sensitivity.png")
    for layer in sorted(result.alone, key=lambda name: -result.alone[name][KEY])[:10]:
        click.echo(f"{result.alone[layer][KEY]:>8.3f}  {layer}")
    click.echo(
        f"all {len(made.layers)} layers in INT8: {result.everything[KEY]:.3f} points; "
        f"keeping {len(result.keep)} of them in floating point: {result.final[KEY]:.3f} "
        f"({out / RESULT})"
    )
