"""Calibration frames: many pictures in, a small set that differs in look and light out.

The set is a folder of PNG files and `frames.json`, which names each one's source and hash. Scales
of random numbers would fit nothing, so a picture of noise is refused.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import CalibrationFrame, InputSpec
from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import read_image
from cropseg_edge.frames.open import open_source
from cropseg_edge.labelled import read_root
from cropseg_edge.letterbox import Letterbox
from training.data.fields import set_at, trainable_entry, unlabelled_stems

log = logging.getLogger("calibration")
MANIFEST = "frames.json"
EVALUATION_SPLITS = ("dev", "test", "val")
LEAST_CORRELATION = 0.3  # of neighbouring pixels; photographs have 0.7 and more, noise has 0
LEAST_CONTRAST = 2.0  # standard deviation of grey values; below it a picture shows nothing
THUMBNAIL = (160, 120)


@dataclass(frozen=True)
class Candidate:
    """A picture that may be chosen: BGR uint8 [H, W, 3], where it is from, how it looks."""

    image: NDArray[np.uint8]
    name: str
    source: str
    look: NDArray[np.float64]
    condition: str


class CalibrationSet(NamedTuple):
    """A set on disk, its hashes checked."""

    folder: Path
    frames: tuple[CalibrationFrame, ...]

    def inputs(self, spec: InputSpec) -> Iterator[NDArray[np.float32]]:
        """The network's input of each frame, float32 [1, 3, H, W]."""
        letterbox = Letterbox(spec)
        for frame in self.frames:
            yield letterbox.fill(read_image(self.folder / frame.name)).copy()


def candidates(source: str, *, pool: int, split: str, seed: int) -> Iterator[Candidate]:
    """Pictures of a source, at most `pool` of them, drawn evenly.

    Args:
        source: a data root (a folder with splits.csv), or what `cropseg run` takes; of a set's
            folder in a data root, only pictures in `split` and in `unlabelled` are taken.
        pool: how many are looked at.
        split: of a data root; the splits that evaluation uses are refused.
        seed: of the draw.

    Raises:
        ConfigError: an evaluation split, or a picture of random numbers.
        FrameError: the source cannot be read, or is for evaluation only.
    """
    rng = np.random.default_rng(seed)
    for name, image in _pictures(source, pool, split, rng):
        refuse_noise(image, f"{source}: {name}")
        grey = float(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).std())
        if grey < LEAST_CONTRAST:
            log.warning("%s: %s shows nothing; left out", source, name)
            continue
        yield Candidate(image, name, source, look(image), condition(image))


def refuse_noise(image: NDArray[np.uint8], label: str) -> None:
    """Raise ConfigError for random numbers: neighbouring pixels must have to do with another."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if grey.std() < LEAST_CONTRAST:
        return
    quarter = (max(8, grey.shape[1] // 4), max(8, grey.shape[0] // 4))
    calm = cv2.resize(grey, quarter, interpolation=cv2.INTER_AREA)  # a night's grain averages out
    found = max(_correlation(grey), _correlation(calm))
    if found < LEAST_CORRELATION:
        raise ConfigError(
            f"{label} is random numbers, not a picture (neighbouring pixels correlate by "
            f"{found:.2f}); scales must come from what the camera will see"
        )


def _correlation(grey: NDArray[np.uint8]) -> float:
    beside = np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1]
    below = np.corrcoef(grey[:-1].ravel(), grey[1:].ravel())[0, 1]
    return float(max(beside, below))


def look(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Appearance as 11 numbers: Lab means and spreads, dark and bright shares, greenness, texture.

    Measured on a thumbnail, so that the camera's size does not matter.
    """
    small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1, 3).astype(np.float64)
    blue, green, red = (small[..., i].astype(np.float64) for i in range(3))
    excess = (2 * green - red - blue) / np.maximum(red + green + blue, 1)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    coarse = cv2.resize(grey, (40, 30), interpolation=cv2.INTER_AREA)
    texture = [float(cv2.Laplacian(g, cv2.CV_64F).std()) for g in (grey, coarse)]
    shares = [float((grey < 32).mean() * 100), float((grey > 223).mean() * 100)]
    greenness = float((excess > 0.1).mean() * 100)
    return np.array([*lab.mean(0), *lab.std(0), *shares, greenness, *texture])


