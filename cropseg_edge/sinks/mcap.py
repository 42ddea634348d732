"""Frames and masks as an MCAP bag: ROS 2 messages that Foxglove, rosbag2 and `BagSource` read."""

import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask
from cropseg_edge.sinks.files import encode_image

IMAGE_TOPIC = "/camera/image_raw/compressed"
MASK_TOPIC = "/cropseg/mask"


class McapSink:
    """Writes the frames as JPEG (`sensor_msgs/CompressedImage`) and the labels as mono8
    (`sensor_msgs/Image`), both with the frame's stamp and frame_id, logged at the stamp.

    The file appears under its name when the sink is closed and replaces an earlier one.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ConfigError: rosbags is not installed, or the name does not end in .mcap.
        """
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise ConfigError("writing MCAP needs rosbags: pip install rosbags") from error
        if path.suffix.lower() != ".mcap":
            raise ConfigError(f"bag {path}: expected a name that ends in .mcap")
        if path.is_dir():
            raise ConfigError(f"bag {path}: this is a folder; expected the name of a file")
        self.path = path
        self._store = get_typestore(Stores.ROS2_JAZZY)
        path.parent.mkdir(parents=True, exist_ok=True)
        # rosbags writes a folder; the file in it is complete by itself.
        self._temporary = tempfile.TemporaryDirectory(prefix=".cropseg.part.", dir=path.parent)
        self._folder = Path(self._temporary.name) / "bag"
        self._writer: Any = Writer(self._folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._image = self._connect(IMAGE_TOPIC, "sensor_msgs/msg/CompressedImage")
        self._mask = self._connect(MASK_TOPIC, "sensor_msgs/msg/Image")

    def _connect(self, topic: str, msgtype: str) -> Any:
        return self._writer.add_connection(topic, msgtype, typestore=self._store)

    def write(self, frame: Frame, mask: CropMask) -> None:
        jpeg = encode_image(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        self._write(self._image, frame, format="bgr8; jpeg compressed bgr8", data=_octets(jpeg))
        height, width = mask.labels.shape
        self._write(
            self._mask,
            frame,
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=mask.labels.ravel(),
        )

    def _write(self, connection: Any, frame: Frame, **fields: Any) -> None:
        types = self._store.types
        seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
        stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)
        message = types[connection.msgtype](header=header, **fields)
        data = self._store.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, frame.stamp_ns, data)

    def close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
                os.replace(self._folder / "bag.mcap", self.path)
            finally:
                self._temporary.cleanup()


def _octets(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
