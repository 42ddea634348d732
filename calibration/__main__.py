"""`python -m calibration COMMAND`: from a trained bundle to one that holds INT8 and FP16."""

import logging
import sys

import click

from cropseg_edge.cli.lazy import LazyGroup
from cropseg_edge.errors import CropSegError

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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("root").setLevel(logging.WARNING)  # ONNX Runtime's quantizer speaks there


def main() -> None:
    """Entry point: errors of ours become one line and exit code 2."""
    try:
        cli(standalone_mode=True)
    except (CropSegError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
