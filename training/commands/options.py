"""Options that commands share: those that label pictures, and those that train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="CPU threads (default: torch's choice)."
)


def run_options(example: str, out: str) -> Callable[[Any], Any]:
    """What `train`, `self-train` and `distill` take: --config, --out, --set and --threads.

    Args:
        example: a configuration to begin from, for the help of --config.
        out: the help of --out.
    """

    def add(command: Any) -> Any:
        config = click.option(
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            required=True,
            help=f"YAML file; see {example}.",
        )
        folder = click.option("--out", type=click.Path(path_type=Path), required=True, help=out)
        return config(folder(set_option(threads_option(command))))

    return add


def carry_out(
    run: Callable[[Any, Path], Path | dict[str, Path]],
    kind: type[Any],
    config_path: Path,
    out: Path,
    overrides: tuple[str, ...],
    threads: int | None,
) -> None:
    """Do what the options of `run_options` ask for, with a log in `out`; print the checkpoints.

    Args:
        run: from a configuration and `out` to a checkpoint, or to one a size.
        kind: of the configuration.
    """
    import torch

    from training.config import load_config
    from training.distributed import first_process
    from training.logfile import train_log

    if threads:
        torch.set_num_threads(threads)
    config = load_config(config_path, overrides, kind)
    with train_log(out):
        made = run(config, out)
    if first_process():
        click.echo("\n".join(map(str, made.values() if isinstance(made, dict) else [made])))
