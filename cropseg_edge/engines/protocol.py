"""What an engine is: the network's input goes in, the inputs of the FADE stage come out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the network of a bundle. One engine belongs to one thread at a time.

    Attributes:
        name: "onnxruntime" or "tensorrt".
        precision: "fp32", "fp16" or "int8".
    """

    name: str
    precision: str

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
