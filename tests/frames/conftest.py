"""Scenes and bags for the tests of frame sources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """BGR uint8 [48, 64, 3]: six flat patches of clear colours."""
    colours = [(20, 30, 200), (40, 190, 50), (210, 60, 30), (230, 230, 230), (10, 10, 10)]
    colours.append((30, 200, 220))
    image = np.zeros((48, 64, 3), np.uint8)
    for index, colour in enumerate(colours):
        row, column = divmod(index, 3)
        image[row * 24 : (row + 1) * 24, column * 22 : (column + 1) * 22] = colour
    return image


@pytest.fixture(scope="session")
def jpeg(scene: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", scene)[1].tobytes()


@pytest.fixture(scope="session")
def png(scene: np.ndarray) -> bytes:
    return cv2.imencode(".png", scene)[1].tobytes()


@pytest.fixture(scope="session")
def write_bag() -> Callable[..., Path]:
    """A function that writes a bag folder: messages are (topic, type, stamp_ns, fields)."""
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    types = store.types

    def write(
        folder: Path, messages: list[tuple[str, str, int, dict[str, Any]]], storage: str = "MCAP"
    ) -> Path:
        plugin = rosbag2.StoragePlugin[storage]
        with rosbag2.Writer(folder, version=9, storage_plugin=plugin) as writer:
            topics: dict[str, Any] = {}
            for topic, msgtype, stamp_ns, fields in messages:
                if topic not in topics:
                    topics[topic] = writer.add_connection(topic, msgtype, typestore=store)
                if msgtype in (RAW, COMPRESSED):
                    time = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
                    header = types["std_msgs/msg/Header"](stamp=time, frame_id="cam_optical")
                    fields = {"header": header, **fields}
                data = store.serialize_cdr(types[msgtype](**fields), msgtype)
                writer.write(topics[topic], stamp_ns or 123, data)
        return folder

    return write


def raw_fields(image: np.ndarray, encoding: str = "bgr8", padding: int = 0) -> dict[str, Any]:
    """The fields of a sensor_msgs/Image with rows that are padded."""
    height, width, channels = image.shape
    rows = np.pad(image.reshape(height, -1), ((0, 0), (0, padding)), constant_values=7)
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": width * channels + padding,
        "data": rows.ravel(),
    }


def jpeg_fields(data: bytes) -> dict[str, Any]:
    return {"format": "jpeg", "data": np.frombuffer(data, np.uint8)}


@pytest.fixture(scope="session")
def raw() -> Callable[..., dict[str, Any]]:
    return raw_fields


@pytest.fixture(scope="session")
def compressed() -> Callable[..., dict[str, Any]]:
    return jpeg_fields
