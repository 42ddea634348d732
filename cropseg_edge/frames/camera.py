"""A live camera as a source: V4L2, a GStreamer pipeline, RTSP or HTTP."""

import logging
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.frame import Frame

_LOG = logging.getLogger("cropseg_edge.frames")
_SILENCE_S = 5.0  # a camera that gives nothing for so long is taken for dead
_OPEN_MS = 10_000


class CameraSource:
    """Gives the latest frame, whenever one is asked for.

    A thread reads the camera as fast as it delivers and keeps one frame. A consumer that is
    slower never works on an old picture; what it missed shows as gaps in `sequence`. Stamps are
    the system clock's (as in ROS) at the arrival of the frame.
    """

    def __init__(self, address: int | str, *, rate_hz: float | None = None) -> None:
        """
        Args:
            address: V4L2 index, URL, or GStreamer pipeline that ends in an appsink.
            rate_hz: frame rate to ask the camera for.

        Raises:
            FrameError: the camera cannot be opened.
        """
        self.name = f"/dev/video{address}" if isinstance(address, int) else address
        self.failed = 0
        self._capture = _open(address, self.name)
        if rate_hz is not None:
            self._capture.set(cv2.CAP_PROP_FPS, rate_hz)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate_hz = rate if 0 < rate < 1000 else rate_hz
        self._latest: tuple[int, int, NDArray[np.uint8]] | None = None
        self._changed = threading.Condition()
        self._running, self._closed = True, False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        sequence = 0
        while self._running and self._capture.grab():
            stamp_ns = time.time_ns()
            decoded, image = self._capture.retrieve()
            with self._changed:
                if decoded:
                    self._latest = sequence, stamp_ns, np.asarray(image, np.uint8)
                    self._changed.notify()
                else:
                    self.failed += 1
            if not decoded:
                _LOG.warning("camera %s: frame %d cannot be decoded; skipped", self.name, sequence)
            sequence += 1
        with self._changed:
            self._running = False
            self._changed.notify()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                came = self._changed.wait_for(
                    lambda: self._latest is not None or not self._running, _SILENCE_S
                )
                latest, self._latest = self._latest, None
            if latest is None:
                if self._closed:
                    return
                why = "ended its stream" if came else f"gave no frame for {_SILENCE_S:g} s"
                raise FrameError(f"camera {self.name} {why}; is it still connected?")
            sequence, stamp_ns, image = latest
            yield Frame(image, stamp_ns, "camera", sequence, f"{sequence:06d}")

    def close(self) -> None:
        self._running, self._closed = False, True
        self._thread.join(_SILENCE_S)
        # Releasing under a read that hangs would crash; the thread is a daemon and ends with us.
        if not self._thread.is_alive():
            self._capture.release()


def _open(address: int | str, name: str) -> cv2.VideoCapture:
    if isinstance(address, int):
        backend, hint = cv2.CAP_V4L2, "is it there (ls /dev/video*), free, and are you in `video`?"
    elif " ! " in address:
        backend, hint = cv2.CAP_GSTREAMER, "try it with gst-launch-1.0; it must end in appsink"
        if not cv2.videoio_registry.hasBackend(backend):
            raise FrameError(
                "this OpenCV was built without GStreamer (the wheels of PyPI are): use an OpenCV "
                "with it, such as JetPack's or the distribution's python3-opencv, or an rtsp:// URL"
            )
    else:
        backend, hint = cv2.CAP_FFMPEG, "is the address right and the camera reachable?"
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS] if backend == cv2.CAP_FFMPEG else []
    capture = cv2.VideoCapture(address, backend, options)
    if not capture.isOpened():
        raise FrameError(f"camera {name} cannot be opened: {hint}")
    if isinstance(address, int):
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
