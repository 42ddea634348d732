"""`pseudo-label`: pictures and depth in, labels with scores out."""

from pathlib import Path

import click

from training.commands.options import (
    licence_option,
    out_option,
    pictures_argument,
    set_option,
    species_option,
)


@click.command("pseudo-label")
@pictures_argument
@click.option(
    "--depth",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder that `depth` wrote.",
)
@out_option
@licence_option
@species_option
@set_option
def pseudo_label(
    pictures: Path, depth: Path, out: Path, licence: str | None, species: str | None,
    overrides: tuple[str, ...],
) -> None:  # fmt: skip
    """Label pictures by their depth: vegetation (crop or weed open), background, unsure.

    PICTURES is a folder of images, or one with images/ in it. Where it is a set of a data root,
    pictures that are kept for evaluation are left out: those of other splits than train and
    unlabelled. Masks hold 0 background, 3 crop or weed, 255 unsure; scores.csv holds each picture's
    score, its parts, and why a picture was refused. Started again it goes on where it stood and
    tries refused pictures again; under torchrun every process takes its share, and no label is
    made twice.

    \b
    Examples:
      cropseg simulate --random --frames 60 --out out/sim
      python -m training depth out/sim/simulator --out out/depth --degrade 1
      python -m training pseudo-label out/sim/simulator --depth out/depth --out out/labels/sim
      torchrun --nproc-per-node 8 -m training pseudo-label photos --depth out/depth \\
          --out out/labels/photos
    """
    from training.pseudo_labels.depth_labels import DepthLabelling, make_labels
    from training.pseudo_labels.labelling import labelling_config
    from training.pseudo_labels.runs import images_of, run_reported

    values = {
        "images": images_of(pictures), "depth": depth, "licence": licence, "species": species
    }  # fmt: skip
    config = labelling_config(DepthLabelling, values, overrides)
    run_reported(lambda progress: make_labels(config, out, progress), out)
