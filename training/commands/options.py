"""Options that the commands which label pictures share."""

from pathlib import Path

import click

pictures_argument = click.argument(
    "pictures", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="ROOT/NAME: folder for masks/, images/ (links), scores.csv, configuration and log; "
    "ROOT becomes a data root with the set NAME.",
)
licence_option = click.option(
    "--licence", help="Of the pictures. Default: what their data root says, or unknown."
)
species_option = click.option("--species", help="Likewise.")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value; config.yaml in OUT lists them all.",
)
