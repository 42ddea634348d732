"""Names and files: under its final name a file is whole or not there."""

import errno
import os
import tempfile
from pathlib import Path

from cropseg_edge.errors import ConfigError


def opencv_name(path: Path) -> str:
    """The name by which OpenCV and FFmpeg can open a video.

    It is absolute, for in a relative one FFmpeg takes what stands before a colon for a protocol.

    Raises:
        ConfigError: the name is not UTF-8, on which OpenCV crashes.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path}: OpenCV opens only names in UTF-8; rename it") from error
    return name


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` beside `path` under a temporary name, flush it to disk, rename it.

    Args:
        durable: wait for the disk, so that the file also survives a power cut; False is faster.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; its `filename` is
            `path`, and nothing is left behind.
    """
    temporary = None
    try:
        start = os.fsdecode(os.fsencode(path.name)[:100])  # a name has at most 255 bytes
        descriptor, temporary = tempfile.mkstemp(prefix=f".{start}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_writable(path: Path) -> None:
    """Whether `write_atomically` can write there, asked before long work.

    Raises:
        OSError: `path` is a folder or a device, or its folder is missing or not writable; its
            `filename` is `path`.
    """
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file, and would be replaced by one", str(path))
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
