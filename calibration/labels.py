"""Labelled pictures to judge a graph by: a data root's, or a few that the simulator draws."""

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from calibration.frames import EVALUATION_SPLITS
from cropseg_edge.errors import ConfigError
from cropseg_edge.evaluation import COMPLETE, Pair, read_root
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
    """Pictures and masks by set.

    Args:
        root: folder with splits.csv and datasets.yaml; None draws frames into `work`.
        split: of the root.
        size: width and height of drawn frames.
        limit: pictures of each set, spread over it; None takes all.
        sets: names; none takes all.
        decides: something is chosen by these figures, so evaluation splits are refused.

    Raises:
        ConfigError: nothing there, or an evaluation split where something is chosen.
    """
    if root is None:
        return {"simulator": simulated(work, limit or len(SIMULATED), size)}
    if decides and split in EVALUATION_SPLITS:
        raise ConfigError(f"split {split!r} is for evaluation; layers are chosen on train")
    found = read_root(root, split)
    if unknown := set(sets) - set(found):
        raise ConfigError(f"{root} has no set {sorted(unknown)} in split {split!r}")
    return {
        name: [pairs[i] for i in _spread(len(pairs), limit)]
        for name, pairs in found.items()
        if not sets or name in sets
    }


def simulated(folder: Path, count: int, size: tuple[int, int]) -> list[Pair]:
    """Frames of the simulator and their truth, `size` = (width, height); present ones are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for number in range(count):
        species, condition, camera = SIMULATED[number % len(SIMULATED)]
        image, mask = folder / f"{number:03d}.png", folder / f"{number:03d}_mask.png"
        if not mask.is_file():
            field = FieldSimulator(
                species, condition, camera, seed=1000 + number, width=size[0], height=size[1]
            )
            frame = field.render(0)
            cv2.imwrite(str(image), frame.image)
            cv2.imwrite(str(mask), frame.labels)
        pairs.append(Pair(image, mask, COMPLETE))
    return pairs


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit)]
