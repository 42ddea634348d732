"""`cropseg eval`: a bundle's masks against ground truth."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropseg_edge.cli.options import (
    check_json_file,
    engine_option,
    json_option,
    precision_option,
    threads_option,
    write_json,
)

if TYPE_CHECKING:
    from cropseg_edge.engines.choice import EngineChoice

READINGS = ("vegetation", "crop")
COLUMNS = ("miou", "iou", "precision", "recall", "boundary_iou")


@click.command(name="eval")
@click.argument("images", type=click.Path(path_type=Path), metavar="IMAGES|ROOT")
@click.argument("masks", required=False, type=click.Path(path_type=Path))
@click.option("--split", help="Split of ROOT/splits.csv.  [default: dev]")
@click.option("--set", "sets", multiple=True, help="Only this set of ROOT (may be repeated).")
@click.option("--bundle", type=click.Path(path_type=Path), help="Model; default: the shipped one.")
@json_option
@engine_option
@precision_option
@threads_option
def evaluate(
    images: Path,
    masks: Path | None,
    split: str | None,
    sets: tuple[str, ...],
    bundle: Path | None,
    json_file: Path | None,
    engine: "EngineChoice",
    precision: str | None,
    threads: int | None,
) -> None:
    """Compare masks with ground truth: vegetation and crop, in percent, pooled over all pixels.

    IMAGES and MASKS are folders with files of the same names; masks are PNG with 0 background,
    1 crop, 2 weed, 255 not counted. Or give ROOT, a folder with splits.csv and datasets.yaml, and
    a split. Unknown (255) in a prediction counts as an error. Masks that are not OK are said and
    counted; exit code 2 where the engine failed on a picture, 70 where it failed for good.

    \b
    Examples:
      cropseg eval photos/images photos/masks --json figures.json
      cropseg eval ../shared/data/field --split dev
    """
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.errors import DeviceLostError, EngineError
    from cropseg_edge.evaluation import evaluate_segmenter
    from cropseg_edge.labelled import read_folders, read_root
    from cropseg_edge.segmenter import Segmenter

    if masks is not None and (split is not None or sets):
        raise click.UsageError("--split and --set belong to a ROOT, which has its own masks")
    to_stdout = check_json_file(json_file)
    checked = read_bundle(bundle)
    split = split or "dev"
    if masks is not None:
        pairs = {images.name: read_folders(images, masks)}
    else:
        pairs = read_root(images, split, sets or None)
    total, done = sum(map(len, pairs.values())), 0

    def progress(of_this_set: int) -> None:
        if sys.stderr.isatty():
            now = done + of_this_set
            click.echo(f"\r{now}/{total} pictures", err=True, nl=now == total)

    results = {}
    with Segmenter(checked, threads=threads, engine=engine, precision=precision) as segmenter:
        for name, chosen in pairs.items():
            results[name] = evaluate_segmenter(segmenter, chosen, progress)
            done += len(chosen)
        if segmenter.lost:
            raise DeviceLostError(segmenter.lost)
        ran = {"name": segmenter.engine.name, "precision": segmenter.engine.precision}
    _check_answers(results)
    head = {"bundle": {"name": checked.manifest.name, "sha256": checked.sha256}, "engine": ran}
    if masks is not None:
        document = {**head, **results[images.name]}
    else:
        document = {**head, "split": split, "datasets": results}
    if not to_stdout:
        click.echo(_table(results))
    if json_file is not None:
        write_json(json_file, document)
    if failures := sum(int(figures["engine_failures"]) for figures in results.values()):
        raise EngineError(
            f"the engine failed on {failures} of {total} pictures (each is named above); all their "
            "pixels count as wrong, so the figures are not the model's"
        )


def _check_answers(results: Mapping[str, Mapping[str, float]]) -> None:
    """ConfigError where no set has a figure."""
    from cropseg_edge.errors import ConfigError

    if not any(f"{reading}.miou" in found for found in results.values() for reading in READINGS):
        raise ConfigError(
            f"no mask of {', '.join(results)} says of any pixel whether it is plant or soil, or "
            "crop or not (255 is unknown), so there is nothing to compare with"
        )


def _table(results: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        f"| {'set':<20} | {'images':>6} | {'not OK':>6} | {'reading':<10} | "
        + " | ".join(f"{column:>12}" for column in COLUMNS)
        + " |",
        "|-"
        + "-|-".join(["-" * 20, "-" * 6, "-" * 6, "-" * 10, *["-" * 12] * len(COLUMNS)])
        + "-|",
    ]
    for name, figures in results.items():
        images, doubtful = figures["images"], figures["degraded"] + figures["invalid"]
        answered = [reading for reading in READINGS if f"{reading}.miou" in figures]
        for reading in answered or ["none"]:
            values = (figures.get(f"{reading}.{column}") for column in COLUMNS)
            cells = " | ".join(f"{v:>12.2f}" if v is not None else f"{'-':>12}" for v in values)
            lines.append(f"| {name:<20} | {images:>6} | {doubtful:>6} | {reading:<10} | {cells} |")
    return "\n".join(lines)
