"""What `depth` and `pseudo-label` share: where pictures lie, progress, the log, the last line."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from training.logfile import log_to
from training.pseudo_labels.worklist import shard_of

Rows = list[dict[str, str]]
log = logging.getLogger(__name__)

_EVERY = 100  # pictures between two lines of progress


def images_of(pictures: Path) -> Path:
    """The folder of images: `pictures` itself, or `images` in it where there is one."""
    return pictures / "images" if (pictures / "images").is_dir() else pictures


def default_device() -> str:
    """This process's GPU where there is one, else the CPU."""
    import os

    import torch

    if torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu"


def run_reported(run: Callable[[Callable[[int, int], None]], Rows | None], out: Path) -> None:
    """Run with progress on the log, and the log in `out/log.RANK.txt`.

    Args:
        run: takes the function to call with (done, total); gives the table's rows, or None while
            other processes are still at work.
        out: the run's folder; made where missing.
    """
    rank, world = shard_of()
    out.mkdir(parents=True, exist_ok=True)
    with log_to(out / f"log.{rank}.txt"):
        rows = run(_progress)
        if rows is None:
            log.info("process %d of %d is done; the last one writes the table", rank + 1, world)
        else:
            log.info("%s: %s", out, summary(rows))


def summary(rows: Rows) -> str:
    """How many are ok and how many were refused for what, the commonest reason first."""
    refused = [row["reason"].split(":")[0] for row in rows if row["status"] != "ok"]
    line = f"{len(rows)} pictures, {len(rows) - len(refused)} ok, {len(refused)} refused"
    reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(refused).most_common(4))
    return f"{line} ({reasons})" if refused else line


def _progress(done: int, total: int) -> None:
    if done % _EVERY == 0 or done == total:
        log.info("%d/%d pictures", done, total)
