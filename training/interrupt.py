"""Ctrl-C and SIGTERM wait until what was learnt can be saved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from cropseg_edge.errors import ConfigError


class Held:
    """Notes the first SIGINT or SIGTERM instead of acting on it; a second one acts at once.

    Where several processes train one network nothing is held: torchrun ends them all together.

    Attributes:
        number: of the signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Held":
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        if alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as it is for a shell's `&`
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def act(self) -> NoReturn:
        """What the signal would have done: KeyboardInterrupt, or for SIGTERM exit code 143."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.number = bool(self.number), number
        if again:
            self.act()


@contextmanager
def watched_readers(held: Held) -> Iterator[None]:
    """Where a process that reads pictures is killed, say so; torch raises that anywhere, even in
    the middle of a step, so nothing is saved.

    Raises:
        ConfigError: it was killed, unless by the signal that ended this process as well.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        if held.number:
            held.act()
        raise ConfigError(
            "a process that reads pictures was killed, perhaps for want of memory: lower "
            "data.workers or data.cache; the same command goes on from what was saved last"
        ) from error


def leave_group(worker: int) -> None:
    """In a process that reads pictures: what ends a whole group of processes (Ctrl-C, `timeout`) is
    for the one that trains, which ends its readers itself."""
    os.setpgrp()
