"""`python -m calibration COMMAND`: from a trained bundle to one that holds INT8 and FP16."""

import logging

import click

from cropseg_edge.cli.lazy import LazyGroup, run_group

COMMANDS = {
    "select": "calibration.commands.select:select",
    "quantize": "calibration.commands.quantize:quantize",
    "sensitivity": "calibration.commands.sensitivity:sensitivity",
    "lint": "calibration.commands.lint:lint",
    "report": "calibration.commands.report:report",
}


@click.command(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
def cli() -> None:
    """From a trained bundle to one that holds INT8 and FP16, with proof of what they cost."""
    # ONNX Runtime's quantizer speaks at the root.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("calibration").setLevel(logging.INFO)


if __name__ == "__main__":
    run_group(cli)
