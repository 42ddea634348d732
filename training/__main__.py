"""`python -m training COMMAND`: from field photographs to a bundle that runs on the robot."""

import logging

import click

from cropseg_edge.cli.lazy import LazyGroup, run_group

COMMANDS = {
    "depth": "training.commands.depth:depth",
    "pseudo-label": "training.commands.pseudo_label:pseudo_label",
    "row-label": "training.commands.row_label:row_label",
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
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for own in ("training", "calibration", "cropseg_edge"):  # torch and others: warnings alone
        logging.getLogger(own).setLevel(logging.INFO)


if __name__ == "__main__":
    run_group(cli)
