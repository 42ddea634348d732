"""The decisions file: what a person (or the automatic screening) said of each picture's label."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from training.config import Section

FORMAT = "cropseg-screen-decisions"


class Decision(Section):
    """One picture's decision.

    Attributes:
        stem: the picture.
        verdict: accept or reject.
        label: fingerprint of the label that was looked at.
        by: who decided.
        reason: why, where known.
    """

    stem: Annotated[str, Field(min_length=1)]
    verdict: Literal["accept", "reject"]
    label: str
    by: Literal["person", "automatic"] = "person"
    reason: str = ""


class Decisions(Section):
    """A decisions file, as the explorer page saves it and `screen` writes it."""

    format: Literal["cropseg-screen-decisions"]
    version: Literal[1]
    pool: str
    saved: str = ""
    decisions: list[Decision]


def read_decisions(path: Path, pool: str, labels: Mapping[str, str]) -> dict[str, bool]:
    """What a person decided, stem to whether it is accepted.

    Args:
        path: the file.
        pool: name of the pool that it must be about.
        labels: fingerprint of each picture's present label by stem.

    Raises:
        ConfigError: missing, damaged, or about other pictures or labels than these.
    """
    try:
        read = Decisions.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise ConfigError(
            f"{path} is damaged or no decisions file ({problem}); save it again from the explorer"
        ) from error
    stems = [decision.stem for decision in read.decisions]
    if twice := [stem for stem, count in Counter(stems).items() if count > 1]:
        raise ConfigError(f"{path} is damaged: it decides on {twice[0]} more than once")
    if read.pool != pool:
        raise ConfigError(
            f"{path} is about other images: its pool is {read.pool!r}, this one is {pool!r}"
        )
    person = [decision for decision in read.decisions if decision.by == "person"]
    if unknown := [d.stem for d in person if d.stem not in labels]:
        raise ConfigError(
            f"{path} is about other images: {len(unknown)} of its {len(person)} are not in "
            f"{pool} with a label, e.g. {unknown[0]}"
        )
    if changed := [d.stem for d in person if d.label != labels[d.stem]]:
        raise ConfigError(
            f"{path}: {len(changed)} of its {len(person)} labels have changed since they were "
            f"looked at, e.g. {changed[0]}; look at them again in a new explorer page"
        )
    return {decision.stem: decision.verdict == "accept" for decision in person}


def write_decisions(path: Path, pool: str, decisions: Sequence[Decision], saved: str) -> None:
    """Write a decisions file, whole or not at all."""
    content = {
        "format": FORMAT,
        "version": 1,
        "pool": pool,
        "saved": saved,
        "decisions": [decision.model_dump() for decision in decisions],
    }
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
