"""`distill`: a teacher's checkpoint and pictures in, one or more students out."""

from pathlib import Path

import click

from training.commands.options import carry_out, run_options


@click.command()
@run_options(
    "training/configs/quick/distill.yaml",
    "Folder; each student gets OUT/SIZE with checkpoint, log and effective configuration.",
)
def distill(config_path: Path, out: Path, overrides: tuple[str, ...], threads: int | None) -> None:
    """Teach edge students what a large network knows, on pictures with or without labels.

    They match its logits and what it gives to FADE; all students share the teacher's passes.
    Fine-tune each with `train`, `init` being its checkpoint. Started again with the same --out,
    every student goes on where it stood.

    \b
    Example, on the simulator's data and after the example of `self-train`:
      python -m training distill --config training/configs/quick/distill.yaml --out runs/students
      python -m training train --config training/configs/quick/train.yaml \\
        --set init=runs/students/nano/last.pt --out runs/fine
    """
    from training.distill import DistillConfig
    from training.distill import distill as run

    carry_out(run, DistillConfig, config_path, out, overrides, threads)
