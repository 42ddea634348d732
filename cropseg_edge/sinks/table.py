"""frames.csv: a line a frame, on disk as soon as the frame is done."""

import csv
import io
from pathlib import Path
from types import TracebackType

from cropseg_edge.files import write_atomically
from cropseg_edge.sinks.statistics import COLUMNS, Row


class FrameTable:
    """Appends rows to a CSV file and flushes each.

    The stages are columns, and a run may begin with a frame that passed none of them: when a new
    column comes, the file is written again with the wider header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns = list(COLUMNS)
        self._rows: list[Row] = []
        self._rewrite()

    def write(self, row: Row) -> None:
        self._rows.append(row)
        new = [column for column in row if column not in self._columns]
        if new:
            self._columns += new
            self._file.close()
            self._rewrite()
        else:
            self._file.write(self._text([row]))
            self._file.flush()

    def _rewrite(self) -> None:
        header = ",".join(self._columns) + "\n"
        text = (header + self._text(self._rows)).encode(errors="backslashreplace")
        write_atomically(self.path, text, durable=False)
        # A file name, and so a frame's, need not be UTF-8.
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="")

    def _text(self, rows: list[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "FrameTable":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
