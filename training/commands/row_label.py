"""`row-label`: pictures of crop rows in, labels that tell crop from weed out."""

from pathlib import Path

import click

from training.commands.options import (
    licence_option,
    out_option,
    pictures_argument,
    set_option,
    species_option,
)


@click.command("row-label")
@pictures_argument
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Bundle or checkpoint that finds the plants.",
)
@out_option
@click.option("--device", default=None, help="For a checkpoint. Default: a GPU where there is one.")
@licence_option
@species_option
@set_option
def row_label(
    pictures: Path, model: Path, out: Path, device: str | None, licence: str | None,
    species: str | None, overrides: tuple[str, ...],
) -> None:  # fmt: skip
    """Label pictures of row crops: plants in a row are crop, plants between rows are weeds.

    For fields whose crop the model has not seen: it finds the plants, and the rows that they stand
    in say which are crop. The camera may look down or along the rows, at any height; rows must be
    straight, parallel and several in the picture. Weeds in a row are labelled crop.

    PICTURES is a folder of images, or one with images/ in it. Where it is a set of a data root,
    pictures that are kept for evaluation are left out: those of other splits than train and
    unlabelled. Masks hold 0 background, 1 crop, 2 weed, 3 either, 255 unsure; scores.csv holds how
    well the plants stand in line (strength) and why a picture was refused. `screen` shows them to a
    person. Started again it goes on where it stood; under torchrun every process takes its share.

    \b
    Examples:
      cropseg simulate --species beet --camera oblique --frames 20 --out out/sim
      python -m training row-label out/sim --model cropseg_edge/bundle/nano.cropseg \\
          --out out/row_labels/beet
      python -m training screen out/row_labels/beet --out out/screened
    """
    from training.evaluation.methods import open_model
    from training.pseudo_labels.labelling import labelling_config
    from training.pseudo_labels.row_labels import RowLabelling, make_row_labels
    from training.pseudo_labels.runs import default_device, images_of, run_reported

    method = open_model(model, device=device or default_device(), threads=None)
    values = {
        "images": images_of(pictures), "model": model, "weights": method.key, "licence": licence,
        "species": species,
    }  # fmt: skip
    config = labelling_config(RowLabelling, values, overrides)
    run_reported(lambda progress: make_row_labels(config, method.segment, out, progress), out)
