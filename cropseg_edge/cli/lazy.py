"""A command group whose commands are imported when they are asked for: `--help` stays instant."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

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
    """Run it as a program: an error of ours becomes one line and exit code 2."""
    try:
        group(standalone_mode=True)
    except (CropSegError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
