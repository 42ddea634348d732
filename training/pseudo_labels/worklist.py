"""A list of pictures done once, by one process or many: shared out, recorded, resumed, merged.

Each process of `torchrun` takes every WORLD_SIZE-th picture and appends a row for each to a table
of its own, `parts/NAME.RANK-WORLD.csv`. A row stands for a finished picture, whoever did it; so a
run that was killed goes on, with another number of processes too. A picture whose status is not
`ok` is tried again by the next run, and its latest row counts. The process that finds all rows
there writes the one table.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.folder import natural_key
from cropseg_edge.frames.image import IMAGE_SUFFIXES

_AGAIN = "again"  # status of a picture that a process has begun to try again


def find_images(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by stem, in natural order.

    Raises:
        FrameError: not a folder, or no picture in it.
        ConfigError: two pictures share a stem, so their results would share a name.
    """
    try:
        paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise FrameError(f"folder {folder} cannot be read: {error.strerror}") from error
    images: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in images:
            raise ConfigError(f"{images[path.stem]} and {path.name} share a stem: rename one")
        images[path.stem] = path
    if not images:
        raise FrameError(f"folder {folder} has no images ({' '.join(IMAGE_SUFFIXES)})")
    return images


def shard_of() -> tuple[int, int]:
    """(RANK, WORLD_SIZE) as torchrun sets them; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Worklist:
    """The pictures of one run and what came of each.

    Args:
        out: the run's folder.
        table: the final table's name, such as `scores.csv`; its first column is `stem`.
        columns: of the table, `stem` left out; among them `status`, which is `ok` or a refusal.
        stems: all pictures of the run, over all processes.
        settings: the effective configuration as YAML; a run goes on only with the one it began
            with.

    Raises:
        ConfigError: the folder holds a run with other settings.
        OSError: the folder cannot be written.
    """

    def __init__(
        self, out: Path, table: str, columns: Sequence[str], stems: Sequence[str], settings: str
    ) -> None:
        self.rank, self.world = shard_of()
        self._out, self._table, self._stems = out, table, list(stems)
        self._columns = ["stem", *columns]
        self._folder = out / "parts"
        self._folder.mkdir(parents=True, exist_ok=True)
        effective = out / "config.yaml"
        begun = any(self._folder.iterdir()) and effective.exists()
        if begun and effective.read_text(encoding="utf-8") != settings:
            raise ConfigError(f"{effective} differs from this run: take another --out or remove it")
        write_atomically(effective, settings.encode())
        name = f"{Path(table).stem}.{self.rank}-{self.world}.csv"
        self._part = self._folder / name
        _drop_torn_row(self._part)

    def pending(self) -> list[str]:
        """The pictures of this process that no process has done, or that were refused.

        The row of a refused one no longer counts, so that no table is merged while it is at work.
        """
        rows = self.rows()
        mine = self._stems[self.rank :: self.world]
        todo = [stem for stem in mine if stem not in rows or rows[stem]["status"] != "ok"]
        for stem in todo:
            if stem in rows:
                self.record(stem, {"status": _AGAIN})
        return todo

    def record(self, stem: str, row: Mapping[str, object]) -> None:
        """A picture is done; its row is on disk when this returns."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        if not self._part.exists():
            writer.writeheader()
        writer.writerow({"stem": stem, **row})
        with self._part.open("a", encoding="utf-8", newline="") as file:
            file.write(buffer.getvalue())

    def rows(self) -> dict[str, dict[str, str]]:
        """All finished pictures of all processes, each once: its row that is ok, else its last."""
        found: dict[str, dict[str, str]] = {}
        parts = self._folder.glob(f"{Path(self._table).stem}.*.csv")
        for part in sorted(parts, key=lambda path: path.stat().st_mtime_ns):
            text = part.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]  # a row without its end is still being written
            for row in csv.DictReader(io.StringIO(whole)):
                if row["stem"] not in found or found[row["stem"]]["status"] != "ok":
                    found[row["stem"]] = row
        return {stem: row for stem, row in found.items() if row["status"] != _AGAIN}

    def merge(self) -> list[dict[str, str]] | None:
        """Write the table if every picture is done.

        Returns:
            Its rows in the order of the pictures; None while other processes are still at work.
        """
        found = self.rows()
        if any(stem not in found for stem in self._stems):
            return None
        rows = [found[stem] for stem in self._stems]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._out / self._table, buffer.getvalue().encode())
        return rows


def _drop_torn_row(part: Path) -> None:
    """A process killed while it wrote left half a row: cut it off, so that rows can follow."""
    if not part.exists():
        return
    data = part.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        part.unlink()
    elif len(whole) < len(data):
        write_atomically(part, whole)
