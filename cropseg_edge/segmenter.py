"""Segmenter: a camera frame goes in, a CropMask comes out; each stage timed where it happens."""

import logging
import time
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.cpu_path import CpuPath
from cropseg_edge.engines.choice import EngineChoice, open_path
from cropseg_edge.engines.protocol import Engine, EngineLabel, FramePath, Watch
from cropseg_edge.errors import ConfigError, DeviceLostError, EngineError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.health import check_frame, judge
from cropseg_edge.mask import CROP, MOST_MARGIN, UNKNOWN, WEED, CropMask, Status

log = logging.getLogger("cropseg_edge.segmenter")
_SAY_EVERY_S = 10.0


class Segmenter:
    """Segments frames of any size with one bundle. One segmenter belongs to one thread at a time.

    Args:
        bundle: a bundle, its path, or None for the one that ships with the package.
        threads: of ONNX Runtime; None takes the physical cores, at most 4.
        engine: what runs the network: onnxruntime, tensorrt (an engine that was accepted on this
            device), auto (the latter if there is one, else the former), or an engine of your own.
            The segmenter closes it.
        precision: of the engine that is made; None takes the fastest accepted TensorRT engine, or
            the bundle's default for ONNX Runtime.
        build_if_missing: where TensorRT is asked for and no engine is accepted yet, build and try
            them first. Takes minutes.
        crop_margin: pixels of the frame, 0 to `mask.MOST_MARGIN`. What lies so near to crop, along
            rows and columns, and is not crop becomes unknown, which a controller spares as it does
            crop.
        weed_confidence: 0 to 1. Weed of which the network is less sure becomes unknown as well.

    Attributes:
        crop_margin, weed_confidence: may be set between frames.
        lost: why only a new process can go on, once the GPU has failed for good, or a TensorRT
            engine on several frames in a row; else empty.

    Raises:
        BundleError: the bundle cannot be used.
        EngineError: the engine cannot be made from it.
        ConfigError: there is no such choice of engine, or a margin or confidence is out of range.
    """

    def __init__(
        self,
        bundle: Bundle | Path | None = None,
        *,
        threads: int | None = None,
        engine: Engine | EngineChoice = "onnxruntime",
        precision: str | None = None,
        build_if_missing: bool = False,
        crop_margin: int = 0,
        weed_confidence: float = 0.0,
    ) -> None:
        if not (0 <= crop_margin <= MOST_MARGIN and 0 <= weed_confidence <= 1):
            raise ConfigError(
                f"crop_margin must be 0 to {MOST_MARGIN} and weed_confidence 0 to 1, got "
                f"{crop_margin} and {weed_confidence}"
            )
        self.crop_margin = crop_margin
        self.weed_confidence = weed_confidence
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.lost = ""
        self._unsaid, self._say_at = 0, 0.0
        self._path: FramePath
        if isinstance(engine, str):
            self._path = open_path(
                self.bundle,
                engine,
                threads=threads,
                precision=precision,
                build_if_missing=build_if_missing,
            )
        else:
            self._path = CpuPath(self.bundle, engine)

    @property
    def engine(self) -> EngineLabel:
        """Name and precision of the engine that runs the network."""
        return self._path.engine

    def segment(self, frame: Frame) -> CropMask:
        """Segment one frame.

        Returns:
            The mask at the frame's size. DEGRADED where half of the frame is black or saturated, a
            quarter of it uniform (a lens that is partly covered), or it is blurred; INVALID, 255
            everywhere, where nearly all of it is, where it has no colour, and where the engine
            failed, gave a number that is not finite or saturated, or says the same of every pixel.

        Raises:
            FrameError: the image is not uint8 [H, W, 3] or has a side under 16 pixels.
            DeviceLostError: what `lost` says happened in a frame before.
        """
        if self.lost:
            raise DeviceLostError(self.lost)
        watch = Watch()
        check_frame(frame)
        status, reason = judge(frame)
        watch.lap("check")
        if status is Status.INVALID:
            return self._invalid(frame, reason, watch)
        try:
            labels, confidence, fault = self._path.segment(frame.image, watch)
        except EngineError as error:
            if isinstance(error, DeviceLostError):
                self.lost = str(error)
            self._say(frame, error)
            return self._invalid(frame, str(error), watch)
        if fault:
            return self._invalid(frame, fault, watch)
        if self.crop_margin or self.weed_confidence:
            self._spare(labels, confidence)
            watch.lap("spare")
        return self._mask(frame, labels, confidence, status, reason, watch)

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities float32 [3, h, w] on the network's grid, letterbox included.

        Args:
            image: uint8 [H, W, 3], BGR.

        Raises:
            FrameError: the image cannot be used.
            EngineError: the engine failed.
        """
        check_frame(Frame(image, 0, "", 0, "picture"))
        return self._path.probabilities(image)

    def warm_up(self) -> None:
        """Run the network once on an empty input, so that the first frame is as fast as the rest.

        Raises:
            EngineError: the engine failed.
        """
        spec = self.bundle.manifest.input
        self.probabilities(np.full((spec.height, spec.width, 3), 128, np.uint8))

    def close(self) -> None:
        """Free the engine; idempotent."""
        self._path.close()

    def __enter__(self) -> "Segmenter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spare(self, labels: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> None:
        """Make unsure weed and what is near to crop unknown, in place."""
        unknown = (labels == WEED) & (confidence < 255 * self.weed_confidence)
        if self.crop_margin:
            # A square, because it takes 1 ms at 1920x1080, and a circle ten.
            square = np.ones(2 * (2 * self.crop_margin + 1,), np.uint8)
            crop = labels == CROP
            unknown |= cv2.dilate(crop.view(np.uint8), square).view(bool) & ~crop
        labels[unknown], confidence[unknown] = UNKNOWN, 0

    def _say(self, frame: Frame, error: EngineError) -> None:
        """Log a failure: the first, what ends the process, and between them one now and then."""
        now = time.monotonic()
        if now < self._say_at and not self.lost:
            self._unsaid += 1
            return
        unsaid = f" ({self._unsaid} frames before it failed, too)" if self._unsaid else ""
        log.error("frame %s: %s%s", frame.name, error, unsaid)
        self._unsaid, self._say_at = 0, now + _SAY_EVERY_S

    def _invalid(self, frame: Frame, reason: str, watch: Watch) -> CropMask:
        size = frame.image.shape[:2]
        labels, confidence = np.full(size, UNKNOWN, np.uint8), np.zeros(size, np.uint8)
        return self._mask(frame, labels, confidence, Status.INVALID, reason, watch)

    def _mask(
        self,
        frame: Frame,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        status: Status,
        reason: str,
        watch: Watch,
    ) -> CropMask:
        return CropMask(
            labels=labels,
            confidence=confidence,
            status=status,
            reason=reason,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            sequence=frame.sequence,
            bundle_sha256=self.bundle.sha256,
            stage_ms=watch.laps,
        )
