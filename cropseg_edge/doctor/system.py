"""System: the machine under examination; its files, its commands and its Python packages."""

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMMAND_S, _PROBE_S = 10.0, 60.0
_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/cuda/bin")


def _groups() -> frozenset[str]:
    names = set()
    for number in {*os.getgroups(), os.getgid()}:
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(names)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True)
class System:
    """A machine. Nothing here raises, waits for ever or writes.

    Attributes:
        root: where its file system starts; a test plants one of another machine.
        environ: the environment variables.
        user: the user's name.
        groups: the names of the user's groups.
        prefix: the folder of the Python environment.
        in_venv: whether that is a virtual environment.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    user: str = field(default_factory=_user)
    groups: frozenset[str] = field(default_factory=_groups)
    prefix: Path = Path(sys.prefix)
    in_venv: bool = sys.prefix != sys.base_prefix

    def read(self, path: str | Path) -> str | None:
        """The text of a small file without NUL and white space at its ends; None if unreadable."""
        try:
            text = (self.root / str(path).lstrip("/")).read_text(errors="replace")
        except (OSError, ValueError):
            return None
        return text.strip("\0 \t\r\n")

    def number(self, path: str | Path) -> int | None:
        """The integer in a file; None where there is none."""
        try:
            return int(self.read(path) or "")
        except ValueError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Absolute paths that match, as this machine sees them, shortest names first."""
        try:
            found = list(self.root.glob(pattern.lstrip("/")))
        except OSError:
            return []
        paths = ["/" + str(path.relative_to(self.root)) for path in found]
        return sorted(paths, key=lambda path: (len(path), path))

    def link(self, path: str) -> str:
        """Where a symbolic link points to; empty if it is none or may not be read."""
        try:
            return os.readlink(self.root / path.lstrip("/"))
        except OSError:
            return ""

    def may(self, path: str) -> bool:
        """Whether this user may read and write a device."""
        return os.access(self.root / path.lstrip("/"), os.R_OK | os.W_OK)

    def free_bytes(self, path: Path) -> int | None:
        """Free bytes of the file system that holds a path, or will hold it once it is made."""
        place = self.root / str(path).lstrip("/")
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
            return shutil.disk_usage(place).free
        except OSError:
            return None

    def run(self, *command: str, timeout: float = _COMMAND_S) -> str | None:
        """What a command prints; None where it is not there, fails or takes too long."""
        folders = os.pathsep.join([self.environ.get("PATH", os.defpath), *_FOLDERS])
        program = shutil.which(command[0], path=folders)
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *command[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def probe(self, name: str, *arguments: str, timeout: float = _PROBE_S) -> dict[str, Any]:
        """What `probe.py` finds out in a process of its own, which may crash or hang.

        Returns:
            The probe's findings; where it failed, `error` with one line.
        """
        command = [sys.executable, "-m", "cropseg_edge.doctor.probe", name, *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                env=dict(self.environ),
                cwd=os.sep,  # `python -m` imports from the current folder first
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {timeout:g} s"}
        except OSError as error:
            return {"error": f"cannot be started: {error.strerror}"}
        lines = done.stdout.strip().splitlines()
        try:
            answer = json.loads(lines[-1]) if lines else None
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        if done.returncode < 0:
            return {"error": f"the process died of signal {-done.returncode}"}
        said = done.stderr.strip().splitlines()
        return {"error": said[-1][:300] if said else f"exit code {done.returncode}"}
