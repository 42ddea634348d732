"""`screen`: pseudo labels in; the trusted ones as a data root, and a page to decide on, out."""

from pathlib import Path

import click


@click.command()
@click.argument("labels", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the data root, the page, decisions.json, screening.json and the log.",
)
@click.option("--depth", type=click.Path(path_type=Path), help="Depth folder, for the page.")
@click.option(
    "--decisions", type=click.Path(path_type=Path), help="What a person decided: saved by the page."
)
@click.option(
    "--only-decided", is_flag=True, help="Keep only what a person accepted; else, where nobody "
    "decided, the automatic verdict stands.",
)  # fmt: skip
@click.option(
    "--scenes", type=click.Path(path_type=Path), help="CSV: stem and columns such as species, "
    "condition, that coverage is counted by.",
)  # fmt: skip
@click.option("--keep", type=float, help="Share of the pool to keep at most, e.g. 0.08.")
@click.option("--min-score", type=float, help="Of the label, 0 to 1.")
@click.option("--min-agreement", type=float, help="Of label and colour, 0 to 1.")
@click.option("--min-cover", type=float, help="Of the picture by plants, 0 to 1.")
@click.option("--max-cover", type=float, help="Of the picture by plants, 0 to 1.")
@click.option("--max-unsure", type=float, help="Share of the picture without a label.")
@click.option("--duplicate-bits", type=int, help="Hashes so near are one picture; -1: never.")
@click.option(
    "--page-images", type=click.IntRange(0), default=3000, show_default=True,
    help="At most so many on the page: the kept ones first, then the best of the rest.",
)  # fmt: skip
@click.option(
    "--thumbnail", type=click.IntRange(64, 2048), default=384, show_default=True,
    help="Longer side of the page's pictures, pixels.",
)  # fmt: skip
def screen(
    labels: Path, out: Path, depth: Path | None, decisions: Path | None, only_decided: bool,
    scenes: Path | None, page_images: int, thumbnail: int, **thresholds: float | None,
) -> None:  # fmt: skip
    """Keep the pseudo labels that can be trusted.

    LABELS is a folder that `pseudo-label` wrote. First automatically: labels with a low score,
    those that colour does not confirm, and near duplicates are dropped. Then by you: open
    OUT/explorer.html, accept and reject, save, and run again with --decisions. OUT is a data root
    that `train` reads. The share that is kept stands beside DepthCropSeg's, 1,378 of 17,199.

    \b
    Example:
      cropseg simulate --random --frames 60 --out out/sim
      python -m training depth out/sim/simulator --out out/depth --degrade 1
      python -m training pseudo-label out/sim/simulator --depth out/depth --out out/labels/sim
      python -m training screen out/labels/sim --depth out/depth --out out/screened
      python -m training screen out/labels/sim --out out/screened --decisions decisions.json
    """
    from training.pseudo_labels.screen_run import ScreenOptions, run_screen

    options = ScreenOptions.checked(
        labels=labels, out=out, depth=depth, decisions=decisions, only_decided=only_decided,
        scenes=scenes, page_images=page_images, thumbnail=thumbnail,
        thresholds={name: value for name, value in thresholds.items() if value is not None},
    )  # fmt: skip
    for line in run_screen(options):
        click.echo(line)
