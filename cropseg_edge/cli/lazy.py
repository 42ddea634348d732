"""A command group whose commands are imported when they are asked for: `--help` stays instant."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from cropseg_edge.errors import CropSegError


class LazyGroup(click.Group):
    """A group of commands by name, each "module:attribute", in the order of a first use."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def run_group(group: click.Group) -> None:
    """Run it as a program: an error of ours, of a setting or of a missing package becomes one line
    and exit code 2."""
    try:
        group(standalone_mode=True)
    except (CropSegError, OSError) as error:
        _fail(str(error))
    except ImportError as error:
        _fail(f"{error}; `pip install '.[quant]'` brings what calibration needs, '.[train]' what "
              "training needs")  # fmt: skip
    except ValueError as error:
        from pydantic import ValidationError  # loads slowly

        if not isinstance(error, ValidationError):
            raise
        _fail("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))


def _fail(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(2)
