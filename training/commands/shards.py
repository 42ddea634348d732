"""`shards`: data root in, WebDataset shards out."""

from pathlib import Path

import click


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for shards.")
@click.option("--split", default="train", show_default=True, help="As in the root's splits.csv.")
@click.option("--set", "sets", multiple=True, help="Pack this set only; may be given repeatedly.")
@click.option(
    "--per-shard", type=click.IntRange(1), default=1000, show_default=True, help="Pictures a file."
)
def shards(root: Path, out: Path, split: str, sets: tuple[str, ...], per_shard: int) -> None:
    """Pack a data root's pictures into tar files, for data sets too large for single files.

    Every picture is checked. The folder is then a data root for `train` (data.roots); a run over
    it sees the same samples as one over ROOT. Split `unlabelled` is packed without masks, for
    unlabelled.weights. Started again with the same --out, it goes on.

    \b
    Example, on the simulator's data:
      cropseg simulate --random --frames 40 --seed 1 --width 320 --height 240 --out runs/known
      python -m training shards runs/known --out runs/known_shards --per-shard 10
      python -m training train --config training/configs/quick/train.yaml --out runs/from_shards \\
        --set data.roots=[runs/known_shards] --set steps=20
    """
    from training.data.shards import write_shards

    for name, count in write_shards(root, split, out, sets=sets, per_shard=per_shard).items():
        click.echo(f"{out / name}: {count} pictures")
