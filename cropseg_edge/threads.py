"""Rows of a picture shared by a few threads, for calls that let go of the interpreter."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

_MOST = 8
_PARTS_A_THREAD = 4


def in_parts(call: Callable[[int, int], int], rows: int, threads: int) -> int:
    """Run `call(first, last)` over parts of the rows in a few threads, this one among them.

    Whoever is done with a part takes the next one: a thread that a busy computer starts late, or
    not at all, is not waited for.

    Returns:
        The highest of what the calls returned.
    """
    threads = min(threads, rows, _MOST)
    if threads <= 1:
        return call(0, rows)
    count = min(rows, threads * _PARTS_A_THREAD)
    parts = iter([(rows * i // count, rows * (i + 1) // count) for i in range(count)])

    def work() -> int:
        return max((call(*part) for part in parts), default=0)

    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    own = work()
    return max([own, *(other.result() for other in others if not other.cancel())])


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, "cropseg-rows")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
