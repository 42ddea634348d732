"""Options that several commands share."""

from pathlib import Path

import click

from cropseg_edge.cli.options import finite

frames_option = click.option(
    "--frames", type=click.Path(path_type=Path), required=True, help="Folder of `select`."
)
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="Labelled data; default: simulated."
)
method_option = click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="percentile",
    show_default=True,
    help="How ranges are taken from the frames.",
)
budget_option = click.option(
    "--budget",
    type=click.FloatRange(min=0),
    callback=finite,
    default=0.5,
    show_default=True,
    help="Points of vegetation mIoU that INT8 may lose.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads of the engine."
)
