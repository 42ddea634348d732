"""Segmenter: a camera frame goes in, a CropMask comes out; each stage timed where it happens."""

import logging
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle, read_bundle
from cropseg_edge.engines.protocol import Engine
from cropseg_edge.errors import EngineError
from cropseg_edge.fade import decode, fade_probabilities
from cropseg_edge.frames.frame import Frame
from cropseg_edge.health import check_frame, judge
from cropseg_edge.letterbox import Letterbox
from cropseg_edge.mask import UNKNOWN, CropMask, Status

log = logging.getLogger("cropseg_edge.segmenter")
FP16_MAX = 65504.0


class Segmenter:
    """Segments frames of any size with one bundle. One segmenter belongs to one thread at a time.

    Args:
        bundle: a bundle, its path, or None for the one that ships with the package.
        threads: of the engine; None takes the physical cores, at most 4.
        engine: what runs the network; None makes an `OnnxRuntimeEngine`. The segmenter closes it.
        precision: of the engine that is made; None takes the bundle's default.

    Raises:
        BundleError: the bundle cannot be used.
        EngineError: the engine cannot be made from it.
    """

    def __init__(
        self,
        bundle: Bundle | Path | None = None,
        *,
        threads: int | None = None,
        engine: Engine | None = None,
        precision: str | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        if engine is None:
            from cropseg_edge.engines.onnxruntime import OnnxRuntimeEngine

            engine = OnnxRuntimeEngine(self.bundle, threads, precision)
        self.engine = engine
        self._letterbox = Letterbox(self.bundle.manifest.input)
        self._grid: NDArray[np.float32] | None = None

    def segment(self, frame: Frame) -> CropMask:
        """Segment one frame.

        Returns:
            The mask at the frame's size. DEGRADED where half of the frame is black or saturated;
            INVALID, 255 everywhere, where nearly all of it is or it is uniform, and where the
            engine failed, gave a number that is not finite or saturated, or says the same of
            every pixel.

        Raises:
            FrameError: the image is not uint8 [H, W, 3] or has a side under 16 pixels.
        """
        watch = _Watch()
        check_frame(frame)
        status, reason = judge(frame)
        watch.lap("check")
        if status is Status.INVALID:
            return self._invalid(frame, reason, watch)
        height, width = frame.image.shape[:2]
        tensor = self._letterbox.fill(frame.image)
        watch.lap("preprocess")
        try:
            outputs = self.engine.infer(tensor)
            watch.lap("engine")
            grid = self._upsample(outputs)
            watch.lap("fade")
            affine = self._letterbox.affine(height, width, grid.shape[1], grid.shape[2])
            labels, confidence, finite = decode(grid, affine, height, width)
            watch.lap("decode")
        except EngineError as error:
            log.error("frame %s: %s", frame.name, error)
            return self._invalid(frame, str(error), watch)
        if not finite:
            return self._invalid(frame, "non-finite output of the network", watch)
        if not np.ptp(grid, axis=(1, 2)).any():
            return self._invalid(frame, "constant output of the network", watch)
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
        grid = self._upsample(self.engine.infer(self._letterbox.fill(image)))
        return np.array(grid)

    def warm_up(self) -> None:
        """Run the network once on an empty input, so that the first frame is as fast as the rest.

        Raises:
            EngineError: the engine failed.
        """
        spec = self.bundle.manifest.input
        self.probabilities(np.full((spec.height, spec.width, 3), 128, np.uint8))

    def close(self) -> None:
        """Free the engine; idempotent."""
        self.engine.close()

    def __enter__(self) -> "Segmenter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _upsample(self, outputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        names = self.bundle.manifest.upsampler.tensors
        try:
            logits, high, low = (
                outputs[name] for name in (names.logits, names.kernels_high, names.kernels_low)
            )
            guide = outputs[names.guide] if names.guide is not None else None
            gate = outputs[names.gate] if names.gate is not None else None
        except KeyError as error:
            raise EngineError(f"the engine gave no tensor {error}, but {sorted(outputs)}") from None
        highest = max(float(np.abs(x).max()) for x in (logits, guide) if x is not None)
        if FP16_MAX <= highest < np.inf:
            raise EngineError(f"saturated output of the network: a score of {highest:g}")
        grid = fade_probabilities(logits, high, low, guide, gate, out=self._grid)
        self._grid = grid
        return grid

    def _invalid(self, frame: Frame, reason: str, watch: "_Watch") -> CropMask:
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
        watch: "_Watch",
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


class _Watch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = (now - self._last) * 1e3
        self._last = now
