"""What a command says, in a file beside its results."""

import errno
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from cropseg_edge.errors import CropSegError, StorageError

log = logging.getLogger("training")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append all that `training` logs, from INFO on, to a file, and the error that ends it.

    Raises:
        StorageError: the disk became full, whatever was written then.
    """
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except CropSegError as error:
        handler.note(str(error))
        raise
    except OSError as error:
        if error.errno not in FULL:
            handler.note(str(error))
            raise
        raise StorageError(
            f"{error.filename or path.parent}: {error.strerror}; make room and start the same "
            "command again"
        ) from error
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        with suppress(OSError):  # what is still to be written on a full disk
            handler.close()


class _LogFile(logging.FileHandler):
    """A file for log records; a record that does not fit on the disk is lost without a word."""

    def note(self, message: str) -> None:
        """Write an error that only this file is to have."""
        self.handle(logging.LogRecord(log.name, logging.ERROR, "", 0, message, None, None))

    def handleError(self, record: logging.LogRecord) -> None:
        """What cannot be written here is no reason to stop, nor to say more than the results do."""


def train_log(out: Path) -> AbstractContextManager[None]:
    """`log_to` `out/train.log`, the folder made where missing; of torchrun's processes, the first
    one alone writes it."""
    from training.distributed import first_process

    if not first_process():
        return nullcontext()
    out.mkdir(parents=True, exist_ok=True)
    return log_to(out / "train.log")
