"""What a command says, in a file beside its results."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

log = logging.getLogger("training")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append all that `training` logs, from INFO on, to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


def train_log(out: Path) -> AbstractContextManager[None]:
    """`log_to` `out/train.log`, the folder made where missing; of torchrun's processes, the first
    one alone writes it."""
    from training.distributed import first_process

    if not first_process():
        return nullcontext()
    out.mkdir(parents=True, exist_ok=True)
    return log_to(out / "train.log")
