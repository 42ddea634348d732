"""Losses for labels that are sets of classes: what is left open costs nothing."""

import torch
from torch import Tensor


def members(sets: Tensor, classes: int) -> Tensor:
    """Bits to booleans: uint8 [B, H, W] to bool [B, classes, H, W]."""
    bits = torch.arange(classes, device=sets.device, dtype=sets.dtype).view(1, -1, 1, 1)
    return (sets[:, None] >> bits) & 1 == 1


def partial_cross_entropy(logits: Tensor, sets: Tensor, crop_weight: float = 1.0) -> Tensor:
    """Mean of -log(sum of the probabilities of the classes in the set), over known pixels.

    Args:
        logits: [B, C, H, W].
        sets: uint8 [B, H, W], one bit a class; 0 is unknown and ignored.
        crop_weight: how much worse it is to call crop weed than weed crop; of -log P(crop), the
            part -log P(crop | plant) counts so often. What is a plant stays as it is.
    """
    known = sets > 0
    allowed = members(sets, logits.shape[1]) | ~known[:, None]
    inside = logits.masked_fill(~allowed, -torch.inf).logsumexp(1)
    loss = logits.logsumexp(1) - inside
    if crop_weight != 1:
        of_plants = logits[:, 1:].logsumexp(1) - logits[:, 1]
        loss = loss + (crop_weight - 1) * of_plants * (sets == 2)
    return loss.sum() / known.sum().clamp(min=1)


def dice(probability: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice of one class over the batch; 0 if the class can nowhere be decided."""
    p, t = probability * known, target & known
    overlap = 2 * (p * t).sum() + 1
    return torch.where(known.any(), 1 - overlap / (p.sum() + t.sum() + 1), 0.0)


def set_dice(logits: Tensor, sets: Tensor) -> Tensor:
    """Mean soft Dice loss of vegetation and crop, each over the pixels whose set decides it."""
    p = logits.softmax(1)
    known = sets > 0
    plant, not_background = p[:, 1] + p[:, 2], known & (sets & 1 == 0)
    vegetation = dice(plant, not_background, not_background | (sets == 1))
    crop = dice(p[:, 1], sets == 2, known & ((sets == 2) | (sets & 2 == 0)))
    return (vegetation + crop) / 2
