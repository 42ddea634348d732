"""What runs a network: an engine (tensor in, tensors out) and a path (picture in, mask out)."""

import time
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

NON_FINITE = "non-finite output of the network"
CONSTANT = "constant output of the network"
SATURATED = "saturated output of the network"


class EngineLabel(Protocol):
    """What an engine says about itself.

    Attributes:
        name: "onnxruntime" or "tensorrt".
        precision: "fp32", "fp16" or "int8".
    """

    name: str
    precision: str


class Engine(EngineLabel, Protocol):
    """Runs the network of a bundle. One engine belongs to one thread at a time."""

    def infer(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run the network once.

        Args:
            image: float32 [1, 3, H, W], normalised as the bundle's manifest says.

        Returns:
            The tensors that the FADE stage takes, by the names in the manifest. They stay valid
            until the next call.

        Raises:
            EngineError: the input does not fit, or the run failed.
        """
        ...

    def close(self) -> None:
        """Free the engine; idempotent."""
        ...


class Watch:
    """Times the stages of one frame; `laps` holds milliseconds by stage, in their order."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage ends now; it began when the one before it ended."""
        now = time.perf_counter()
        self.laps[stage] = (now - self._last) * 1e3
        self._last = now


class Segmented(NamedTuple):
    """What a path gives for a picture.

    Attributes:
        labels: uint8 [H, W]: 0 background, 1 crop, 2 weed.
        confidence: uint8 [H, W]: probability of the label, 0 to 255 for 0 to 1.
        fault: why neither may be used; empty when they may.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    fault: str


class FramePath(Protocol):
    """From a checked picture to labels and confidence, on the CPU or on the GPU.

    One path belongs to one thread at a time.
    """

    @property
    def engine(self) -> EngineLabel:
        """The engine that runs the network."""
        ...

    def segment(self, image: NDArray[np.uint8], watch: Watch) -> Segmented:
        """Segment one picture; the stages preprocess, engine, fade and decode go on the watch.

        Args:
            image: uint8 [H, W, 3], BGR.
            watch: takes the stages' times.

        Raises:
            EngineError: the engine failed.
        """
        ...

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities float32 [3, h, w] on the network's grid. Raises EngineError."""
        ...

    def close(self) -> None:
        """Free the engine and all buffers; idempotent."""
        ...
