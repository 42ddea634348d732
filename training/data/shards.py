"""A data root's pictures packed into WebDataset shards, and read back by offset.

A file a picture is slow to list, copy and open where there are more than 100,000. Shards are plain
tar files: sample 17 is `000000017.jpg`, `000000017.mask.png` (not where there are no labels) and
`000000017.json` (its data set and stem), so any WebDataset reader can use them. The index
NAME/SPLIT.csv says where each one lies; with it the pictures of a split are drawn in any order, and
a run over shards sees exactly what a run over the folders sees.
"""

import csv
import io
import json
import logging
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError, FrameError, StorageError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import decode_image
from cropseg_edge.labelled import Meaning, Pair, decode_mask, read_root
from cropseg_edge.roots import OWN_SPLIT
from training.data.labels import to_sets

log = logging.getLogger("training")


class Entry(NamedTuple):
    """Where a picture and its mask lie: a tar file's name, and offset and length in bytes; 0 and 0
    where there is no mask."""

    shard: str
    suffix: str
    image_offset: int
    image_bytes: int
    mask_offset: int
    mask_bytes: int


@dataclass(frozen=True)
class ShardSet:
    """One data set in shards, the pictures of one split; a `training.data.fields.LabelledSet`."""

    name: str
    licence: str
    pairs: dict[str, Entry]
    folder: Path
    meaning: Meaning

    def read(self, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture and class sets; see `LabelledSet`. Raises FrameError where there is no mask."""
        entry = self.pairs[stem]
        where = f"{self.folder / entry.shard} ({stem})"
        if not entry.mask_bytes:
            raise FrameError(f"{where}: packed without labels; name it in unlabelled.weights only")
        places = (entry.image_offset, entry.image_bytes), (entry.mask_offset, entry.mask_bytes)
        picture, label = self._parts(entry.shard, *places)
        image = decode_image(picture, entry.suffix, where)
        return image, to_sets(decode_mask(label, where), self.meaning, image, where)

    def picture(self, stem: str) -> NDArray[np.uint8]:
        """The picture alone, uint8 [H, W, 3] BGR. Raises FrameError."""
        entry = self.pairs[stem]
        (data,) = self._parts(entry.shard, (entry.image_offset, entry.image_bytes))
        return decode_image(data, entry.suffix, f"{self.folder / entry.shard} ({stem})")

    def _parts(self, shard: str, *places: tuple[int, int]) -> list[bytes]:
        path, parts = self.folder / shard, []
        try:
            with path.open("rb") as file:
                for offset, count in places:
                    file.seek(offset)
                    parts.append(file.read(count))
                return parts
        except OSError as error:
            raise FrameError(f"{path}: cannot be read: {error.strerror}") from error


def index_path(root: Path, name: str, split: str) -> Path:
    """Where the index of a set's split lies in a root of shards."""
    return root / name / f"{split}.csv"


def read_shards(root: Path, name: str, split: str, licence: str, meaning: Meaning) -> ShardSet:
    """The pictures of a split by their index, sorted by stem. Raises ConfigError."""
    path = index_path(root, name, split)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            pairs = {
                row.pop("stem"): Entry(
                    row["shard"], row["suffix"], *(int(row[key]) for key in Entry._fields[2:])
                )
                for row in csv.DictReader(file)
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no index of shards: {error!r}; pack them again") from error
    if not pairs:
        raise FrameError(f"{path} has no picture")
    return ShardSet(name, licence, dict(sorted(pairs.items())), path.parent, meaning)


def write_shards(
    root: Path, split: str, out: Path, *, sets: tuple[str, ...] = (), per_shard: int = 1000
) -> dict[str, int]:
    """Pack a split of a data root; shards that are there already are kept, so that a killed run
    goes on. Masks are left out of split `unlabelled` and of sets without labels (`labels: {}`).
    Returns the number of pictures of each set.

    Raises:
        ConfigError: the root cannot be read, has no such set, or `out` holds shards of others.
        FrameError: a picture or mask cannot be read or they do not go together; names the file.
        StorageError: `out` cannot be written.
    """
    found = read_root(root, split)
    if missing := set(sets) - set(found):
        raise ConfigError(f"{root} has no set {sorted(missing)} in split {split!r}")
    chosen = {name: found[name] for name in sets or found}
    described = yaml.safe_load((root / "datasets.yaml").read_text(encoding="utf-8"))
    known = out / "datasets.yaml"
    try:
        kept = yaml.safe_load(known.read_text(encoding="utf-8")) if known.exists() else {}
        merged = {**kept, **{name: described[name] for name in chosen}}
        for name, pairs in chosen.items():
            (out / name).mkdir(parents=True, exist_ok=True)
            _write_set(pairs, name, split, out, per_shard)
        write_atomically(known, yaml.safe_dump(merged, sort_keys=False).encode())
    except OSError as error:
        raise StorageError(f"{error.filename or out}: {error.strerror}") from error
    return {name: len(pairs) for name, pairs in chosen.items()}


def _write_set(pairs: list[Pair], name: str, split: str, out: Path, per_shard: int) -> None:
    # mixed, so that a reader of whole shards sees neighbours from different drives
    pairs = sorted(pairs, key=lambda pair: (zlib.crc32(pair.image.stem.encode()), pair.image.stem))
    rows: list[dict[str, object]] = []
    for first in range(0, len(pairs), per_shard):
        members = pairs[first : first + per_shard]
        path = out / name / f"{split}-{first // per_shard:06d}.tar"
        if not path.exists():
            write_atomically(path, _pack(members, name, first, split != OWN_SPLIT))
        entries = dict(_index(path))
        if set(entries) != {pair.image.stem for pair in members}:
            raise ConfigError(f"{path} holds other pictures than {name} now; choose another --out")
        rows += [{"stem": stem, **entry._asdict()} for stem, entry in entries.items()]
        log.info("%s: %d of %d pictures", name, first + len(members), len(pairs))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["stem", *Entry._fields])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(index_path(out, name, split), text.getvalue().encode())


def _pack(pairs: list[Pair], name: str, first: int, labelled: bool) -> bytes:
    """A tar file of pictures, each checked; the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, pair in enumerate(pairs, first):
            picture = _bytes(pair.image)
            image = decode_image(picture, pair.image.suffix, str(pair.image))
            parts = [(pair.image.suffix.lower(), picture)]
            if labelled and pair.meaning:
                label = _bytes(pair.mask)
                to_sets(decode_mask(label, str(pair.mask)), pair.meaning, image, str(pair.mask))
                parts.append((".mask.png", label))
            about = json.dumps({"dataset": name, "stem": pair.image.stem}).encode()
            for ending, data in (*parts, (".json", about)):
                member = tarfile.TarInfo(f"{number:09d}{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _index(path: Path) -> Iterator[tuple[str, Entry]]:
    """Stem and place of each sample of a shard, which lie together: picture, mask if any, JSON."""
    try:
        with tarfile.open(path) as tar:
            for _, sample in groupby(tar.getmembers(), lambda m: m.name.partition(".")[0]):
                image, *masks, about = sample
                stem = json.loads(tar.extractfile(about).read())["stem"]
                place = (masks[0].offset_data, masks[0].size) if masks else (0, 0)
                suffix = Path(image.name).suffix
                yield stem, Entry(path.name, suffix, image.offset_data, image.size, *place)
    except (tarfile.TarError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is no shard of this package: {error}; remove it") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
