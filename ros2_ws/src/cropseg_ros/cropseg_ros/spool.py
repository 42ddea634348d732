"""Spool: raw messages go to one file as they come, and are found again by topic and stamp.

Writing bytes as they arrive costs 0.1 ms a message; everything dear (decoding, drawing, video)
waits until the run is over and cannot disturb what is measured.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message


class Spool:
    """Keeps serialized messages whose first field is a header.

    Args:
        folder: where the file is made; it has no name there and vanishes with the process.
        types: the message type of each topic.
    """

    def __init__(self, folder: Path, types: dict[str, type]) -> None:
        self._types = types
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._end = 0
        self._index: dict[str, dict[int, tuple[int, int]]] = {topic: {} for topic in types}

    def write(self, topic: str, data: bytes) -> None:
        """Append a serialized message.

        Raises:
            OSError: it does not fit any more; what came before can still be read.
        """
        # CDR: four bytes of encapsulation (the second says little or big endian), then the header's
        # stamp.
        seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._index[topic][seconds * 1_000_000_000 + nanoseconds] = (self._end, len(data))
        self._end += len(data)

    def stamps(self, topic: str) -> list[int]:
        """The stamps of a topic's messages in nanoseconds, in rising order."""
        return sorted(self._index[topic])

    def read(self, topic: str, stamp_ns: int) -> Any | None:
        """The message with this stamp, None if there is none."""
        place = self._index[topic].get(stamp_ns)
        if place is None:
            return None
        self._file.seek(place[0])
        return deserialize_message(self._file.read(place[1]), self._types[topic])

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
