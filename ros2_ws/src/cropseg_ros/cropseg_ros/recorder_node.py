"""recorder_node: writes down what the segmentation node published, as received, not recomputed.

While it runs it only stores raw messages. After SIGINT or SIGTERM, or once the disk is full, it
pairs them by stamp and writes masks, overlay video, bag, table and report.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from cropseg_msgs.msg import CropMaskStatus
from rclpy.node import Node
from sensor_msgs.msg import Image

from cropseg_edge.bundle import read_bundle
from cropseg_edge.errors import CropSegError, FrameError, StorageError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.sinks import RunRecorder
from cropseg_ros.conversions import from_mono8, to_frame
from cropseg_ros.process import run
from cropseg_ros.qos import profile
from cropseg_ros.spool import Spool

TOPICS = {
    "image": Image,
    "truth": Image,
    "mask": Image,
    "confidence": Image,
    "status": CropMaskStatus,
}
_DEPTH = 50


class RecorderNode(Node):
    """Subscribes to `TOPICS` under the segmentation node's default names (remap as needed).

    Raises:
        StorageError: the folder cannot be written into.
    """

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.out = Path(self.declare_parameter("out", "out/recording").value)
        self.source = self.declare_parameter("source", "").value
        self.bundle = self.declare_parameter("bundle", "").value
        self.full = ""  # why no more is stored
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.spool = Spool(self.out, TOPICS)
        except OSError as error:
            raise StorageError(f"out: cannot write into {self.out}: {error}") from error
        self._subscriptions_ = [
            self.create_subscription(
                kind,
                topic if topic in ("image", "truth") else f"segmentation_node/{topic}",
                partial(self._store, topic),
                profile("best_effort" if topic == "image" else "reliable", _DEPTH),
                raw=True,
            )
            for topic, kind in TOPICS.items()
        ]

    def _store(self, topic: str, data: bytes) -> None:
        if self.full:
            return
        try:
            self.spool.write(topic, data)
        except OSError as error:
            self.full = f"{self.out}: {error}"
            self.get_logger().error(f"no more is recorded: {self.full}")

    def close(self) -> bool:
        """Receive no more; what came is kept for `write_recording`."""
        for subscription in self._subscriptions_:
            self.destroy_subscription(subscription)
        return True


def write_recording(node: RecorderNode) -> None:
    """Write everything that was received into the node's folder.

    Images that cannot be decoded are left out and counted as failed.

    Raises:
        CropSegError: no mask of any image was received.
        StorageError: the disk filled up; what was written till then is kept.
    """
    spool = node.spool
    images = spool.stamps("image")
    known = set(images)
    stamps = [stamp for stamp in spool.stamps("mask") if stamp in known]
    statuses = [spool.read("status", stamp) for stamp in stamps]
    pairs = [(stamp, status) for stamp, status in zip(stamps, statuses, strict=True) if status]
    if not pairs:
        raise CropSegError(
            f"nothing to record: {len(images)} images and {len(spool.stamps('mask'))} masks came, "
            "none of them with the same stamp"
        )
    first = pairs[0][1]
    recorder = RunRecorder(
        node.out,
        source=node.source,
        bundle_name=read_bundle(node.bundle or None).manifest.name,
        bundle_sha256=first.bundle_sha256,
        engine=first.engine,
        mcap=node.out / "demo.mcap",
        video=node.out / "overlay.mp4",
        report=True,
        overlays=True,
        rate_hz=_rate_hz(images),
    )
    try:
        _record(node, recorder, pairs)
    except OSError as error:
        node.full = node.full or f"{node.out}: {error}"
    spool.close()
    if node.full:
        raise StorageError(f"the recording is not complete: {node.full}")


def _record(
    node: RecorderNode, recorder: RunRecorder, pairs: list[tuple[int, CropMaskStatus]]
) -> None:
    """Record all frames that can be read; whatever comes between, the files are finished."""
    failed = 0
    try:
        for stamp, status in pairs:
            try:
                frame, mask = _read(node.spool, stamp, status)
            except FrameError as error:
                failed += 1
                node.get_logger().warning(f"an image is left out: {error}")
            else:
                recorder.record(frame, mask)
    finally:
        recorder.close(
            failed=failed,
            dropped=pairs[-1][1].dropped - pairs[0][1].dropped,
            seconds=1e-9 * (pairs[-1][0] - pairs[0][0]),
        )


def _rate_hz(stamps: list[int]) -> float | None:
    """Frame rate of a series of stamps in nanoseconds."""
    return 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else None


def _read(spool: Spool, stamp_ns: int, status: CropMaskStatus) -> tuple[Frame, CropMask]:
    """A frame with its truth, and the mask as it was published."""
    frame = to_frame(spool.read("image", stamp_ns), status.sequence)
    truth = spool.read("truth", stamp_ns)
    confidence = spool.read("confidence", stamp_ns)
    labels = from_mono8(spool.read("mask", stamp_ns))
    mask = CropMask(
        labels=labels,
        confidence=np.zeros_like(labels) if confidence is None else from_mono8(confidence),
        status=Status(status.status),
        reason=status.reason,
        stamp_ns=stamp_ns,
        frame_id=status.header.frame_id,
        sequence=status.sequence,
        bundle_sha256=status.bundle_sha256,
        stage_ms=dict(zip(status.stage_names, status.stage_ms, strict=True)),
    )
    return frame if truth is None else replace(frame, truth=from_mono8(truth)), mask


def main() -> None:
    """Entry point of the executable."""
    sys.exit(
        run(
            RecorderNode,
            finished=lambda node: bool(node.full),
            afterwards=write_recording,
        )
    )


if __name__ == "__main__":
    main()
