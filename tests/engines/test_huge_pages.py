"""Which of a process's memory is asked into huge pages, and that asking can do no harm."""

from pathlib import Path

import numpy as np
import pytest

from cropseg_edge.engines import huge_pages

SMAPS = """\
55d0c0000000-55d0c4000000 r-xp 00000000 08:01 1234      /usr/bin/python3
Size:              65536 kB
Rss:               65536 kB
7f0000000000-7f0001000000 rw-p 00000000 00:00 0
Size:              16384 kB
Rss:               16000 kB
7f0002000000-7f0002800000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                 120 kB
7f0003000000-7f0003100000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                1024 kB
7f0004000000-7f0005000000 rw-p 00000000 08:01 77        /tmp/mapped
Size:              16384 kB
Rss:               16384 kB
7f0006000000-7f0006800000 rw-p 00000000 00:00 0                          [heap]
Size:               8192 kB
Rss:                8192 kB
"""


def test_large_buffers_in_use_and_nothing_else() -> None:
    assert list(huge_pages.large_buffers(SMAPS)) == [(0x7F0000000000, 16 << 20)]


def test_a_buffer_keeps_what_it_holds() -> None:
    values = np.arange(8 << 20, dtype=np.float32)  # 32 MB
    huge_pages.use_huge_pages()
    assert values.sum(dtype=np.float64) == (8 << 20) * ((8 << 20) - 1) / 2


@pytest.mark.parametrize("mode", ["always [never] madvise", "[always] madvise never", None])
def test_where_the_kernel_decides_nothing_is_asked(
    mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "enabled"
    if mode is not None:
        path.write_text(mode)
    monkeypatch.setattr(huge_pages, "MODE", path)
    assert huge_pages.use_huge_pages() == 0
