"""camera_node: publishes any frame source as rgb8 images, as a camera driver would."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from cropseg_edge.errors import ConfigError
from cropseg_edge.frames import open_source
from cropseg_edge.frames.frame import Frame
from cropseg_ros.conversions import to_image
from cropseg_ros.process import run
from cropseg_ros.qos import profile

_DEFAULT_RATE_HZ = 10.0
_MIN_RATE_HZ, _MAX_RATE_HZ = 0.01, 1000.0
_DEPTH = 5


class CameraNode(Node):
    """Publishes `image`, and `truth` where the source knows it, at a steady rate.

    The stamps are the times of publication. It ends when the source ends.

    Raises:
        ConfigError: a parameter is out of range.
        FrameError: the source cannot be opened.
    """

    def __init__(self) -> None:
        super().__init__("camera_node")
        spec = self.declare_parameter("source", "simulator:").value
        rate_hz = self.declare_parameter("rate_hz", 0.0).value  # 0: the source's own rate
        preload = self.declare_parameter("preload", 0).value  # frames made before the first is sent
        self._listeners = self.declare_parameter("wait_for_subscriptions", 0).value
        if rate_hz and not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:  # true of NaN, too
            raise ConfigError(
                f"rate_hz must be 0 (the source's own) or from {_MIN_RATE_HZ:g} to "
                f"{_MAX_RATE_HZ:g}, not {rate_hz}"
            )
        if preload < 0:
            raise ConfigError(f"preload must be 0 or more, not {preload}")
        self._source = open_source(spec)
        self._frames: Iterator[Frame] = iter(self._source)
        if preload:
            self._frames = iter(list(islice(self._frames, preload)))
        self.finished = False
        self._image = self.create_publisher(Image, "image", profile("reliable", _DEPTH))
        self._truth = self.create_publisher(Image, "truth", profile("reliable", _DEPTH))
        self.get_logger().info(f"ready: {self._source.name}")
        period_s = 1.0 / (rate_hz or self._source.rate_hz or _DEFAULT_RATE_HZ)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(period_s, self._publish_next, clock=steady)

    def _publish_next(self) -> None:
        if self._image.get_subscription_count() < self._listeners:
            return
        self._listeners = 0  # waited for once, at the start
        frame = next(self._frames, None)
        if frame is None:
            self.finished = True
            return
        header = Header(frame_id=frame.frame_id, stamp=self.get_clock().now().to_msg())
        if frame.truth is not None:
            self._truth.publish(to_image(header, frame.truth, "mono8"))
        self._image.publish(to_image(header, frame.image[..., ::-1], "rgb8"))

    def close(self) -> bool:
        """Free the source."""
        self._source.close()
        return True


def main() -> None:
    """Entry point of the executable."""
    sys.exit(run(CameraNode, finished=lambda node: node.finished))


if __name__ == "__main__":
    main()
