"""`experiment`: simulated fields, labels from depth against the truth."""

from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of everything.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override one value of ExperimentConfig, e.g. --set frames=200.",
)  # fmt: skip
def experiment(out: Path, overrides: tuple[str, ...]) -> None:
    """Depth labels, screening, stage 1 and stage 2 against full supervision, on simulated fields.

    Started again with the same --out, it goes on where it stood; another process with other
    seeds may work in the same folder once the first has labelled it. OUT gets results.json,
    results.md and results.png.

    \b
    Examples:
      python -m training experiment --out runs/experiment
      python -m training experiment --out runs/short --set frames=60 --set seeds=[0] \\
        --set first_steps=20 --set second_steps=20
    """
    from training.experiment.report import write_report
    from training.experiment.run import experiment_config, run_experiment

    for path in write_report(run_experiment(experiment_config(overrides), out)):
        click.echo(path)
