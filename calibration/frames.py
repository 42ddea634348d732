"""Calibration frames: candidates in, a small set that differs in look and light out.

The set is a folder of PNG files and `frames.json`, which names each one's source and hash.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.candidates import Candidate
from cropseg_edge.bundle import CalibrationFrame, InputSpec
from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import read_image
from cropseg_edge.letterbox import Letterbox

MANIFEST = "frames.json"


class CalibrationSet(NamedTuple):
    """A set on disk, its hashes checked."""

    folder: Path
    frames: tuple[CalibrationFrame, ...]

    def inputs(self, spec: InputSpec) -> Iterator[NDArray[np.float32]]:
        """The network's input of each frame, float32 [1, 3, H, W]."""
        letterbox = Letterbox(spec)
        for frame in self.frames:
            yield letterbox.fill(read_image(self.folder / frame.name)).copy()


def choose(pool: Sequence[Candidate], count: int) -> list[Candidate]:
    """The most typical picture of each light, then always the one least like those chosen.

    Farthest-point selection on standardised looks; the same pool gives the same choice. Of equal
    pictures the first alone counts.
    """
    unique: dict[bytes, Candidate] = {}
    for candidate in pool:
        unique.setdefault(candidate.digest, candidate)
    pool = list(unique.values())
    looks = np.stack([candidate.look for candidate in pool])
    looks = (looks - looks.mean(0)) / np.maximum(looks.std(0), 1e-9)
    chosen: list[int] = []
    for light in sorted({candidate.condition for candidate in pool}):
        members = [i for i, candidate in enumerate(pool) if candidate.condition == light]
        centre = looks[members].mean(0)
        chosen.append(min(members, key=lambda i: float(((looks[i] - centre) ** 2).sum())))
    chosen = chosen[:count]
    distance = ((looks[:, None] - looks[chosen][None]) ** 2).sum(-1).min(1)
    while len(chosen) < min(count, len(pool)):
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((looks - looks[chosen[-1]]) ** 2).sum(-1))
    return [pool[i] for i in chosen]


def write_set(chosen: Iterable[Candidate], folder: Path) -> CalibrationSet:
    """Write pictures, then the manifest; then remove those of the two sets that it does not list.

    A picture's name holds its hash, so that none of the set before, or of the user, is overwritten:
    cut off anywhere, `folder` holds the one set or the other.

    Raises:
        FrameError: a picture can no longer be read.
        OSError: the disk is full, or `folder` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = _listed(folder)
    records, rows = [], []
    try:
        for number, candidate in enumerate(chosen):
            data = cv2.imencode(".png", read_image(candidate.file))[1].tobytes()
            digest = hashlib.sha256(data).hexdigest()
            name = f"{number:04d}-{digest[:8]}.png"
            names.add(name)
            write_atomically(folder / name, data)
            origin = f"{Path(candidate.source).name}/{candidate.name}"
            records.append(CalibrationFrame(name=name, source=origin, sha256=digest))
            rows.append(records[-1].model_dump() | {"condition": candidate.condition})
        document = json.dumps({"format": 1, "frames": rows}, indent=2)
        write_atomically(folder / MANIFEST, document.encode() + b"\n")
    finally:
        for name in names - _listed(folder):
            (folder / name).unlink(missing_ok=True)
    return CalibrationSet(folder, tuple(records))


def spare(folder: Path, sources: Collection[str]) -> None:
    """Raise ConfigError where `folder`, for a set, is or holds a source."""
    for source in filter(os.path.exists, sources):  # else a camera, a URL, the simulator
        path = Path(source).resolve()
        if folder.resolve() in (path, *path.parents):
            raise ConfigError(
                f"{folder} is or holds the source {source}, whose pictures a set would mix with; "
                "give --out a folder of its own"
            )


def read_set(folder: Path) -> CalibrationSet:
    """A set that `write_set` wrote.

    Raises:
        ConfigError: no set, a picture that was changed since, or one outside of the folder.
    """
    try:
        rows = json.loads((folder / MANIFEST).read_text())["frames"]
        frames = tuple(
            CalibrationFrame(**{key: row[key] for key in ("name", "source", "sha256")})
            for row in rows
        )
        for frame in frames:
            if Path(frame.name).name != frame.name:
                raise ConfigError(f"{folder / MANIFEST} names {frame.name}, no file of its folder")
            found = hashlib.sha256((folder / frame.name).read_bytes()).hexdigest()
            if found != frame.sha256:
                raise ConfigError(
                    f"{folder / frame.name} was changed after it was selected; select again"
                )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is no set of calibration frames ({error}); make one with "
            "`python -m calibration select`"
        ) from error
    if not frames:
        raise ConfigError(f"{folder} holds no calibration frame; select some")
    return CalibrationSet(folder, frames)


def _listed(folder: Path) -> set[str]:
    """The pictures of the set that a folder holds, none where it holds no set."""
    try:
        rows = json.loads((folder / MANIFEST).read_text())["frames"]
        return {Path(row["name"]).name for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
