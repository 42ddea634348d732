"""The `cropseg` command: finds the subcommand, turns this package's errors into exit code 2."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from cropseg_edge import __version__
from cropseg_edge.cli.lazy import LazyGroup
from cropseg_edge.errors import CropSegError, DeviceLostError

USAGE_ERROR, LOST, INTERRUPTED = 2, 70, 130

COMMANDS = {
    "run": "cropseg_edge.cli.run:run",
    "eval": "cropseg_edge.cli.eval:evaluate",
    "info": "cropseg_edge.cli.info:info",
    "build": "cropseg_edge.cli.build:build",
    "verify": "cropseg_edge.cli.verify:verify",
    "simulate": "cropseg_edge.cli.simulate:simulate",
    "doctor": "cropseg_edge.cli.doctor:doctor",
    "bench": "cropseg_edge.cli.bench:bench",
}


@click.command(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="cropseg")
def cli() -> None:
    """Segment crops and weeds in camera frames of a field robot.

    \b
    Examples:
      cropseg run field.mp4 --out out/field
      cropseg info
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 2 a wrong use, input or machine, 70 the GPU or its engine failed for good
    so that a new process is needed, 130 interrupted.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    # What OpenCV and FFmpeg say about a broken file is said better by our own message.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # JPEG and PNG are measured by their headers; this is for TIFF, BMP and WebP.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "50000000")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_Handler()])
    try:
        result: Any = cli.main(arguments, prog_name="cropseg", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (Python flushes it at exit)
        return 0
    except CropSegError as error:
        click.echo(f"error: {error}", err=True)
        return LOST if isinstance(error, DeviceLostError) else USAGE_ERROR
    except ImportError as error:
        click.echo(f"error: {error}; `cropseg doctor` tells what this machine lacks", err=True)
        return USAGE_ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        return USAGE_ERROR
    return result if isinstance(result, int) else 0


class _Handler(logging.Handler):
    """Log records as `warning: ...` on the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


if __name__ == "__main__":
    main()
