"""Labelled pictures to judge a graph by: a data root's, or a few that the simulator draws."""

import csv
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from calibration.candidates import EVALUATION_SPLITS
from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.files import write_atomically
from cropseg_edge.labelled import COMPLETE, Meaning, Pair, read_root
from cropseg_edge.mask import BACKGROUND, CROP, WEED
from cropseg_edge.simulator import FieldSimulator

SIMULATED = (
    ("maize", "sun", "oblique"),
    ("beet", "cloud", "nadir"),
    ("cereal", "dusk", "nadir"),
    ("soybean", "sun", "oblique"),
)


def labelled_sets(
    root: Path | None,
    split: str,
    work: Path,
    size: tuple[int, int],
    limit: int | None = None,
    sets: Collection[str] = (),
    *,
    decides: bool = False,
) -> dict[str, list[Pair]]:
    """Pictures and masks by set and condition: "simulator dusk"; of a root, "peanut", or "peanut
    dusk" where its splits.csv has a column `condition`.

    Args:
        root: folder with splits.csv and datasets.yaml; None draws frames into `work`.
        split: of the root.
        size: width and height of drawn frames.
        limit: pictures of each set, spread over it, or drawn in all; None takes all.
        sets: names; none takes all.
        decides: something is chosen by these figures, so evaluation splits are refused.

    Raises:
        ConfigError: nothing there, no set whose labels tell plants from soil, or an evaluation
            split where something is chosen.
    """
    if root is None:
        return simulated(work, limit or len(SIMULATED), size)
    if decides and split in EVALUATION_SPLITS:
        raise ConfigError(f"split {split!r} is for evaluation; layers are chosen on train")
    found = read_root(root, split, sets or None)
    if not any(_tells_vegetation(pairs[0].meaning) for pairs in found.values()):
        raise ConfigError(
            f"{root}: the labels of {', '.join(found)} do not tell plants from soil, so vegetation "
            "mIoU cannot be measured; add a set whose labels do"
        )
    return {
        name: [pairs[i] for i in _spread(len(pairs), limit)]
        for name, pairs in _by_condition(root, split, found).items()
    }


def fingerprint(sets: Mapping[str, Sequence[Pair]]) -> dict[str, str]:
    """A hash of each set's pictures, masks and what the masks mean. Raises FrameError."""
    found = {}
    for name, pairs in sets.items():
        digest = hashlib.sha256()
        for pair in pairs:
            try:
                contents = [path.read_bytes() for path in (pair.image, pair.mask)]
            except OSError as error:
                raise FrameError(f"{error.filename} cannot be read: {error.strerror}") from error
            meaning = sorted((value, sorted(classes)) for value, classes in pair.meaning.items())
            for content in (*contents, repr(meaning).encode()):
                digest.update(hashlib.sha256(content).digest())
        found[name] = digest.hexdigest()
    return found


def simulated(folder: Path, count: int, size: tuple[int, int]) -> dict[str, list[Pair]]:
    """Frames of the simulator and their truth by condition, `size` = (width, height); present ones
    are kept. Raises OSError where `folder` cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    sets: dict[str, list[Pair]] = {}
    for number in range(count):
        species, condition, camera = SIMULATED[number % len(SIMULATED)]
        image, mask = folder / f"{number:03d}.png", folder / f"{number:03d}_mask.png"
        if not mask.is_file():  # it is written last
            field = FieldSimulator(
                species, condition, camera, seed=1000 + number, width=size[0], height=size[1]
            )
            frame = field.render(0)
            for path, pixels in ((image, frame.image), (mask, frame.labels)):
                data = cv2.imencode(".png", pixels)[1].tobytes()
                write_atomically(path, data, durable=False)
        sets.setdefault(f"simulator {condition}", []).append(Pair(image, mask, COMPLETE))
    return sets


def _by_condition(
    root: Path, split: str, sets: Mapping[str, Sequence[Pair]]
) -> dict[str, list[Pair]]:
    """The sets, divided by the column `condition` of splits.csv where there is one."""
    with (root / "splits.csv").open(newline="") as file:
        stated = {
            (row["dataset"], row["stem"]): (row.get("condition") or "").strip().lower()
            for row in csv.DictReader(file)
            if row["split"] == split
        }
    divided: dict[str, list[Pair]] = {}
    for name, pairs in sets.items():
        for pair in pairs:
            label = f"{name} {stated.get((name, pair.image.stem), '')}".strip()
            divided.setdefault(label, []).append(pair)
    return divided


def _tells_vegetation(meaning: Meaning) -> bool:
    """Whether a mask value means plants alone, and another one soil alone."""
    classes = [set(c) for c in meaning.values()]
    return {BACKGROUND} in classes and any(c <= {CROP, WEED} for c in classes)


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit)]
