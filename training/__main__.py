"""`python -m training COMMAND`: from field photographs to a bundle that runs on the robot."""

import logging
import sys

import click

from cropseg_edge.cli.lazy import LazyGroup
from cropseg_edge.errors import CropSegError

COMMANDS = {
    "depth": "training.commands.depth:depth",
    "pseudo-label": "training.commands.pseudo_label:pseudo_label",
    "train": "training.commands.train:train",
    "shards": "training.commands.shards:shards",
    "benchmark": "training.commands.benchmark:benchmark",
    "screen": "training.commands.screen:screen",
    "self-train": "training.commands.self_train:self_train",
    "distill": "training.commands.distill:distill",
    "evaluate": "training.commands.evaluate:evaluate",
    "experiment": "training.commands.experiment:experiment",
    "export": "training.commands.export:export",
    "sizes": "training.commands.sizes:sizes",
    "plot": "training.commands.plot:plot",
}


@click.command(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
def cli() -> None:
    """From field photographs to a bundle that runs on the robot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def main() -> None:
    """Entry point: errors of ours become one line and exit code 2."""
    try:
        cli(standalone_mode=True)
    except (CropSegError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
