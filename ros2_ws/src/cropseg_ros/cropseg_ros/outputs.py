"""Outputs of the segmentation node: mask, confidence, overlay, status, class names, diagnostics."""

from __future__ import annotations

import json
import math
import time

import numpy as np
from cropseg_msgs.msg import CropMaskStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CLASSES, UNKNOWN, CropMask, Status
from cropseg_edge.sinks.overlay import draw_overlay
from cropseg_ros.conversions import stamp_ns, to_image
from cropseg_ros.diagnostics import Diagnostics
from cropseg_ros.liveness import MAX_AHEAD_S
from cropseg_ros.qos import profile

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # vision_msgs is a package of its own; without it the names go out as JSON
    LabelInfo = None

_DEPTH = 5


class Outputs:
    """The publishers, from configure to cleanup. Its methods may be called from any thread.

    Args:
        node: the node whose `~/` topics they are.
        bundle_sha256: hex digest of the bundle, for the status.
        engine: engine and precision, for the status.
    """

    def __init__(self, node: Node, bundle_sha256: str, engine: str) -> None:
        self._node = node
        self._bundle_sha256 = bundle_sha256
        self._engine = engine
        qos = profile("reliable", _DEPTH)
        self._mask = node.create_publisher(Image, "~/mask", qos)
        self._confidence = node.create_publisher(Image, "~/confidence", qos)
        self._overlay = node.create_publisher(Image, "~/overlay", qos)
        self._status = node.create_publisher(CropMaskStatus, "~/status", qos)
        self._labels = self._latch_labels()
        self.diagnostics = Diagnostics(node, {"engine": engine, "bundle": bundle_sha256})

    def publish(
        self,
        header: Header,
        frame: Frame,
        mask: CropMask,
        *,
        dropped: int,
        confidence: bool,
        overlay: bool,
    ) -> None:
        """Publish a frame's mask and what goes with it; the status, with all times, comes last."""
        started = time.perf_counter()
        self._mask.publish(to_image(header, mask.labels, "mono8"))
        if confidence and self._confidence.get_subscription_count():
            self._confidence.publish(to_image(header, mask.confidence, "mono8"))
        stages = {**mask.stage_ms, "publish": 1e3 * (time.perf_counter() - started)}
        if overlay and self._overlay.get_subscription_count():
            started = time.perf_counter()
            picture = draw_overlay(frame.image, mask.labels, mask)
            self._overlay.publish(to_image(header, picture, "bgr8"))
            stages["overlay"] = 1e3 * (time.perf_counter() - started)
        self._publish_status(header, mask.status, mask.reason, mask.sequence, dropped, stages)

    def publish_invalid(
        self,
        header: Header,
        size: tuple[int, int] | None,
        reason: str,
        *,
        sequence: int,
        dropped: int,
        of_a_frame: bool = True,
    ) -> None:
        """Publish INVALID and, where the size (height, width) is known, a mask that is all unknown.

        `of_a_frame` is False where no frame caused it, so that it has no age.
        """
        try:
            if size is not None:
                unknown: NDArray[np.uint8] = np.full(size, UNKNOWN, np.uint8)
                self._mask.publish(to_image(header, unknown, "mono8"))
        finally:  # the status goes out even where the mask cannot be made
            self._publish_status(
                header, Status.INVALID, reason, sequence, dropped, {}, of_a_frame=of_a_frame
            )

    def _publish_status(
        self,
        header: Header,
        status: Status,
        reason: str,
        sequence: int,
        dropped: int,
        stages: dict[str, float],
        *,
        of_a_frame: bool = True,
    ) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        message = CropMaskStatus()
        message.header = header
        message.status = int(status)
        message.reason = reason
        age_s = 1e-9 * (now_ns - stamp_ns(header))
        known = of_a_frame and age_s >= -MAX_AHEAD_S
        message.age_ms = 1e3 * max(0.0, age_s) if known else math.nan
        message.sequence = sequence
        message.bundle_sha256 = self._bundle_sha256
        message.engine = self._engine
        message.stage_names = list(stages)
        message.stage_ms = list(stages.values())
        message.dropped = dropped
        self._status.publish(message)
        self.diagnostics.mask(status, reason, message.age_ms, dropped)

    def _latch_labels(self) -> object:
        """Publish the class names once, for everyone who subscribes from now on."""
        qos = profile("reliable", 1, latched=True)
        if LabelInfo is None:
            publisher = self._node.create_publisher(String, "~/labels", qos)
            names = {str(value): name for value, name in enumerate(CLASSES)}
            publisher.publish(String(data=json.dumps({**names, str(UNKNOWN): "unknown"})))
            return publisher
        publisher = self._node.create_publisher(LabelInfo, "~/label_info", qos)
        info = LabelInfo()
        info.header.stamp = self._node.get_clock().now().to_msg()
        for value, name in (*enumerate(CLASSES), (UNKNOWN, "unknown")):
            info.class_map.append(VisionClass(class_id=value, class_name=name))
        publisher.publish(info)
        return publisher

    def close(self) -> None:
        """Remove the publishers."""
        self.diagnostics.close()
        for publisher in (
            self._mask,
            self._confidence,
            self._overlay,
            self._status,
            self._labels,
        ):
            self._node.destroy_publisher(publisher)