def condition(image: NDArray[np.uint8]) -> str:
    """The light in words: dark, dim, even, contrasty or glaring."""
    grey = cv2.cvtColor(cv2.resize(image, THUMBNAIL), cv2.COLOR_BGR2GRAY)
    low, middle, high = np.percentile(grey, (5, 50, 95))
    if high > 250:
        return "glaring"
    if middle < 50:
        return "dark"
    if middle < 90:
        return "dim"
    return "contrasty" if high - low > 130 else "even"


def choose(pool: Sequence[Candidate], count: int) -> list[Candidate]:
    """The most typical picture of each light, then always the one least like those chosen.

    Farthest-point selection on standardised looks; the same pool gives the same choice. Of equal
    pictures the first alone counts.
    """
    unique: dict[bytes, Candidate] = {}
    for candidate in pool:
        unique.setdefault(hashlib.sha256(candidate.image.tobytes()).digest(), candidate)
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
    """Write pictures and manifest; the manifest comes last, so that half a set is no set.

    Pictures of a set that `folder` held before are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records, rows = [], []
    for number, candidate in enumerate(chosen):
        name = f"{number:04d}.png"
        data = cv2.imencode(".png", candidate.image)[1].tobytes()
        write_atomically(folder / name, data, durable=False)
        digest = hashlib.sha256(data).hexdigest()
        origin = f"{Path(candidate.source).name}/{candidate.name}"
        records.append(CalibrationFrame(name=name, source=origin, sha256=digest))
        rows.append(records[-1].model_dump() | {"condition": candidate.condition})
    for name in _listed(folder) - {record.name for record in records}:
        (folder / name).unlink(missing_ok=True)
    document = json.dumps({"format": 1, "frames": rows}, indent=2)
    write_atomically(folder / MANIFEST, document.encode() + b"\n")
    return CalibrationSet(folder, tuple(records))


def read_set(folder: Path) -> CalibrationSet:
    """A set that `write_set` wrote.

    Raises:
        ConfigError: no set, or a picture that was changed since.
    """
    try:
        rows = json.loads((folder / MANIFEST).read_text())["frames"]
        frames = tuple(
            CalibrationFrame(**{key: row[key] for key in ("name", "source", "sha256")})
            for row in rows
        )
        for frame in frames:
            found = hashlib.sha256((folder / Path(frame.name).name).read_bytes()).hexdigest()
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


def _pictures(
    source: str, pool: int, split: str, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    path = Path(source)
    is_root = (path / "splits.csv").is_file()
    of_set = None
    if path.exists() and not is_root:
        of_set = set_at(path if path.is_dir() else path.parent)
    if split in EVALUATION_SPLITS and (is_root or of_set):
        raise ConfigError(
            f"split {split!r} of {path} is for evaluation; calibrate on train, or the figures "
            "mean nothing"
        )
    if is_root:
        sets = read_root(path, split)
        for name in sets:
            trainable_entry(path, name)
        pairs = [(n, p) for n, pairs in sets.items() for p in pairs]
        for index in sorted(rng.permutation(len(pairs))[:pool]):
            name, pair = pairs[index]
            yield f"{name}/{pair.image.stem}", read_image(pair.image)
        return
    allowed = None
    if of_set:
        trainable_entry(*of_set)
        allowed = unlabelled_stems(*of_set, split)
    kept: list[tuple[str, NDArray[np.uint8]]] = []
    frames = open_source(source)
    usable = (frame for frame in frames if allowed is None or frame.name in allowed)
    try:
        for seen, frame in enumerate(usable):  # reservoir: every frame has the same chance
            if seen < pool:
                kept.append((frame.name, frame.image))
            elif (at := int(rng.integers(seen + 1))) < pool:
                kept[at] = (frame.name, frame.image)
    finally:
        frames.close()
    if not kept and of_set:
        raise FrameError(f"{of_set[0] / 'splits.csv'} has nothing of {source} in split {split!r}")
    if not kept:
        raise FrameError(f"{source} has no frame that can be read")
    yield from kept
