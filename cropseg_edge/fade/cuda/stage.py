"""CudaFade: device addresses go in, kernels are launched on a stream; nothing is waited for.

The equations are in `fade/reference.py`; the CPU's twins of these methods in `fade/stage.py` and
`letterbox.py`. Every tensor is contiguous and begins at a multiple of 16 bytes.
"""

import math
from typing import TYPE_CHECKING, Any

from cropseg_edge.errors import EngineError
from cropseg_edge.fade.cuda.contract import (
    DeviceInputs,
    Launcher,
    check_addresses,
    check_classes,
    check_inputs,
    check_sizes,
)
from cropseg_edge.fade.cuda.kernels import (
    DECODE_TILE,
    PARAMETERS,
    PIXEL_TILE,
    THREADS,
    DType,
    Layout,
    kernel,
    shrinking,
    tiles,
    upsample_plan,
)
from cropseg_edge.fade.stage import Affine

if TYPE_CHECKING:
    from cropseg_edge.bundle import InputSpec
    from cropseg_edge.letterbox import Fit


class CudaFade:
    """The compiled kernels, loaded into the current CUDA context.

    Methods launch on `stream`, a `pycuda.driver.Stream` (None: the default stream), and return at
    once; they allocate nothing, and a CUDA graph may capture them. One object may serve any number
    of sizes and streams; it belongs to the thread in which its context is current.

    Args:
        dtype: of FADE's inputs and of `upsample`'s output.
        layout: of `upsample`'s logits, guide and output; every other map is in planes ("nchw").
        launcher: what starts the kernels; None loads them with pycuda.
        tensor_cores: let `upsample` multiply on tensor cores, with weights rounded to FP16, where
            they take the map (see `upsample_plan`). Not timed yet, hence off.

    Raises:
        EngineError: pycuda, a CUDA context, or kernels for this GPU or dtype are missing.
    """

    def __init__(
        self,
        dtype: DType = "float32",
        layout: Layout = "nchw",
        launcher: Launcher | None = None,
        tensor_cores: bool = False,
    ) -> None:
        if kernel("upsample", dtype, layout) not in PARAMETERS:
            raise EngineError(
                f"FADE on the GPU takes float16 or float32, nchw or nhwc; got {dtype}, {layout}"
            )
        if launcher is None:
            from cropseg_edge.fade.cuda.driver import PycudaLauncher

            launcher = PycudaLauncher()
        self._launcher = launcher
        self._dtype: DType = dtype
        self._layout: Layout = layout
        self._tensor_cores = tensor_cores

    def clear(self, status: int, stream: Any = None) -> None:
        """Set the status word (int32 at device address `status`) to zero; once a frame."""
        self._launcher.launch("clear", (1, 1, 1), (status,), stream)

    def upsample(
        self,
        inputs: DeviceInputs,
        channels: int,
        height: int,
        width: int,
        out: int,
        stream: Any = None,
        side: int = 1,
    ) -> None:
        """FADE without softmax over classes, for maps of any number of channels.

        Args:
            inputs: addresses of the inputs.
            channels: C of the map that is upsampled.
            height: h, rows of the low-resolution maps.
            width: w, columns of the low-resolution maps.
            out: address of [C, 2sh, 2sw] or [2sh, 2sw, C], the inputs' dtype. A pixel whose inputs
                hold a NaN or an infinity is not finite.
            stream: see the class.
            side: s, the side of the guide's sub-pixels: 1, or with a guide 2.

        Raises:
            EngineError: an address is not aligned, a size does not fit, or the launch failed.
        """
        check_inputs(inputs, side)
        check_addresses(out=out)
        check_sizes(channels, height, width)
        name, grid, chunk = upsample_plan(
            self._dtype, self._layout, side, channels, height, width,
            self._launcher.multiprocessors, self._tensor_cores,
        )  # fmt: skip
        self._launcher.launch(
            name,
            grid,
            (*inputs, out, channels, height, width, chunk),
            stream,
        )

    def probabilities(
        self,
        inputs: DeviceInputs,
        channels: int,
        height: int,
        width: int,
        out: int,
        status: int,
        stream: Any = None,
        side: int = 1,
    ) -> None:
        """`upsample`, then the softmax over the classes; as `fade_probabilities` on the CPU.

        Args:
            inputs: addresses of the inputs.
            channels: number of classes.
            height: h, rows of the low-resolution maps.
            width: w, columns of the low-resolution maps.
            out: address of float32 [C, 2sh, 2sw]. A pixel whose inputs hold
                a NaN or an infinity is NaN in every class, and sets NON_FINITE.
            status: address of the status word; NON_FINITE and SATURATED are set.
            stream: see the class.
            side: s, as in `upsample`.

        Raises:
            EngineError: as `upsample`.
        """
        check_inputs(inputs, side)
        check_addresses(out=out)
        check_sizes(channels, height, width)
        self._launcher.launch(
            kernel("probabilities", self._dtype, side=side),
            (*tiles(PIXEL_TILE, 2 * height, 2 * width), 1),
            (*inputs, out, status, channels, height, width),
            stream,
        )

    def labels(
        self,
        inputs: DeviceInputs,
        channels: int,
        height: int,
        width: int,
        labels: int,
        confidence: int,
        status: int,
        stream: Any = None,
        side: int = 1,
    ) -> None:
        """`probabilities`, then labels on the grid itself; no probability is written.

        The rule is that of `cropseg_edge.fade.decode`: vegetation is decided first.

        Args:
            inputs: addresses of the inputs.
            channels: number of classes, 2 to 254.
            height: h, rows of the low-resolution maps.
            width: w, columns of the low-resolution maps.
            labels: address of uint8 [2sh, 2sw]; 255 everywhere if NON_FINITE is set.
            confidence: address of uint8 [2sh, 2sw], round(255 * probability of the label).
            status: address of the status word; NON_FINITE and SATURATED are set.
            stream: see the class.
            side: s, as in `upsample`.

        Raises:
            EngineError: as `upsample`.
        """
        check_inputs(inputs, side)
        check_addresses(labels=labels, confidence=confidence)
        check_classes(channels)
        check_sizes(height, width)
        self._launcher.launch(
            kernel("labels", self._dtype, side=side),
            (*tiles(PIXEL_TILE, 2 * height, 2 * width), 1),
            (*inputs, labels, confidence, status, channels, height, width),
            stream,
        )
        count = (2 * side) ** 2 * height * width
        grid = (math.ceil(count / THREADS), 1, 1)
        self._launcher.launch("conceal", grid, (labels, confidence, status, count), stream)

    def decode(
        self,
        probabilities: int,
        channels: int,
        grid_height: int,
        grid_width: int,
        affine: Affine,
        height: int,
        width: int,
        labels: int,
        confidence: int,
        status: int,
        stream: Any = None,
    ) -> None:
        """Labels and confidence of a frame; as `cropseg_edge.fade.decode` on the CPU.

        Args:
            probabilities: address of float32 [C, grid_height, grid_width].
            channels: number of classes, 2 to 254.
            grid_height: rows of the grid.
            grid_width: columns of the grid.
            affine: from the frame's pixels to the grid, from `Letterbox.affine`.
            height: rows of the frame.
            width: columns of the frame.
            labels: address of uint8 [height, width]; 255 everywhere if NON_FINITE is set, also by
                an earlier stage of the frame.
            confidence: address of uint8 [height, width]; 0 everywhere likewise.
            status: address of the status word; NON_FINITE and VARIES are set.
            stream: see the class.

        Raises:
            EngineError: as `upsample`.
        """
        check_addresses(probabilities=probabilities, labels=labels, confidence=confidence)
        check_classes(channels)
        check_sizes(grid_height, grid_width, height, width)
        plane = grid_height * grid_width
        self._launcher.launch(
            "check",
            (math.ceil(plane / THREADS), channels, 1),
            (probabilities, status, channels, plane),
            stream,
        )
        self._launcher.launch(
            "decode",
            (*tiles(DECODE_TILE, height, width), 1),
            (
                probabilities, labels, confidence, status, channels, grid_height, grid_width,
                *(round(value * 2**32) for value in affine), height, width,
            ),
            stream,
        )  # fmt: skip

    def preprocess(
        self,
        image: int,
        height: int,
        width: int,
        spec: "InputSpec",
        fit: "Fit",
        out: int,
        dtype: DType = "float32",
        stream: Any = None,
    ) -> None:
        """Letterbox and normalise a frame; as `Letterbox.fill` on the CPU.

        Args:
            image: address of uint8 [height, width, 3], BGR.
            height: rows of the frame.
            width: columns of the frame.
            spec: the network's input, from the bundle's manifest: size, mean, std, colour order.
            fit: where the frame lies in it, from `Letterbox.fit(height, width)`.
            out: address of `dtype` [3, spec.height, spec.width], in the manifest's colour order.
            dtype: of the network's input.
            stream: see the class.

        Raises:
            EngineError: as `upsample`.
        """
        check_addresses(out=out)
        check_sizes(height, width)
        halvings, area = shrinking(height, width, fit.height, fit.width)
        scale = [1 / std for std in spec.std]
        offset = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
        self._launcher.launch(
            kernel("preprocess", dtype),
            (*tiles(PIXEL_TILE, spec.height, spec.width), 1),
            (
                image, height, width, halvings, int(area), fit.height, fit.width, fit.top,
                fit.left, spec.height, spec.width, int(spec.color_order == "rgb"),
                *scale, *offset, out,
            ),
            stream,
        )  # fmt: skip

    def close(self) -> None:
        """Unload the kernels; idempotent. The context must still be current."""
        self._launcher.close()
