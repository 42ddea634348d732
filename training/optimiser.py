"""Parameters and a step number in, AdamW and its learning rate out."""

import torch
from torch import nn

from training.config import OptimiserConfig


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay` share of the steps."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    cool = min(1.0, (steps - step) / max(config.decay * steps, 1))
    return config.lr * warm * cool


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; no decay on biases, norms and other vectors, nor on the embeddings."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        vector = parameter.dim() <= 1 or name.endswith(("pos_embed", "level_embed"))
        (plain if vector else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)
