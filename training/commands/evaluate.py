"""`evaluate`: a model, baselines and a data root in; tables and a page out."""

import sys
from pathlib import Path

import click


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--split", default="dev", show_default=True, help="Split of ROOT/splits.csv.")
@click.option("--set", "sets", multiple=True, help="Only this set of ROOT (may be repeated).")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    required=True,
    help="A bundle (.cropseg) or a checkpoint of `train` (.pt).",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    help="exg, hsv, segformer=FOLDER, sam=FOLDER (or a name on the hub) or checkpoint=FILE (any "
    "model of ours); may be repeated.",
)
@click.option(
    "--segformer-label",
    "labels",
    multiple=True,
    metavar="LABEL=CLASS",
    help="A label of the SegFormer (name or number) that is crop or weed; the rest is background.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results.")
@click.option("--resamples", type=click.IntRange(10), default=2000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Of PyTorch, e.g. cuda.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: the libraries').")
def evaluate(
    root: Path, split: str, sets: tuple[str, ...], model: Path, baselines: tuple[str, ...],
    labels: tuple[str, ...], out: Path, resamples: int, seed: int, device: str,
    threads: int | None,
) -> None:  # fmt: skip
    """Compare a model with ground truth, and with baselines on the same pictures.

    ROOT is a folder with splits.csv and datasets.yaml. OUT gets evaluation.md and evaluation.json
    (IoU, boundary IoU, precision and recall of vegetation and crop, by data set and condition,
    with 95 % intervals), evaluation.html (best, median and worst pictures), pictures.csv,
    metrics.json (for `export --metrics`), and counts/, from which a run that was cut off goes on.

    \b
    Examples:
      cropseg simulate --random --frames 40 --out out/fields
      python -m training evaluate out/fields --split train --out out/evaluation \\
        --model cropseg_edge/bundle/nano.cropseg --baseline exg --baseline hsv
    """
    from training.evaluation.report import EvaluateConfig, run

    config = EvaluateConfig(
        root=root, split=split, sets=sets, model=model, baselines=baselines,
        segformer_labels=_mapping(labels), out=out, resamples=resamples, seed=seed,
        device=device, threads=threads,
    )  # fmt: skip
    click.echo(run(config, _progress))


def _mapping(labels: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for label in labels:
        name, _, wanted = label.rpartition("=")
        if not name or wanted not in ("crop", "weed"):
            raise click.UsageError(f"--segformer-label is LABEL=crop or LABEL=weed, got {label!r}")
        found[name] = wanted
    return found


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{name}: {done}/{total}\x1b[K", err=True, nl=done == total)
    elif done == total or done % max(1, total // 10) == 0:
        click.echo(f"{name}: {done}/{total}", err=True)
