"""`self-train`: a teacher's checkpoint, labelled and unlabelled pictures in, a student out."""

from pathlib import Path

import click

from training.commands.options import carry_out, run_options


@click.command("self-train")
@run_options(
    "training/configs/self_train.yaml",
    "Folder for checkpoint, log, effective configuration and the teacher's figures.",
)
def self_train(
    config_path: Path, out: Path, overrides: tuple[str, ...], threads: int | None
) -> None:
    """Stage 2: learn from a teacher's labels on pictures that have none.

    The teacher labels what it is sure of, class by class; the student sees the same crop in
    harder light. After burn-in the student's own average teaches. Started again with the same
    --out, it goes on where it stood.

    \b
    Example, on the simulator's data:
      cropseg simulate --random --frames 40 --seed 1 --width 320 --height 240 --out runs/known
      cropseg simulate --random --frames 80 --seed 2 --width 320 --height 240 --out runs/unknown
      python -m training train --config training/configs/quick/train.yaml --out runs/stage1
      python -m training self-train --config training/configs/quick/self_train.yaml \\
        --out runs/stage2
    """
    from training.self_train import SelfTrainConfig
    from training.self_train import self_train as run

    carry_out(run, SelfTrainConfig, config_path, out, overrides, threads)
