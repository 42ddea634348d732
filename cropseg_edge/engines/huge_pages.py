"""Ask Linux to keep this process's large buffers in huge pages, where that is left to programs.

A frame's maps are tens of megabytes. In pages of 4 kB a processor spends a good part of a run on
finding them (madvise(2), MADV_HUGEPAGE and MADV_COLLAPSE; Documentation/admin-guide/mm/transhuge).
"""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MAPS = Path("/proc/self/smaps")
SMALLEST = 4 << 20  # bytes; smaller mappings gain nothing
_HUGEPAGE, _COLLAPSE = 14, 25  # MADV_*
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *$")


def use_huge_pages() -> int:
    """Move large anonymous buffers that are in use to huge pages; returns the bytes asked for.

    Does nothing (0) where the kernel has none, decides by itself, or refuses; never raises.
    """
    try:
        if "[madvise]" not in MODE.read_text():
            return 0
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        asked = 0
        for start, size in large_buffers(MAPS.read_text()):
            if madvise(start, size, _HUGEPAGE) == 0:
                asked += size
                madvise(start, size, _COLLAPSE)  # from Linux 6.1 on; else the kernel does in time
        return asked
    except (OSError, AttributeError):
        return 0


def large_buffers(maps: str) -> Iterator[tuple[int, int]]:
    """Address and size of each anonymous private mapping in the text of an smaps file that is large
    and at least half resident: what is hardly used, as a thread's stack, would only grow."""
    start = size = 0
    for line in maps.splitlines():
        if line[:1] in "0123456789abcdef":
            found = _MAPPING.match(line)
            start = int(found[1], 16) if found else 0
            size = int(found[2], 16) - start if found else 0
        elif line.startswith("Rss:") and 2048 * int(line.split()[1]) >= size >= SMALLEST:
            yield start, size
