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
    write_json,
)

if TYPE_CHECKING:
    from cropseg_edge.engines.choice import EngineChoice

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
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of ONNX Runtime.")
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
    a split. Unknown (255) in a prediction counts as an error.

    \b
    Examples:
      cropseg eval photos/images photos/masks --json figures.json
      cropseg eval ../shared/data/field --split dev
    """
    import numpy as np
    from numpy.typing import NDArray

    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.errors import DeviceLostError
    from cropseg_edge.evaluation import evaluate as evaluate_root
    from cropseg_edge.evaluation import evaluate_pairs
    from cropseg_edge.frames.frame import Frame
    from cropseg_edge.labelled import read_folders
    from cropseg_edge.segmenter import Segmenter

    if masks is not None and (split is not None or sets):
        raise click.UsageError("--split and --set belong to a ROOT, which has its own masks")
    to_stdout = check_json_file(json_file)
    checked = read_bundle(bundle)
    document: dict[str, object]
    head = {"name": checked.manifest.name, "sha256": checked.sha256}
    with Segmenter(checked, threads=threads, engine=engine, precision=precision) as segmenter:

        def segment(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return segmenter.segment(Frame(image, 0, "", 0, "picture")).labels

        def progress(done: int, total: int) -> None:
            if sys.stderr.isatty():
                click.echo(f"\r{done}/{total} pictures", err=True, nl=done == total)

        if masks is not None:
            pairs = read_folders(images, masks)
            figures = evaluate_pairs(segment, pairs, lambda done: progress(done, len(pairs)))
            results = {images.name: figures}
            document = {"bundle": head, **figures}
        else:
            split = split or "dev"
            results = evaluate_root(segment, images, split, sets or None, progress)
            document = {"bundle": head, "split": split, "datasets": results}
        if segmenter.lost:
            raise DeviceLostError(segmenter.lost)
    if not to_stdout:
        click.echo(_table(results))
    if json_file is not None:
        write_json(json_file, document)


def _table(results: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        f"| {'set':<20} | {'images':>6} | {'reading':<10} | "
        + " | ".join(f"{column:>12}" for column in COLUMNS)
        + " |",
        "|-" + "-|-".join(["-" * 20, "-" * 6, "-" * 10, *["-" * 12] * len(COLUMNS)]) + "-|",
    ]
    for name, figures in results.items():
        for reading in ("vegetation", "crop"):
            if f"{reading}.miou" not in figures:
                continue
            values = (figures.get(f"{reading}.{column}") for column in COLUMNS)
            cells = " | ".join(f"{v:>12.2f}" if v is not None else f"{'-':>12}" for v in values)
            images = int(figures["images"])
            lines.append(f"| {name:<20} | {images:>6} | {reading:<10} | {cells} |")
    return "\n".join(lines)
