"""Worker: the one thread in which frames are decoded, segmented and published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cropseg_ros.mailbox import Mailbox

T = TypeVar("T")


class Worker(Generic[T]):
    """Hands the latest item to `work`, one at a time.

    Args:
        work: called in the worker's thread.
        failed: called there with what `work` raised; the worker then goes on.
        log: called there with what `failed` raised; the worker then goes on.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        failed: Callable[[T, Exception], None],
        log: Callable[[Exception], None],
    ) -> None:
        self.mailbox: Mailbox[T] = Mailbox()
        self._work = work
        self._failed = failed
        self._log = log
        self._thread = threading.Thread(target=self._run, name="segment", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self.mailbox.take()) is not None:
            try:
                try:
                    self._work(item)
                except Exception as error:  # the thread's boundary: the mask is INVALID
                    self._failed(item, error)
            except Exception as error:  # and where even that cannot be said, the next one may be
                self._log(error)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> bool:
        """Take no more items and wait for the one at work. Returns whether the thread ended."""
        self.mailbox.close()
        self._thread.join(timeout_s)
        return not self.alive()
