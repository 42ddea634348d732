"""Rows of a picture shared by a few threads, for calls that let go of the interpreter."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

_MOST = 8


def in_parts(call: Callable[[int, int], int], rows: int, threads: int) -> int:
    """Run `call(first, last)` over parts of the rows, one a thread, this one among them.

    Returns:
        The highest of what the calls returned.
    """
    parts = min(threads, rows, _MOST)
    if parts <= 1:
        return call(0, rows)
    bounds = [rows * i // parts for i in range(parts + 1)]
    others = [_pool().submit(call, *part) for part in pairwise(bounds[1:])]
    return max(call(0, bounds[1]), *(other.result() for other in others))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST, "cropseg-rows")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
