"""The engines of this machine: a folder of engine files, each with a JSON sidecar and a lock.

An engine file is executable code. It is read only from a folder that nobody else may write, its
fingerprint is compared and its hash is checked before a byte of it reaches TensorRT.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.fingerprint import Fingerprint, Sidecar
from cropseg_edge.errors import EngineError
from cropseg_edge.files import write_atomically

LOCK_TIMEOUT_S = 3600.0  # a build on the smallest board, several times over
KEPT = 4  # engines of one name and precision; older ones go when another is stored
_DIGITS = 16  # of a bundle's hash in the names
_POLL_S = 0.2
_BUILD = ".build-"


class CachedEngine(NamedTuple):
    """An engine file that may be deserialised, with its sidecar."""

    plan: bytes
    sidecar: Sidecar


class EngineCache:
    """Engines by bundle and precision.

    Args:
        folder: where they are; it is made when the first one is stored. None: there is no place
            for them (no home), so that nothing is found and nothing can be stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read(self, bundle: Bundle, precision: str, here: Fingerprint) -> CachedEngine:
        """The engine, after every check; TensorRT has not seen it yet.

        Args:
            here: what it must have been built from and for; the settings are not compared.

        Raises:
            EngineError: there is none that may be used; the message says why.
        """
        sidecar = self.sidecar(bundle, precision)
        same = sidecar.fingerprint.model_copy(update={"settings": here.settings})
        if differences := here.differences(same):
            raise EngineError(f"it was built for something else: {'; '.join(differences)}")
        plan = self._read(_name(bundle, precision, ".engine"))
        if hashlib.sha256(plan).hexdigest() != sidecar.engine_sha256:
            raise EngineError(
                f"its file is damaged ({len(plan)} bytes whose hash is not the sidecar's)"
            )
        return CachedEngine(plan, sidecar)

    def sidecar(self, bundle: Bundle, precision: str) -> Sidecar:
        """What the sidecar says. Raises EngineError: there is none, or it cannot be trusted."""
        return Sidecar.parse(self._read(_name(bundle, precision, ".json")))

    def store(self, bundle: Bundle, precision: str, plan: bytes, sidecar: Sidecar) -> None:
        """Keep an engine; whatever the moment a process dies, no half of it is ever accepted.

        Raises:
            OSError: the folder cannot be made or written, or the disk is full.
        """
        path = self._folder() / _name(bundle, precision, ".engine")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The old sidecar goes first: between the two writes there is an engine without one.
        path.with_suffix(".json").unlink(missing_ok=True)
        write_atomically(path, plan)
        self.update(bundle, precision, sidecar)
        self._remove_old(bundle, precision)

    def _remove_old(self, bundle: Bundle, precision: str) -> None:
        """Keep the engines of the last few bundles of this name; who runs one has it in memory."""
        engines = self._folder().glob(f"{bundle.manifest.name}-{'?' * _DIGITS}-{precision}.engine")
        for path in sorted(engines, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def update(self, bundle: Bundle, precision: str, sidecar: Sidecar) -> None:
        """Write the sidecar alone. Raises OSError."""
        path = self._folder() / _name(bundle, precision, ".json")
        write_atomically(path, sidecar.model_dump_json(indent=2).encode() + b"\n")

    def check_owner(self) -> None:
        """Raise EngineError where others may write into the folder: nothing is read from there.

        Raises OSError where there is no folder.
        """
        _check_owner(self._folder())

    def timing_cache(self) -> bytes:
        """What earlier builds measured; empty where nothing can be read."""
        try:
            return self._read("timing.cache")
        except EngineError:
            return b""

    def store_timing_cache(self, data: bytes) -> None:
        """Keep what a build measured. Raises OSError."""
        write_atomically(self._folder() / "timing.cache", data)

    @contextmanager
    def lock(
        self,
        bundle: Bundle,
        precision: str,
        waiting: Callable[[], None] | None = None,
        timeout_s: float = LOCK_TIMEOUT_S,
    ) -> Iterator[None]:
        """Only one process builds an engine; the lock goes with its process.

        What an earlier build of this engine left, because it was killed, is removed.

        Args:
            waiting: called once if another process holds it.
            timeout_s: how long to wait for that process.

        Raises:
            EngineError: it still held it after the timeout.
            OSError: the folder cannot be written, so that nothing can be shared anyway.
        """
        path = self._folder() / _name(bundle, precision, ".lock")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_up = time.monotonic() + timeout_s
        with path.open("a") as file:
            while not _try_lock(file.fileno()):
                if waiting is not None:
                    waiting()
                    waiting = None
                if time.monotonic() >= give_up:
                    raise EngineError(
                        f"another process has been building this engine for {timeout_s:.0f} s "
                        f"({path}); end it, then try again"
                    )
                time.sleep(_POLL_S)
            for left in path.parent.iterdir():
                if left.name.startswith(_name(bundle, precision, _BUILD)):
                    shutil.rmtree(left, ignore_errors=True)
            yield

    def build_folder(
        self, bundle: Bundle, precision: str, size: int
    ) -> "tempfile.TemporaryDirectory[str]":
        """A folder for the build of an engine, made while its lock is held.

        Args:
            size: of what will be written there, in bytes.

        Raises:
            OSError: the folder cannot be made, or there is no room for so much.
            EngineError: others may write here.
        """
        folder = self._folder()
        _check_owner(folder)
        if shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        prefix = _name(bundle, precision, _BUILD)
        # what cannot be removed now is removed under the next lock
        return tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True)

    def _folder(self) -> Path:
        if self.folder is None:
            raise FileNotFoundError("there is no folder for engines: set HOME or XDG_CACHE_HOME")
        return self.folder

    def _read(self, name: str) -> bytes:
        try:
            path = self._folder() / name
            _check_owner(path.parent)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise EngineError("it is not built yet") from None
        except OSError as error:
            raise EngineError(f"{name} cannot be read: {error.strerror or error}") from error


def default_cache() -> EngineCache:
    """Engines in $XDG_CACHE_HOME/cropseg/engines, or ~/.cache/cropseg/engines."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # no home
        return EngineCache(None)
    return EngineCache(folder / "cropseg" / "engines")


def _check_owner(folder: Path) -> None:
    """Raise EngineError where somebody else may write. Raises OSError, too."""
    found = folder.stat()
    open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if open_to_others or found.st_uid not in (0, os.getuid()):
        raise EngineError(
            f"{folder} belongs to somebody else or others may write there, and "
            f"engines are executable code: chmod 700 {folder}"
        )


def _name(bundle: Bundle, precision: str, suffix: str) -> str:
    return f"{bundle.manifest.name}-{bundle.sha256[:_DIGITS]}-{precision}{suffix}"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
