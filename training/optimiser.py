"""Parameters and a step number in, AdamW and its learning rate out."""

import math

import torch
from torch import nn

from training.config import OptimiserConfig
from training.models.groups import parameter_groups


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """The rate of step number `step` (from 0) of `steps`: linear warm-up, times the schedule.

    constant-linear: constant, then linear to zero over the last `decay` share of the steps;
    cosine: half a cosine to zero (Loshchilov and Hutter, ICLR 2017, without restarts);
    poly: (1 - step / steps) ^ power (Chen et al., DeepLab, 2018).
    """
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    left = (steps - step) / steps
    if config.schedule == "cosine":
        cool = (1 - math.cos(math.pi * left)) / 2
    elif config.schedule == "poly":
        cool = left**config.power
    else:
        cool = min(1.0, (steps - step) / max(config.decay * steps, 1))
    return config.lr * warm * cool


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group the rate times its own `lr_scale`; a rate that is a tensor stays that one."""
    for group in optimiser.param_groups:
        own = rate * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over `training.models.groups.parameter_groups`; one fused kernel on a GPU."""
    groups = parameter_groups(model, config.lr, config.weight_decay, config.layer_decay)
    return torch.optim.AdamW(groups, lr=config.lr, fused=next(model.parameters()).is_cuda)
