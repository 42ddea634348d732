"""A network in PyTorch as the robot would run it: letterbox, forward, softmax, decode."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cropseg_edge.bundle import InputSpec
from cropseg_edge.errors import ConfigError
from cropseg_edge.fade import decode
from cropseg_edge.labelled import Labels
from cropseg_edge.letterbox import Letterbox
from cropseg_edge.mask import CLASSES
from training.data.batches import MEAN, STD

Logits = Callable[[Tensor], Tensor]  # float32 [1, 3, H, W] to [1, C, h, w]


class NetworkSegmenter:
    """BGR uint8 [H, W, 3] in, labels uint8 [H, W] out.

    Args:
        network: called with RGB normalised by ImageNet's mean and deviation.
        frame: width and height that a picture is fitted into; multiples of what it takes.
        classes: our class (0, 1, 2) of each of the network's; None where they are ours.
        logits: how to call the network; None calls it directly.
        device: of PyTorch.
    """

    def __init__(
        self,
        network: nn.Module,
        frame: tuple[int, int],
        *,
        classes: Sequence[int] | None = None,
        logits: Logits | None = None,
        device: str = "cpu",
    ) -> None:
        self.device = torch_device(device)
        self.network = network.to(self.device).eval()
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self._logits = logits or self.network
        self._letterbox = Letterbox(
            InputSpec(
                tensor="image", width=frame[0], height=frame[1], mean=MEAN, std=STD,
                color_order="rgb",
            )
        )  # fmt: skip
        order = range(len(CLASSES)) if classes is None else classes
        self._to_ours = torch.eye(len(CLASSES))[list(order)].T.to(self.device)  # [3, C]

    @torch.inference_mode()
    def probabilities(self, image: Labels) -> NDArray[np.float32]:
        """Class probabilities float32 [3, h, w] on the network's grid, letterbox included."""
        tensor = torch.from_numpy(self._letterbox.fill(image)).to(self.device)
        shares = self._logits(tensor)[0].float().softmax(0)  # [C, h, w]
        ours = torch.einsum("kc,chw->khw", self._to_ours, shares)
        return np.ascontiguousarray(ours.cpu().numpy())

    def __call__(self, image: Labels) -> Labels:
        """Labels of one picture; 255 everywhere if a probability is not finite."""
        height, width = image.shape[:2]
        grid = self.probabilities(image)
        affine = self._letterbox.affine(height, width, grid.shape[1], grid.shape[2])
        return decode(grid, affine, height, width).labels


def fitting(frame: Sequence[int], multiple: int) -> tuple[int, int]:
    """Width and height, rounded up to the multiples that a network takes."""
    width, height = (multiple * -(-int(extent) // multiple) for extent in frame)
    return width, height


def torch_device(name: str) -> torch.device:
    """The device of that name. Raises ConfigError where this PyTorch has none."""
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used ({reason}); use cpu") from error


def weights_key(model: nn.Module) -> str:
    """SHA-256 of a network's weights and buffers with their names."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()
