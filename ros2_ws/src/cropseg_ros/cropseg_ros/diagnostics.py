"""Diagnostics: images, masks and the computer once a second on /diagnostics (REP 107)."""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile

from cropseg_edge.doctor.finding import Status as Found
from cropseg_edge.doctor.power import thermal
from cropseg_edge.doctor.system import System
from cropseg_edge.mask import Status
from cropseg_ros.qos import profile, unheard
from cropseg_ros.watchdog import SILENCE_S

PERIOD_S = 1.0
_DEPTH = 5
_OK, _WARN, _ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_INACTIVE = "inactive"
_LEVELS = {Status.OK: _OK, Status.DEGRADED: _WARN, Status.INVALID: _ERROR}


class Diagnostics:
    """Collects what the threads of a node notice; a timer of the node publishes it.

    Images have a publisher that cannot be heard: ERROR, or WARN while others are; are silent, or
    have a camera_info for another size: WARN. Masks have the level of the worst one since the last
    message, and none for two seconds is a WARN. So is a computer that is hot or lacks power.

    Args:
        node: the node that is told of.
        about: what else is told of the masks.
    """

    def __init__(self, node: Node, about: dict[str, str]) -> None:
        self._node = node
        self._about = about
        self._lock = threading.Lock()
        self._system = System()
        self.begin("", profile("best_effort", 1))
        self._publisher = node.create_publisher(
            DiagnosticArray, "/diagnostics", profile("reliable", _DEPTH)
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=steady)

    def begin(self, topic: str, qos: QoSProfile) -> None:
        """Forget what was; images are expected on this topic, none where it is empty."""
        with self._lock:
            self._topic, self._qos, self._mismatch, self._images = topic, qos, "", 0
            self._heard = self._told = time.monotonic()
            self._masks: Counter[Status] = Counter()
            self._worst, self._reason, self._age_ms, self._dropped = Status.OK, "", 0.0, 0

    def end(self) -> None:
        """Forget what was; no images are expected."""
        self.begin("", self._qos)

    def image(self) -> None:
        """An image came in."""
        with self._lock:
            self._images += 1
            self._heard = time.monotonic()

    def mismatch(self, reason: str) -> None:
        """The camera's calibration does not fit its images; empty where it does."""
        with self._lock:
            self._mismatch = reason

    def mask(self, status: Status, reason: str, age_ms: float, dropped: int) -> None:
        """A status was published; `dropped` counts the images without one."""
        with self._lock:
            self._masks[status] += 1
            self._told = time.monotonic()
            self._age_ms, self._dropped = age_ms, dropped
            if status >= self._worst:
                self._worst, self._reason = status, reason

    def publish(self) -> None:
        """Publish what was noticed since the last time."""
        with self._lock:
            array = DiagnosticArray(status=[self._of_images(), self._of_masks(), self._of_board()])
            self._images, self._worst, self._reason = 0, Status.OK, ""
            self._masks.clear()
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _of_images(self) -> DiagnosticStatus:
        if not self._topic:
            return self._status("images", _OK, _INACTIVE, {})
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        values = {"topic": self._topic, "publishers": len(publishers), "images": self._images}
        if reasons := [why for each in publishers if (why := unheard(each.qos_profile, self._qos))]:
            level = _WARN if self._images else _ERROR
            text = (
                f"{len(reasons)} of {len(publishers)} publishers on {self._topic} cannot be heard: "
            )
            return self._status("images", level, text + reasons[0], values)
        silent_s = time.monotonic() - self._heard
        if silent_s > SILENCE_S:
            text = f"no image for {silent_s:.0f} s; publishers: {len(publishers)}"
            return self._status("images", _WARN, text, values)
        if self._mismatch:
            return self._status("images", _WARN, self._mismatch, values)
        return self._status("images", _OK, f"{self._images} in a second", values)

    def _of_masks(self) -> DiagnosticStatus:
        counts = {status.name.lower(): self._masks[status] for status in Status}
        values = {**self._about, **counts, "dropped": self._dropped}
        if not self._topic:
            return self._status("masks", _OK, _INACTIVE, values)
        values["age_ms"] = f"{self._age_ms:.1f}"
        waited_s = time.monotonic() - self._told
        if waited_s > 2 * PERIOD_S:
            return self._status("masks", _WARN, f"no mask for {waited_s:.0f} s", values)
        text = self._reason or f"{counts['ok']} in a second"
        return self._status("masks", _LEVELS[self._worst], text, values)

    def _of_board(self) -> DiagnosticStatus:
        found = thermal(self._system)
        level = _WARN if found.status is Found.WARN else _OK
        text = f"{found.found}; {found.remedy}" if found.remedy else found.found
        return self._status("computer", level, text, found.data.get("celsius", {}))

    def _status(
        self, name: str, level: bytes, text: str, values: dict[str, object]
    ) -> DiagnosticStatus:
        node = self._node.get_fully_qualified_name().lstrip("/")
        return DiagnosticStatus(
            level=level,
            name=f"{node}: {name}",
            message=text,
            hardware_id=platform.node(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def close(self) -> None:
        """Remove timer and publisher."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)
