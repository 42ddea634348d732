"""The command line as a user runs it: arguments in; exit code, stdout and stderr out."""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from cropseg_edge.cli.main import main


class Result(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Cropseg = Callable[..., Result]


@pytest.fixture
def cropseg(capfd: pytest.CaptureFixture[str]) -> Iterator[Cropseg]:
    """Run `cropseg ARGUMENTS` in this process, with what libraries write to the descriptors."""
    import cv2

    handlers = list(logging.getLogger().handlers)
    # The command does this by environment, too late in a process that has imported cv2.
    cv2.utils.logging.setLogLevel(0)

    def run(*arguments: object) -> Result:
        logging.getLogger().handlers = []
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        assert isinstance(code, int)
        return Result(code, *capfd.readouterr())

    yield run
    logging.getLogger().handlers = handlers
