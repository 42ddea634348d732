"""Work done picture by picture, kept in a file, so that a run that was cut off goes on."""

import json
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from cropseg_edge.errors import StorageError
from cropseg_edge.files import write_atomically
from training.evaluation.pictures import Picture

Progress = Callable[[int, int], None]  # done, total


def kept(
    file: Path,
    pictures: Sequence[Picture],
    work: Callable[[Picture], Any],
    progress: Progress | None = None,
) -> list[Any]:
    """What `work` gives for each picture: from `file` where it stands there, else computed.

    `file` holds a JSON line a picture, appended as it is done; a line counts as long as the
    picture's files are those that it was computed from.

    Args:
        work: picture in, plain JSON values out.

    Raises:
        FrameError: a picture's files cannot be read; what was done before is kept.
        StorageError: the disk is full.
    """
    done = _read(file)
    versions = [picture.version() for picture in pictures]
    lines = [json.dumps([name, *entry]) + "\n" for name, entry in done.items()]
    write_atomically(file, "".join(lines).encode(), durable=False)  # without a half-written line
    results = []
    with file.open("ab", buffering=0) as out:
        for number, (picture, version) in enumerate(zip(pictures, versions, strict=True), 1):
            entry = done.get(picture.name)
            if entry is None or entry[0] != version:
                entry = (version, work(picture))
                _append(out, json.dumps([picture.name, *entry]) + "\n", file)
            results.append(entry[1])
            if progress:
                progress(number, len(pictures))
    return results


def _append(out: FileIO, line: str, file: Path) -> None:
    data = line.encode()
    try:
        written, reason = out.write(data), "no space left"
    except OSError as error:
        written, reason = 0, error.strerror
    if written != len(data):
        raise StorageError(
            f"{file} cannot be written ({reason}); what was counted before is kept: make room and "
            "start the same command again"
        )


def _read(file: Path) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    if not file.exists():
        return found
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            name, version, value = json.loads(line)
        except ValueError:
            continue  # the run died while it wrote this line
        found[name] = (version, value)
    return found
