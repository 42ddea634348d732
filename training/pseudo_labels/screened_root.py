"""The kept pictures and labels as a data root that `train` reads."""

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from cropseg_edge.errors import ConfigError, StorageError
from cropseg_edge.files import write_atomically
from training.pseudo_labels.pool import Candidate


def describe_labels(labels: Path) -> dict[str, object]:
    """What the label folder's root says of it in datasets.yaml: licence, species, mask values.

    Raises:
        ConfigError: the file is missing, not understood, or does not name the folder.
    """
    path = labels.resolve().parent / "datasets.yaml"
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} must say what the labels mean: {reason}") from error
    name = labels.resolve().name
    if not isinstance(described, dict) or not isinstance(described.get(name), dict):
        raise ConfigError(f"{path} must have an entry {name!r} with its licence and labels")
    return dict(described[name])


def write_root(
    out: Path, name: str, kept: Sequence[Candidate], description: dict[str, object]
) -> None:
    """Write `out` as a data root of one set with the kept pictures, all in split train.

    Files are hard links where the disk allows, else copies; those of pictures that are no longer
    kept are removed. The tables come last, so that a root with tables is complete.

    Raises:
        StorageError: a picture or mask cannot be written.
    """
    for kind in ("images", "masks"):
        folder = out / name / kind
        folder.mkdir(parents=True, exist_ok=True)
        sources = [getattr(candidate, kind.removesuffix("s")) for candidate in kept]
        wanted = {source.name for source in sources}
        for stale in [path for path in folder.iterdir() if path.name not in wanted]:
            stale.unlink()
        for source in sources:
            _link(source.resolve(), folder / source.name)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["dataset", "stem", "split"])
    writer.writerows([name, candidate.stem, "train"] for candidate in kept)
    datasets = yaml.safe_dump({name: description}, sort_keys=False, allow_unicode=True)
    write_atomically(out / "datasets.yaml", datasets.encode())
    write_atomically(out / "splits.csv", table.getvalue().encode())


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without hard links
            shutil.copy2(source, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{target} cannot be written ({error.strerror}); make room and start the same command "
            "again"
        ) from error
