"""The path on the CPU: letterbox, engine, FADE and decoding, on buffers that are allocated once."""

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.protocol import CONSTANT, NON_FINITE, SATURATED, Engine, Segmented, Watch
from cropseg_edge.errors import EngineError
from cropseg_edge.fade import decode, fade_probabilities
from cropseg_edge.letterbox import Letterbox

FP16_MAX = 65504.0


class CpuPath:
    """Runs any `Engine`; see `FramePath`. Closing the path closes the engine.

    Args:
        threads: of preprocessing, FADE and decoding.
    """

    def __init__(self, bundle: Bundle, engine: Engine, threads: int = 1) -> None:
        self.engine = engine
        self._threads = threads
        self._tensors = bundle.manifest.upsampler.tensors
        self._letterbox = Letterbox(bundle.manifest.input, threads)
        self._grid: NDArray[np.float32] | None = None

    def segment(self, image: NDArray[np.uint8], watch: Watch) -> Segmented:
        """See `FramePath.segment`."""
        height, width = image.shape[:2]
        tensor = self._letterbox.fill(image)
        watch.lap("preprocess")
        outputs = self.engine.infer(tensor)
        watch.lap("engine")
        grid = self._upsample(outputs)
        watch.lap("fade")
        affine = self._letterbox.affine(height, width, grid.shape[1], grid.shape[2])
        labels, confidence, finite = decode(grid, affine, height, width, self._threads)
        watch.lap("decode")
        if not finite:
            return Segmented(labels, confidence, NON_FINITE)
        # Every 16th pixel first: where they differ, nobody need look at the others.
        constant = not any(np.ptp(part, (1, 2)).any() for part in (grid[:, ::16, ::16], grid))
        return Segmented(labels, confidence, CONSTANT if constant else "")

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `FramePath.probabilities`."""
        return np.array(self._upsample(self.engine.infer(self._letterbox.fill(image))))

    def close(self) -> None:
        """Free the engine; idempotent."""
        self.engine.close()

    def _upsample(self, outputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        names = self._tensors
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
            raise EngineError(f"{SATURATED}: a score of {highest:g}")
        self._grid = fade_probabilities(logits, high, low, guide, gate, self._grid, self._threads)
        return self._grid
