"""Finding: what one check saw, how bad it is, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(str, Enum):
    """How a check ended."""

    OK = "ok"  # there, and it works
    WARN = "warn"  # `cropseg run` works, but slower, or something beside it does not work
    FAIL = "fail"  # broken: `cropseg run` cannot work until it is mended
    ABSENT = "absent"  # not there, and not needed for what this machine does now


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        check: the check's name; `known` for a row of the table of known problems.
        status: see `Status`.
        found: one line for people.
        remedy: what to type or to do, a command a line; empty where nothing is to be done.
        sources: links to where a known problem is described.
        data: the same as figures and names, for programs and for the table of known problems.
    """

    check: str
    status: Status
    found: str
    remedy: str = ""
    sources: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        return {
            "check": self.check,
            "status": self.status.value,
            "found": self.found,
            "remedy": self.remedy,
            "sources": list(self.sources),
            "data": dict(self.data),
        }


def version(text: object) -> tuple[int, ...]:
    """`10.3.0.30` as (10, 3, 0, 30), up to the first part that is no number; () for nonsense."""
    numbers = []
    for part in str(text or "").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
