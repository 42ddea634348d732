"""What the tables of a data root allow: which sets and which pictures may be trained on.

`labelled.py` says what a data root is. A set with `train: false` in datasets.yaml is for evaluation
only, and so is each picture that splits.csv puts into another split than those asked for.
"""

import csv
from pathlib import Path

import yaml

from cropseg_edge.errors import ConfigError, FrameError

OWN_SPLIT = "unlabelled"  # of pictures without labels; never one that is kept for evaluation


def describe(root: Path) -> dict[str, object]:
    """What `root`'s datasets.yaml says of each set; empty without one. Raises ConfigError."""
    path = root / "datasets.yaml"
    if not path.exists():
        return {}
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return described if isinstance(described, dict) else {}


def trainable_entry(root: Path, name: str) -> dict[str, object]:
    """What datasets.yaml says of a set that it names.

    Raises:
        FrameError: no split of it may be trained on (`train: false`).
        ConfigError: datasets.yaml cannot be read.
    """
    about = describe(root)[name]
    about = about if isinstance(about, dict) else {}
    if about.get("train") is False:
        licence = about.get("licence", "licence unknown")
        raise FrameError(f"{name} is for evaluation only ({licence}): do not train on it")
    return about


def set_at(folder: Path) -> tuple[Path, str] | None:
    """Root and name of the set whose pictures a folder holds, ROOT/NAME or ROOT/NAME/images; None
    where it is of no data root. Raises ConfigError."""
    folder = folder.resolve()
    places = [(folder.parent, folder.name), (folder.parent.parent, folder.parent.name)]
    return next(((root, name) for root, name in places if name in describe(root)), None)


def unlabelled_stems(root: Path, name: str, split: str) -> set[str]:
    """The pictures of a set that may be seen without labels: those that splits.csv puts into
    `split`, which is trained on, or into `unlabelled`. Raises ConfigError."""
    path = root / "splits.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["dataset"] == name]
        return {row["stem"] for row in rows if row["split"] in (split, OWN_SPLIT)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
