"""The path on the GPU: a picture goes up, labels and confidence come down; all on one stream.

None of it has run on hardware yet. The tests run it with a TensorRT and a pycuda that are played
by the CPU, and with the real kernels compiled for it.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.protocol import CONSTANT, NON_FINITE, SATURATED, Segmented, Watch
from cropseg_edge.engines.tensorrt.buffers import SharedBuffer
from cropseg_edge.engines.tensorrt.device import primary_context
from cropseg_edge.engines.tensorrt.engine import TensorRtEngine
from cropseg_edge.engines.tensorrt.platform import Platform
from cropseg_edge.errors import DeviceLostError, DeviceMemoryError, EngineError
from cropseg_edge.fade.cuda import CudaFade, DeviceInputs, StageStatus
from cropseg_edge.letterbox import Letterbox

log = logging.getLogger("cropseg_edge.engines.tensorrt")
STAGES = ("preprocess", "engine", "fade", "decode")
MOST_FAILURES = 5  # frames in a row; then the engine is given up


class TensorRtPath:
    """Preprocessing, engine, FADE and decoding on one GPU; see `FramePath`.

    It may be made in one thread and used in another, by one at a time. The GPU's memory is
    allocated here; only a picture larger than all before makes its buffers grow.

    Args:
        platform: TensorRT, pycuda and the device.
        bundle: the bundle.
        precision: of the engine.
        plan: the serialised engine.
        on_lost: called once if only a new process can go on: with the cause, and whether the engine
            itself is why.

    Raises:
        EngineError: the engine cannot be loaded, or there is not enough memory.
    """

    def __init__(
        self,
        platform: Platform,
        bundle: Bundle,
        precision: str,
        plan: bytes,
        on_lost: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._cuda: Any = platform.cuda
        self._spec = bundle.manifest.input
        self._letterbox = Letterbox(self._spec)
        self._frees = ExitStack()
        self._on_lost = on_lost
        self._failures = 0  # in a row
        self._closed = False
        self._context: Any = primary_context(self._cuda)
        try:
            with self._current():
                self._allocate(platform, bundle, precision, plan)
        except EngineError:
            self.close()
            raise

    def _allocate(self, platform: Platform, bundle: Bundle, precision: str, plan: bytes) -> None:
        cuda = self._cuda
        # CU_STREAM_NON_BLOCKING: else, while it is captured, nobody in the process may use the
        # default stream, TensorRT and other engines included.
        self._stream: Any = cuda.Stream(1)
        self._events: Any = [cuda.Event() for _ in range(len(STAGES) + 1)]
        self.engine = TensorRtEngine(platform.trt, cuda, plan, bundle, precision, self._stream)
        self._frees.callback(self.engine.close)
        names = bundle.manifest.upsampler.tensors
        address = self.engine.address
        self._inputs = DeviceInputs(
            address(names.logits),
            address(names.kernels_high),
            address(names.kernels_low),
            0 if names.guide is None else address(names.guide),
            0 if names.gate is None else address(names.gate),
        )
        shapes = self.engine.shapes
        _, self._classes, self._height, self._width = shapes[names.logits]
        guide = self._classes if names.guide is None else shapes[names.guide][1]
        self._side = math.isqrt(guide // self._classes)  # of the guide's sub-pixels
        self._fade = CudaFade(self.engine.dtypes[names.logits].name)
        self._frees.callback(self._fade.close)
        scale = 2 * self._side
        grid = (self._classes, scale * self._height, scale * self._width)
        self._host_grid = np.zeros(grid, np.float32)
        self._grid: Any = cuda.mem_alloc(self._host_grid.nbytes)
        self._frees.callback(self._grid.free)
        self._picture, self._masks, self._status = (
            SharedBuffer(cuda, platform.device.integrated) for _ in range(3)
        )
        for buffer in (self._picture, self._masks, self._status):
            self._frees.callback(buffer.free)
        self._status.reserve(4)

    def segment(self, image: NDArray[np.uint8], watch: Watch) -> Segmented:
        """See `FramePath.segment`; the stages are timed by events on the stream.

        Where the memory runs out the frame is tried once more.

        Raises:
            EngineError: the engine failed.
            DeviceLostError: the GPU failed, or the engine did so, or gave numbers that cannot be
                used, for the fifth frame in a row.
        """
        error: EngineError | None = None
        try:
            try:
                result = self._segment(image, watch)
            except DeviceMemoryError:
                result = self._segment(image, watch)
            cause = result.fault
        except DeviceLostError:
            raise
        except EngineError as failure:
            error, cause = failure, str(failure)
        if not cause:
            self._failures = 0
            return result
        self._failures += 1
        if self._closed or self._failures < MOST_FAILURES:
            if error is not None:
                raise error
            return result
        cause = f"the engine failed on {self._failures} frames in a row: {cause}"
        # Memory and odd pictures need not be the engine's fault: it is quarantined the third time.
        for_good = error is not None and not isinstance(error, DeviceMemoryError)
        self._lost(cause, for_good)
        raise DeviceLostError(f"{cause}; this process must be started anew") from error

    def _segment(self, image: NDArray[np.uint8], watch: Watch) -> Segmented:
        height, width = image.shape[:2]
        with self._current():
            started = time.perf_counter()
            self._put(image)
            self._masks.reserve(2 * _rounded(height * width))
            uploaded = time.perf_counter()
            self._enqueue(height, width)
            labels, confidence = self._decode(height, width)
            self._stream.synchronize()
            synchronised = time.perf_counter()
            result = self._result(labels.copy(), confidence.copy())
            events = zip(STAGES, self._events, self._events[1:], strict=False)
            watch.laps |= {name: begin.time_till(end) for name, begin, end in events}
            watch.laps["preprocess"] += 1e3 * (uploaded - started)
            watch.laps["decode"] += 1e3 * (time.perf_counter() - synchronised)
        return result

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `FramePath.probabilities`."""
        with self._current():
            self._put(image)
            self._enqueue(*image.shape[:2])
            self._stream.synchronize()
            self._cuda.memcpy_dtoh(self._host_grid, self._grid)
            return np.array(self._host_grid)

    def close(self) -> None:
        """Free everything in the order opposite to that of its making; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            with self._current():
                self._frees.close()
                self._stream = self._events = None
        except DeviceLostError as error:  # what a lost GPU holds goes with the process
            log.warning("closing an engine: %s", error)

    def _put(self, image: NDArray[np.uint8]) -> None:
        if self._closed:
            raise EngineError("the engine is closed; make a new one")
        self._picture.reserve(image.size)
        np.copyto(self._picture.array(*image.shape), image)

    def _enqueue(self, height: int, width: int) -> None:
        """Everything up to the probabilities, on the stream."""
        stream, events = self._stream, self._events
        events[0].record(stream)
        self._picture.upload(height * width * 3, stream)
        self._fade.clear(self._status.address, stream)
        name, spec = self._spec.tensor, self._spec
        self._fade.preprocess(
            self._picture.address,
            height,
            width,
            spec,
            self._letterbox.fit(height, width),
            self.engine.address(name),
            self.engine.dtypes[name].name,
            stream,
        )
        events[1].record(stream)
        self.engine.enqueue()
        events[2].record(stream)
        self._fade.probabilities(
            self._inputs,
            self._classes,
            self._height,
            self._width,
            int(self._grid),
            self._status.address,
            stream,
            self._side,
        )
        events[3].record(stream)

    def _decode(self, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The rest, on the stream: views of what will be labels and confidence."""
        stream, plane = self._stream, _rounded(height * width)
        grid_height, grid_width = self._host_grid.shape[1:]
        self._fade.decode(
            int(self._grid),
            self._classes,
            grid_height,
            grid_width,
            self._letterbox.affine(height, width, grid_height, grid_width),
            height,
            width,
            self._masks.address,
            self._masks.address + plane,
            self._status.address,
            stream,
        )
        self._masks.download(2 * plane, stream)
        self._status.download(4, stream)
        self._events[4].record(stream)
        both = self._masks.array(2, plane)[:, : height * width]
        labels, confidence = both.reshape(2, height, width)
        return labels, confidence

    def _result(self, labels: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> Segmented:
        status = StageStatus(int(self._status.array(4).view(np.int32)[0]))
        fault = ""
        if StageStatus.NON_FINITE in status:
            fault = NON_FINITE
        elif StageStatus.SATURATED in status:
            fault = SATURATED
        elif StageStatus.VARIES not in status:
            fault = CONSTANT
        return Segmented(labels, confidence, fault)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context current in this thread; CUDA's errors become ours."""
        cuda, pushed = self._cuda, False
        try:
            self._context.push()
            pushed = True
            try:
                yield
            except EngineError:
                cuda.Context.synchronize()  # a GPU that is lost says so here
                raise
            finally:
                self._context.pop()
        except cuda.MemoryError as error:
            raise DeviceMemoryError(
                f"the GPU's memory ran out ({error}); close other programs, or use a smaller model"
            ) from error
        except cuda.Error as error:
            if pushed:  # else the GPU was lost before
                self._lost(str(error), False)
            raise DeviceLostError(
                f"the GPU failed: {error}; this process must be started anew"
            ) from error

    def _lost(self, cause: str, for_good: bool) -> None:
        if self._on_lost is not None:
            self._on_lost(cause, for_good)
            self._on_lost = None


def _rounded(size: int) -> int:
    """The next multiple of 256: where the second of two planes may begin."""
    return -(-size // 256) * 256
