"""Logs of runs in, a picture of their loss and held-out mIoU out."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cropseg_edge.errors import ConfigError, StorageError
from cropseg_edge.files import write_atomically


def plot_runs(runs: Sequence[Path], out: Path) -> None:
    """Draw `log.csv` of each run folder as a PNG.

    Raises:
        ConfigError: a folder has no log.
        StorageError: `out` cannot be written.
    """
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(11, 4), layout="constrained")
    loss, miou = figure.subplots(1, 2)
    for run in runs:
        try:
            with (run / "log.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            steps, losses = [int(r["step"]) for r in rows], [float(r["loss"]) for r in rows]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{run} is no folder of a training run: {error}") from error
        loss.plot(steps, losses, label=run.name)
        for key, style in (("vegetation_miou", "-"), ("crop_miou", "--")):
            checked = [r for r in rows if r[key]]
            label = f"{run.name} {key.split('_')[0]}"
            miou.plot(
                [int(r["step"]) for r in checked], [float(r[key]) for r in checked], style,
                marker=".", label=label,
            )  # fmt: skip
    loss.set(xlabel="step", ylabel="training loss")
    miou.set(xlabel="step", ylabel="mIoU on held-out training pictures, %")
    for axes in (loss, miou):
        axes.grid(alpha=0.3)
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    try:
        write_atomically(out, picture.getvalue())
    except OSError as error:
        raise StorageError(f"{out}: the picture cannot be written: {error.strerror}") from error
