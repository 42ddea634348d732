"""A ROS 2 bag (MCAP or sqlite3) as a source, without ROS."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.encodings import decode_compressed, decode_image
from cropseg_edge.frames.frame import Frame

_LOG = logging.getLogger("cropseg_edge.frames")
_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


class BagSource:
    """Gives the frames of one image topic, in the order of recording.

    Stamps and frame ids are those of the messages' headers; a message without a stamp gets the
    time of its recording.
    """

    def __init__(self, path: Path, *, topic: str | None = None) -> None:
        """
        Args:
            path: an .mcap or .db3 file, or the folder with the metadata.yaml.
            topic: a topic of `sensor_msgs/Image` or `CompressedImage`; by default the first whose
                first message can be decoded (depth cannot).

        Raises:
            FrameError: rosbags is not installed, the bag cannot be opened, or it has no such topic.
        """
        try:
            from rosbags.rosbag2 import Reader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise FrameError("reading ROS bags needs rosbags: pip install rosbags") from error
        self.name = str(path)
        self.failed = 0
        # Both image messages are the same in every distribution, so that the definitions in the
        # bag, which an sqlite3 bag may lack, are not needed.
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        hint = "an interrupted recording is repaired by `mcap recover` or `ros2 bag reindex`"
        with _rosbags_errors(f"bag {path} cannot be opened", hint):
            self._reader = Reader(path)
            self._reader.open()
        self._connections = self._choose(topic)
        self.topic: str = self._connections[0].topic
        self.rate_hz = self._rate()

    def _choose(self, topic: str | None) -> list[Any]:
        found = self._reader.connections
        images = [entry for entry in found if entry.msgtype in (_RAW, _COMPRESSED)]
        self._image_topics = list(dict.fromkeys(entry.topic for entry in images))
        readable = (name for name in self._image_topics if self._begins_well(name, images))
        name = topic or next(readable, images[0].topic if images else None)
        chosen = [entry for entry in images if entry.topic == name]
        if not chosen:
            topics = ", ".join(f"{entry.topic} ({entry.msgtype})" for entry in found) or "none"
            wanted = f"image topic {topic}" if topic else "image topic"
            self.close()
            raise FrameError(
                f"bag {self.name} has no {wanted} of type {_RAW} or {_COMPRESSED}; "
                f"its topics: {topics}"
            )
        return chosen

    def _begins_well(self, topic: str, images: list[Any]) -> bool:
        """Whether the first message of a topic can be decoded."""
        connections = [entry for entry in images if entry.topic == topic]
        try:
            with _rosbags_errors("no first message", ""):
                connection, recorded_ns, data = next(self._reader.messages(connections))
            self._frame(connection.msgtype, recorded_ns, data, 0)
        except FrameError:
            return False
        return True

    def _rate(self) -> float | None:
        """Messages a second, from the bag's own count and duration."""
        count = sum(entry.msgcount for entry in self._connections)
        seconds = self._reader.duration / 1e9
        return (count - 1) / seconds if count > 1 and seconds > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        messages = self._reader.messages(connections=self._connections)
        sequence = 0
        while True:
            damage = f"bag {self.name} is damaged after {sequence} messages of {self.topic}"
            with _rosbags_errors(damage, "the frames before were used, the rest is lost"):
                message = next(messages, None)
            if message is None:
                break
            connection, recorded_ns, data = message
            try:
                yield self._frame(connection.msgtype, recorded_ns, data, sequence)
            except FrameError as error:
                self.failed += 1
                _LOG.warning("%s, message %d: %s; skipped", self.name, sequence, error)
            sequence += 1
        if sequence == self.failed:
            raise FrameError(
                f"bag {self.name} has no readable image on {self.topic}: "
                f"{sequence} messages, {self.failed} unreadable; choose with --topic, "
                f"its image topics: {', '.join(self._image_topics)}"
            )

    def _frame(self, msgtype: str, recorded_ns: int, data: bytes, sequence: int) -> Frame:
        with _rosbags_errors("message cannot be deserialised", f"{len(data)} bytes of {msgtype}"):
            message: Any = self._typestore.deserialize_cdr(data, msgtype)
        if msgtype == _COMPRESSED:
            image = decode_compressed(message.data, message_format=message.format)
        else:
            image = decode_image(
                message.data,
                encoding=message.encoding,
                width=message.width,
                height=message.height,
                step=message.step,
                is_bigendian=bool(message.is_bigendian),
            )
        stamp = message.header.stamp
        return Frame(
            image=image,
            stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec or recorded_ns,
            frame_id=message.header.frame_id,
            sequence=sequence,
            name=f"{sequence:06d}",
        )

    def close(self) -> None:
        if self._reader.is_open:
            self._reader.close()


@contextmanager
def _rosbags_errors(what: str, hint: str) -> Iterator[None]:
    """Turn an error of the bag's readers into a FrameError."""
    try:
        yield
    # A damaged file surfaces as whatever the layer that met it raises: rosbags, struct, zstd, lz4,
    # sqlite, YAML; they have no common base.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FrameError(f"{what}: {reason}; {hint}") from error
