"""Pictures that may become calibration frames: a source in, candidates on disk out, as they look.

Scales of random numbers would fit nothing, so a picture of noise is refused; what the segmenter
would refuse (too small, without colour, black) is left out.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.frames.folder import FolderSource, natural_key
from cropseg_edge.frames.frame import Frame
from cropseg_edge.frames.image import IMAGE_SUFFIXES, ImageSource, read_image
from cropseg_edge.frames.open import is_bag, open_source
from cropseg_edge.health import check_frame, judge
from cropseg_edge.labelled import read_root
from cropseg_edge.mask import Status
from cropseg_edge.roots import set_at, trainable_entry, unlabelled_stems

log = logging.getLogger("calibration")
EVALUATION_SPLITS = ("dev", "test", "val")
LEAST_CORRELATION = 0.3  # of neighbouring pixels; photographs have 0.7 and more, noise has 0
LEAST_CONTRAST = 2.0  # standard deviation of grey values; below it nothing correlates
THUMBNAIL = (160, 120)


@dataclass(frozen=True)
class Candidate:
    """A picture that may be chosen. Its pixels stay on disk: a pool of hundreds must fit.

    Attributes:
        file: the picture; one of a stream lies in the work folder of `candidates`.
        name: within the source.
        source: where it is from.
        digest: SHA-256 of its pixels.
        look: as `look` gives it.
        condition: as `condition` names it.
    """

    file: Path
    name: str
    source: str
    digest: bytes
    look: NDArray[np.float64]
    condition: str


def candidates(
    source: str, *, pool: int, split: str, seed: int, work: Path, topic: str | None = None
) -> Iterator[Candidate]:
    """Pictures of a source, at most `pool` of them, drawn evenly.

    Args:
        source: a data root (a folder with splits.csv), a set's folder in one (ROOT/NAME), or what
            `cropseg run` takes; of a set's folder, only pictures in `split` and in `unlabelled`.
        pool: how many are looked at.
        split: of a data root; the splits that evaluation uses are refused.
        seed: of the draw.
        work: a folder for the frames of videos, bags and the simulator.
        topic: the image topic, where the source is a bag.

    Raises:
        ConfigError: an evaluation split, or a picture of random numbers.
        FrameError: the source cannot be read, or is for evaluation only.
        OSError: `work` is full.
    """
    readable = 0
    for name, file in _pictures(source, pool, split, np.random.default_rng(seed), work, topic):
        try:
            image = read_image(file)
            readable += 1
            check_frame(Frame(image, 0, "", 0, name))
        except FrameError as error:
            log.warning("%s; left out", error)
            continue
        refuse_noise(image, f"{source}: {name}")
        status, reason = judge(Frame(image, 0, "", 0, name))
        if status is Status.INVALID:
            log.warning("%s: %s is of no use: %s; left out", source, name, reason)
            continue
        digest = hashlib.sha256(image.tobytes()).digest()
        yield Candidate(file, name, source, digest, look(image), condition(image))
    if not readable:
        raise FrameError(f"{source} has no frame that can be read")


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
    beside = np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel(), dtype=np.float32)[0, 1]
    below = np.corrcoef(grey[:-1].ravel(), grey[1:].ravel(), dtype=np.float32)[0, 1]
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


def _pictures(
    source: str, pool: int, split: str, rng: np.random.Generator, work: Path, topic: str | None
) -> list[tuple[str, Path]]:
    """Names and files of at most `pool` pictures, those of a stream written to `work`."""
    path = Path(source)
    is_root = (path / "splits.csv").is_file()
    of_set = None
    if path.exists() and not is_root:
        of_set = set_at(path if path.is_dir() else path.parent)
        if of_set and path.resolve() == Path(*of_set):
            path /= "images"
            source = str(path)
    if split in EVALUATION_SPLITS and (is_root or of_set):
        raise ConfigError(
            f"split {split!r} of {path} is for evaluation; calibrate on train, or the figures "
            "mean nothing"
        )
    if is_root:
        sets = read_root(path, split)
        for name in sets:
            trainable_entry(path, name)
        pairs = [(n, p.image) for n, pairs in sets.items() for p in pairs]
        return _drawn([(f"{name}/{image.stem}", image) for name, image in pairs], pool, rng)
    allowed = None
    if of_set:
        trainable_entry(*of_set)
        allowed = unlabelled_stems(*of_set, split)
    frames = open_source(source, topic=topic if is_bag(path) else None)
    try:
        if isinstance(frames, FolderSource | ImageSource):
            files = ((file.stem, file) for file in _files(path))
            found = _drawn([f for f in files if allowed is None or f[0] in allowed], pool, rng)
        else:
            usable = (frame for frame in frames if allowed is None or frame.name in allowed)
            found = _held(usable, pool, rng, Path(mkdtemp(dir=work)))
    finally:
        frames.close()
    if not found and of_set:
        raise FrameError(f"{of_set[0] / 'splits.csv'} has nothing of {source} in split {split!r}")
    return found


def _files(path: Path) -> list[Path]:
    """The pictures in a folder, as `FolderSource` takes them; or the one picture."""
    if path.is_file():
        return [path]
    pictures = (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    visible = (p for p in pictures if not p.name.startswith("."))
    return sorted(visible, key=lambda file: natural_key(file.name))


def _drawn(
    found: list[tuple[str, Path]], pool: int, rng: np.random.Generator
) -> list[tuple[str, Path]]:
    return [found[index] for index in sorted(rng.permutation(len(found))[:pool])]


def _held(
    frames: Iterable[Frame], pool: int, rng: np.random.Generator, folder: Path
) -> list[tuple[str, Path]]:
    """At most `pool` frames of a stream as PNG in `folder`; every frame has the same chance."""
    kept: list[tuple[str, Path]] = []
    quick = (cv2.IMWRITE_PNG_COMPRESSION, 1)
    for seen, frame in enumerate(frames):
        at = seen if seen < pool else int(rng.integers(seen + 1))  # a reservoir
        if at < pool:
            file = folder / f"{at:06d}.png"
            file.write_bytes(cv2.imencode(".png", frame.image, quick)[1].tobytes())
            kept[at : at + 1] = [(frame.name, file)]
    return kept
