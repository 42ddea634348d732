"""`results.json` in; a table in Markdown and a plot out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.files import write_atomically
from training.experiment.fields import TESTS
from training.experiment.run import ARMS

TITLES = {"seen": "seen species, day", "unseen_species": "unseen species", "night": "night"}
F64 = NDArray[np.float64]


def write_report(results: Path) -> list[Path]:
    """Write `results.md` and `results.png` beside `results.json`; returns their paths."""
    arms = json.loads(results.read_text(encoding="utf-8"))["arms"]
    table, plot = results.with_suffix(".md"), results.with_suffix(".png")
    write_atomically(table, "\n".join(markdown(arms)).encode() + b"\n")
    _plot(arms, plot)
    return [table, plot]


def values(arms: dict[str, Any], arm: str, test: str, figure: str) -> F64:
    """One figure of an arm by seed, percent: float64 [seeds]."""
    return np.array([seed[test][figure] for seed in arms[arm]])


def closed(arms: dict[str, Any], arm: str, test: str) -> F64:
    """Share of the gap between stage 1 and the truth's labels that an arm closes, percent, by
    seed."""
    first, own, truth = (values(arms, name, test, "miou") for name in ("stage 1", arm, "truth"))
    return 100 * (own - first) / (truth - first)


def markdown(arms: dict[str, Any]) -> list[str]:
    """Mean and range over the seeds: vegetation mIoU, and boundary IoU in a second table."""
    lines = []
    for figure, title in (("miou", "Vegetation mIoU, %"), ("boundary_iou", "Boundary IoU, %")):
        lines += [f"| {title} | " + " | ".join(TITLES[test] for test in TESTS) + " |"]
        lines += ["|---" * (len(TESTS) + 1) + "|"]
        for arm in ARMS:
            cells = (spread(values(arms, arm, test, figure)) for test in TESTS)
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        for arm in ("stage 2", "stage 1, as long") if figure == "miou" else ():
            cells = (spread(closed(arms, arm, test), 0) for test in TESTS)
            lines.append(f"| share of the gap closed by {arm} (%) | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def spread(found: F64, digits: int = 1) -> str:
    """ "mean (least to most)"."""
    return f"{found.mean():.{digits}f} ({found.min():.{digits}f} to {found.max():.{digits}f})"


def _plot(arms: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TESTS), figsize=(11, 3.6), layout="constrained")
    for axis, test in zip(axes, TESTS, strict=True):
        for row, arm in enumerate(reversed(ARMS)):
            found = values(arms, arm, test, "miou")
            axis.plot(found, [row] * len(found), "o", color="tab:green", alpha=0.5)
            axis.plot([found.mean()], [row], "|", color="black", markersize=16)
        axis.set_yticks(range(len(ARMS)), list(reversed(ARMS)) if axis is axes[0] else [])
        axis.set(title=TITLES[test], xlabel="vegetation mIoU, %")
        axis.grid(axis="x", alpha=0.3)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
    temporary.replace(path)
