"""What a student must share with its teacher: logits, the decoder's map, and FADE's inputs.

The kernels are compared as FADE uses them, as weights of the reassembly window after the softmax;
only the sum of their two maps has a meaning. What has other channels than the teacher's goes
through a 1x1 convolution that is learnt with the student and then thrown away.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.fade import FadeInputs, bilinear_like, fade


class Outputs(NamedTuple):
    """What is compared: logits [B, classes, h, w], and maps by name."""

    logits: Tensor
    maps: dict[str, Tensor]


def outputs(inputs: FadeInputs) -> Outputs:
    """Logits and maps of FADE's inputs: features, kernels, and where there is a gate, guide and
    gate. Features and guide are class logits, which a constant over the classes does not change."""
    inputs = FadeInputs(*(None if part is None else part.float() for part in inputs))
    maps = {
        "features": inputs.features - inputs.features.mean(1, keepdim=True),
        "kernels": inputs.kernels_high + F.interpolate(inputs.kernels_low, scale_factor=2.0),
    }
    if inputs.guide is not None and inputs.gate is not None:
        scores = inputs.guide.unflatten(1, (inputs.features.shape[1], -1))
        maps["guide"] = (scores - scores.mean(1, keepdim=True)).flatten(1, 2)
        maps["gate"] = inputs.gate
    return Outputs(fade(inputs), maps)


class Projections(nn.Module):
    """1x1 convolutions for those of the student's maps whose channels are not the teacher's."""

    def __init__(self, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                name: nn.Conv2d(own.shape[1], teacher[name].shape[1], 1)
                for name, own in student.items()
                if name in teacher and own.shape[1] != teacher[name].shape[1]
            }
        )

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps, as many channels each as the teacher's."""
        return {n: self.layers[n](m) if n in self.layers else m for n, m in maps.items()}


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of softmaxes over the channels, mean over the pixels, times T^2.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015), equation 1 and the
    factor T^2 of section 2. Both [B, C, H, W]; the teacher's are resized where they are not.
    """
    teacher = bilinear_like(teacher, student.shape[-2:])
    own, other = ((x / temperature).log_softmax(1) for x in (student, teacher))
    return F.kl_div(own, other, reduction="none", log_target=True).sum(1).mean() * temperature**2


def mismatch(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    """Mean over the maps that both have: KL of the kernels, KL of the gates as probabilities, and
    for the others the squared error relative to the teacher's spread."""
    losses = []
    for name, own in student.items():
        if name not in teacher:
            continue
        other = teacher[name]
        if name == "kernels":
            losses.append(divergence(own, other))
        elif name == "gate":
            losses.append(divergence(*(F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (own, other))))
        else:
            spread = other.var(dim=(0, 2, 3), unbiased=False).mean()
            losses.append(F.mse_loss(own, other) / (spread + 1e-6))
    return torch.stack(losses).mean()
