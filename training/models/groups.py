"""A network in, the optimiser's parameter groups out: weight decay and layer-wise learning rates.

Layer-wise decay: Bao et al.: "BEiT", ICLR 2022, in the form of ViT-Adapter (Chen et al., 2023).
"""

import re
from typing import Any

from torch import nn

EMBEDDINGS = ("pos_embed", "prefix", "level_embed", "bias.table", "bias.cls")


def layer_of(name: str, depth: int) -> int:
    """0 for the trunk's embeddings, k + 1 for its block k, depth + 1 for everything else."""
    if block := re.match(r"backbone\.vit\.blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    return 0 if name.startswith("backbone.vit.") else depth + 1


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for AdamW: `params`, `weight_decay`, `lr` and `lr_scale`, which a schedule keeps.

    Biases, norms and other vectors, and the embeddings, are not decayed. Layer i of the trunk's
    `depth` blocks learns at `lr * layer_decay ** (depth + 1 - i)`; adapter and decoder at `lr`.

    Args:
        model: a `CropSegmenter`.
        layer_decay: in (0, 1]; at 1 there are two groups, the decayed and the others.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    blocks = (re.match(r"backbone\.vit\.blocks\.\d+", name) for name, _ in model.named_parameters())
    depth = len({match[0] for match in blocks if match})
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for decayed in (True, False):
        for name, parameter in parameters.items():
            if decayed == (parameter.dim() <= 1 or name.endswith(EMBEDDINGS)):
                continue
            scale = layer_decay ** (depth + 1 - layer_of(name, depth))
            group = {
                "params": [],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr": lr * scale,
                "lr_scale": scale,
            }
            groups.setdefault((scale, decayed), group)["params"].append(parameter)
    return list(groups.values())
