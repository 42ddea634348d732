"""Options that several commands share."""

import json
import math
from pathlib import Path

import click

from cropseg_edge.files import check_writable, write_atomically

engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "tensorrt", "onnxruntime"]),
    default="auto",
    show_default=True,
    help="auto: a TensorRT engine accepted on this device, else ONNX Runtime on the CPU.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Graph to run; default: the fastest accepted engine, or the bundle's own choice.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 64),
    help="CPU threads of ONNX Runtime; default: the physical cores, at most 4.",
)
json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write everything as JSON; - is standard output, without the table.",
)


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """The value of an option; BadParameter for nan and inf, which a range lets pass."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def check_json_file(path: Path | None) -> bool:
    """Whether the JSON goes to standard output.

    Raises:
        UsageError: there is no folder for the file.
        OSError: the file cannot be written; better said now than after all the work.
    """
    if path is None:
        return False
    if str(path) == "-":
        return True
    if not path.parent.is_dir():
        raise click.UsageError(f"--json: there is no folder {path.parent}")
    check_writable(path)
    return False


def write_json(path: Path, document: object) -> None:
    """To the file, whole or not at all, or to standard output."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        click.echo(text, nl=False)
    else:
        write_atomically(path, text.encode(errors="backslashreplace"))  # names not in UTF-8
