"""Stream: what runs while the node is active, from the image subscription to published masks."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from cropseg_edge.errors import CropSegError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import UNKNOWN, CropMask, Status
from cropseg_edge.segmenter import Segmenter
from cropseg_ros.conversions import calibrated_size, declared_size, stamp_ns, to_frame
from cropseg_ros.freshness import GOOD_FRAMES_TO_RECOVER, Freshness
from cropseg_ros.liveness import Picture, Stamps, judge_age
from cropseg_ros.outputs import Outputs
from cropseg_ros.parameters import Settings
from cropseg_ros.qos import on_incompatible, profile
from cropseg_ros.watchdog import Watchdog
from cropseg_ros.worker import Worker

STOP_TIMEOUT_S = 0.8
_LOG_PERIOD_S = 5.0


@dataclass(frozen=True)
class _Received:
    message: Image | CompressedImage
    sequence: int


class Stream:
    """Segments the latest image, one at a time, until it is stopped.

    The subscription's callback runs in the executor's thread and only stores the message; the
    worker's thread decodes, segments and publishes; the watchdog's thread says when masks fail
    to come.
    """

    def __init__(
        self, node: Node, settings: Settings, segmenter: Segmenter, outputs: Outputs
    ) -> None:
        self.settings = settings
        self._node = node
        self._log = node.get_logger()
        self._segmenter = segmenter
        self._spare(settings)
        self._outputs = outputs
        self._count = 0
        self._size: tuple[int, int] | None = None
        self._calibrated: tuple[int, int] | None = None
        self._frame_id = ""
        self._stopped = False
        self._freshness = Freshness(1e-3 * settings.max_age_ms, time.monotonic())
        self._stamps = Stamps()
        self._picture = Picture()
        self._worker = Worker(self._segment, self._failed, self._escaped)
        self._subscribe()
        self._watchdog = Watchdog(self._freshness, self._stale, self._silent, self._escaped)

    def _subscribe(self) -> None:
        settings = self.settings
        compressed = settings.transport == "compressed"
        # A remapping of the topic is one of what image_transport puts beside it as well.
        base = self._node.resolve_topic_name(settings.image_topic)
        name = base + ("/compressed" if compressed else "")
        self.topic = self._node.resolve_topic_name(name)
        qos = profile(settings.reliability, settings.depth)
        self._subscription = self._node.create_subscription(
            CompressedImage if compressed else Image,
            name,
            self._receive,
            qos,
            event_callbacks=on_incompatible(self.topic, self._log.error),
        )
        self._outputs.diagnostics.begin(self.topic, qos)
        self._calibration = self._node.create_subscription(
            CameraInfo,
            base.rpartition("/")[0] + "/camera_info",
            self._calibrate,
            profile("best_effort", 1),
        )

    def _calibrate(self, info: CameraInfo) -> None:
        self._calibrated = calibrated_size(info)

    def apply(self, settings: Settings) -> None:
        """Take over changed live settings, from the next frame on."""
        self.settings = settings
        self._freshness.max_age_s = 1e-3 * settings.max_age_ms
        self._spare(settings)

    def _spare(self, settings: Settings) -> None:
        self._segmenter.crop_margin = settings.crop_margin
        self._segmenter.weed_confidence = settings.weed_confidence

    def _receive(self, message: Image | CompressedImage) -> None:
        self._freshness.arrived(time.monotonic())
        self._outputs.diagnostics.image()
        if self._stamps.advance(stamp_ns(message.header)):
            self._worker.mailbox.put(_Received(message, self._count))
        else:
            self._log.warning(
                "dropped an image whose stamp is not later than the one before; "
                f"{self._stamps.refused} so far",
                throttle_duration_sec=_LOG_PERIOD_S,
            )
        self._count += 1

    def _segment(self, item: _Received) -> None:
        """Turn one message into a published mask, in the worker's thread."""
        header = item.message.header
        self._frame_id = header.frame_id
        self._size = declared_size(item.message) or self._size
        started = time.perf_counter()
        frame = to_frame(item.message, item.sequence)
        decode_ms = 1e3 * (time.perf_counter() - started)
        self._size = (frame.image.shape[0], frame.image.shape[1])
        self._compare_calibration(frame)
        mask = self._segmenter.segment(frame)
        if self._stopped:
            return
        mask = self._judge(frame, mask)
        settings = self.settings
        self._outputs.publish(
            header,
            frame,
            replace(mask, stage_ms={"receive": decode_ms, **mask.stage_ms}),
            dropped=self.dropped,
            confidence=settings.publish_confidence,
            overlay=settings.publish_overlay,
        )

    def _compare_calibration(self, frame: Frame) -> None:
        """Warn where the camera's calibration is for images of another size."""
        text = ""
        size = frame.image.shape[:2]
        if self._calibrated not in (None, size):
            (height, width), topic = self._calibrated, self._calibration.topic_name
            text = f"{topic} is for {width}x{height} pixels, the images have {size[1]}x{size[0]}"
            self._log.warning(text, throttle_duration_sec=_LOG_PERIOD_S)
        self._outputs.diagnostics.mismatch(text)

    def _judge(self, frame: Frame, mask: CropMask) -> CropMask:
        """Trust a mask no further than its frame's stamp and picture; hold it back after a gap."""
        limit_s = self._freshness.limit_s()
        age_s = 1e-9 * (self._node.get_clock().now().nanoseconds - frame.stamp_ns)
        mask = _downgraded(mask, *judge_age(age_s, limit_s))
        mask = _downgraded(mask, *self._picture.judge(frame.image, time.monotonic(), limit_s))
        if mask.status is Status.INVALID:
            self._freshness.invalid()
            self._log.warning(f"invalid mask: {mask.reason}", throttle_duration_sec=_LOG_PERIOD_S)
            return mask
        missing = self._freshness.valid(time.monotonic())
        if not missing:
            return mask
        good = GOOD_FRAMES_TO_RECOVER - missing
        reason = f"recovering: {good} of {GOOD_FRAMES_TO_RECOVER} good frames"
        return _downgraded(mask, Status.INVALID, reason)

    def _failed(self, item: _Received, error: Exception) -> None:
        """Publish INVALID for a frame that could not be segmented, in the worker's thread."""
        if self._stopped:
            return
        self._freshness.invalid()
        if isinstance(error, CropSegError):
            reason = str(error)
        else:
            reason = f"internal error: {error!r}"
            self._log.error("".join(traceback.format_exception(error)))
        self._log.warning(f"no mask: {reason}", throttle_duration_sec=_LOG_PERIOD_S)
        self._outputs.publish_invalid(
            item.message.header,
            self._size,
            reason,
            sequence=item.sequence,
            dropped=self.dropped,
        )

    def _stale(self, reason: str) -> None:
        """Publish INVALID for want of a mask, in the watchdog's thread."""
        if not self._stamps.advancing:
            reason += "; images come, but their stamps do not advance"
        header = Header()
        header.stamp = self._node.get_clock().now().to_msg()
        header.frame_id = self._frame_id
        self._log.warning(reason, throttle_duration_sec=_LOG_PERIOD_S)
        self._outputs.publish_invalid(
            header,
            self._size,
            reason,
            sequence=max(0, self._count - 1),
            dropped=self.dropped,
            of_a_frame=False,
        )

    def _escaped(self, error: Exception) -> None:
        """Log what a thread could not say otherwise."""
        text = "".join(traceback.format_exception(error))
        self._log.error(text, throttle_duration_sec=_LOG_PERIOD_S)

    @property
    def dropped(self) -> int:
        """Images that were replaced by a newer one or whose stamp did not advance."""
        return self._worker.mailbox.dropped + self._stamps.refused

    @property
    def dead(self) -> bool:
        """Whether a thread ended though nobody stopped it."""
        return not (self._stopped or (self._worker.alive() and self._watchdog.alive()))

    def _silent(self) -> None:
        publishers = self._node.count_publishers(self.topic)
        self._log.warning(f"no image for 5 s on {self.topic}; publishers: {publishers}")

    def stop(self) -> bool:
        """End subscription and threads. Returns False if a thread hangs and was left behind.

        A frame at work is finished, but its mask is not published any more.
        """
        self._stopped = True
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_subscription(self._calibration)
        self._outputs.diagnostics.end()
        watchdog = self._watchdog.stop(STOP_TIMEOUT_S)
        return self._worker.stop(STOP_TIMEOUT_S) and watchdog


def _downgraded(mask: CropMask, status: Status, reason: str) -> CropMask:
    """The mask with this status and reason if they are worse than its own."""
    if status <= mask.status:
        return mask
    if status is Status.INVALID:
        unknown = np.full_like(mask.labels, UNKNOWN)
        mask = replace(mask, labels=unknown, confidence=np.zeros_like(mask.confidence))
    return replace(mask, status=status, reason=reason)
