"""`select`: calibration frames from folders, bags, data roots or the simulator."""

from pathlib import Path

import click


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@click.option("--count", default=48, show_default=True, type=click.IntRange(min=1), help="Frames.")
@click.option(
    "--pool",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Pictures looked at in each source.",
)
@click.option("--split", default="train", show_default=True, help="Of a data root.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the draw from large sources.",
)
def select(
    sources: tuple[str, ...], out: Path, count: int, pool: int, split: str, seed: int
) -> None:
    """Choose frames that differ in look and light from SOURCES, and write them with their hashes.

    A source is a data root (splits.csv), a folder, a video, a bag or simulator:...; evaluation
    pictures of a root, and pictures of random numbers, are refused; equal ones count once.

    \b
    Example:
      python -m calibration select simulator:species=beet,frames=20 \\
          simulator:species=maize,condition=night,frames=20 --count 12 --out out/frames
    """
    from collections import Counter

    from calibration.frames import candidates, choose, write_set
    from cropseg_edge.errors import ConfigError

    found = []
    for source in sources:
        before = len(found)
        found += candidates(source, pool=pool, split=split, seed=seed)
        click.echo(f"{source}: {len(found) - before} pictures")
    if not found:
        raise ConfigError("no picture to choose from; every one of the sources shows nothing")
    chosen = choose(found, count)
    write_set(chosen, out)
    lights = Counter(candidate.condition for candidate in chosen)
    text = ", ".join(f"{n} {light}" for light, n in lights.most_common())
    click.echo(f"{len(chosen)} of {len(found)} pictures ({text}) in {out}")
