"""`select`: calibration frames from folders, bags, data roots or the simulator."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
@click.option("--topic", help="Image topic of those SOURCES that are bags.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the draw from large sources.",
)
def select(
    sources: tuple[str, ...],
    out: Path,
    count: int,
    pool: int,
    split: str,
    topic: str | None,
    seed: int,
) -> None:
    """Choose frames that differ in look and light from SOURCES, and write them with their hashes.

    A source is a data root (splits.csv) or one of its sets (ROOT/NAME), a folder, a video, a bag or
    simulator:...; evaluation pictures of a root, and pictures of random numbers, are refused; what
    the segmenter would refuse is left out; equal ones count once.

    \b
    Example:
      python -m calibration select simulator:species=beet,frames=20 \\
          simulator:species=maize,condition=night,frames=20 --count 12 --out out/frames
    """
    import logging
    from collections import Counter

    from calibration.candidates import candidates
    from calibration.frames import choose, spare, write_set
    from cropseg_edge.errors import ConfigError
    from cropseg_edge.frames.open import is_bag

    if topic and not any(is_bag(Path(source)) for source in sources):
        raise click.UsageError("--topic: none of the sources is a bag.")
    spare(out, sources)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, tidily
    with _work_folder(out) as work:
        found = []
        for source in sources:
            before = len(found)
            found += candidates(source, pool=pool, split=split, seed=seed, work=work, topic=topic)
            click.echo(f"{source}: {len(found) - before} pictures")
        if not found:
            raise ConfigError("no picture to choose from: none of the sources has one of use")
        chosen = choose(found, count)
        write_set(chosen, out)
    lights = Counter(candidate.condition for candidate in chosen)
    text = ", ".join(f"{n} {light}" for light, n in lights.most_common())
    click.echo(f"{len(chosen)} of {len(found)} pictures ({text}) in {out}")
    if len(chosen) < count:
        logging.getLogger("calibration").warning(
            "only %d of the %d frames asked for: the sources have no more that differ",
            len(chosen), count,
        )  # fmt: skip


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder in `out` for the pool; afterwards it is gone, and so is `out` if new and empty.

    Raises:
        StorageError: the disk is full.
    """
    import shutil
    from tempfile import TemporaryDirectory

    from cropseg_edge.errors import StorageError

    for left in out.glob(".frames.????????"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".frames.", dir=out) as work:
            yield Path(work)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageError(
            f"{error.filename or out}: {error.strerror}; make room or lower --pool, and start the "
            "same command again"
        ) from error
    finally:
        for folder in new:
            with suppress(OSError):  # it holds the set
                folder.rmdir()
