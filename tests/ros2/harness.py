"""Harness: publishes images, collects what the segmentation node says, and asks its services."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import cv2
import numpy as np
import rclpy
from cropseg_msgs.msg import CropMaskStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from cropseg_ros.conversions import stamp_ns, to_image
from cropseg_ros.qos import profile

NODE = "/segmentation_node"
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def picture(width: int = 64, height: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    """RGB [H, W, 3]: soil with a green square in the middle; the seed is that of the noise."""
    image = np.random.default_rng(seed).integers(60, 100, (height, width, 3)).astype(np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] -= 50
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, 1] += 150
    return image


class Harness:
    """One rclpy node of the test process; nothing in it sleeps, it waits for what it hears."""

    def __init__(self) -> None:
        rclpy.init()
        self._seeds = count()
        self.node = rclpy.create_node("harness")
        reliable = profile("reliable", 100)
        self.masks: list[Image] = []
        self.statuses: list[CropMaskStatus] = []
        self.node.create_subscription(Image, f"{NODE}/mask", self.masks.append, reliable)
        self.node.create_subscription(
            CropMaskStatus, f"{NODE}/status", self.statuses.append, reliable
        )
        self.image = self.node.create_publisher(Image, "image", reliable)
        self.compressed = self.node.create_publisher(CompressedImage, "image/compressed", reliable)
        self._clients = {
            "change": self.node.create_client(ChangeState, f"{NODE}/change_state"),
            "state": self.node.create_client(GetState, f"{NODE}/get_state"),
            "set": self.node.create_client(SetParameters, f"{NODE}/set_parameters"),
        }

    def wait(self, done: Callable[[], Any], timeout_s: float = 10.0) -> float:
        """Listen until `done`; returns the seconds it took, fails on timeout."""
        started = time.monotonic()
        while not done():
            assert time.monotonic() - started < timeout_s, "waited in vain"
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return time.monotonic() - started

    def _call(self, client: str, request: Any) -> Any:
        self.wait(self._clients[client].service_is_ready)
        future = self._clients[client].call_async(request)
        self.wait(future.done)
        return future.result()

    def transition(self, name: str) -> bool:
        """Ask for a lifecycle transition; whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[name]))
        return bool(self._call("change", request).success)

    def state(self) -> str:
        """The node's lifecycle state."""
        return str(self._call("state", GetState.Request()).current_state.label)

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set one parameter; the result with `successful` and `reason`."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self._call("set", SetParameters.Request(parameters=[parameter])).results[0]

    def connect(self, make: Callable[[], Any], publisher: Any) -> None:
        """Send images until mask and status of one came: all topics have found each other."""
        self.wait(lambda: publisher.get_subscription_count() == 1, 20)
        del self.masks[:], self.statuses[:]
        # A message sent before the mask's publisher has found us gets no answer.
        self.wait(lambda: (self.masks and self.statuses) or publisher.publish(make()), timeout_s=20)

    def rgb(self, image: NDArray[np.uint8] | None = None) -> Image:
        """An rgb8 message with fresh stamp and noise, not sent yet."""
        pixels = picture(seed=next(self._seeds)) if image is None else image
        message = to_image(Image().header, pixels, "rgb8")
        message.header.frame_id = "camera"
        message.header.stamp = self.node.get_clock().now().to_msg()
        return message

    def jpeg(self, image: NDArray[np.uint8] | None = None) -> CompressedImage:
        """A JPEG message with fresh stamp and noise, not sent yet."""
        pixels = (picture(seed=next(self._seeds)) if image is None else image)[..., ::-1]
        message = CompressedImage(format="jpeg")
        message.header.frame_id = "camera"
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.data.frombytes(cv2.imencode(".jpg", pixels)[1].tobytes())
        return message

    def send(self, message: Any) -> tuple[Image, CropMaskStatus]:
        """Publish a message; the mask and the status with its stamp, which come in any order."""
        publisher = self.image if isinstance(message, Image) else self.compressed
        publisher.publish(message)
        stamp = stamp_ns(message.header)

        def own(heard: list[Any]) -> Any:
            return next((m for m in heard if stamp_ns(m.header) == stamp), None)

        self.wait(lambda: own(self.masks) and own(self.statuses))
        return own(self.masks), own(self.statuses)

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()
        rclpy.shutdown()
