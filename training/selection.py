"""Which of a teacher's predictions become labels: confident by class, the rest is left unknown.

A label is a set of classes as bits (1 background, 2 crop, 4 weed; 0 unknown), so a teacher that
knows a plant but not which gives 6. Thresholds are balanced between the classes as in Zou et al.:
Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training (ECCV
2018): of every class the same share of its predictions is kept, so that a rare class which is
never as sure as soil does not die out. They move slowly from batch to batch.
"""

import torch
from torch import Tensor

BACKGROUND, CROP, WEED, VEGETATION = 1, 2, 4, 6
READINGS = {"background": BACKGROUND, "crop": CROP, "weed": WEED, "vegetation": VEGETATION}


def readings(probability: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where each of `READINGS` is what the robot would decode, and how sure it is.

    Args:
        probability: [B, 3, H, W], of background, crop and weed; sums to 1.

    Returns:
        For each reading, bool [B, H, W] and its probability [B, H, W]. A plant pixel has two
        readings: crop or weed, and vegetation, whose probability is the sum of both.
    """
    background, crop, weed = probability.unbind(1)
    plant, rather_crop = background <= 0.5, crop >= weed
    return [
        (~plant, background),
        (plant & rather_crop, crop),
        (plant & ~rather_crop, weed),
        (plant, crop + weed),
    ]


def pseudo_labels(probability: Tensor, thresholds: Tensor, *, open_plants: bool = False) -> Tensor:
    """Class sets uint8 [B, H, W] of the predictions that reach their threshold; 0 elsewhere.

    A plant that is not surely crop or weed, but surely one of them, becomes `VEGETATION`.

    Args:
        probability: [B, 3, H, W].
        thresholds: [4], in the order of `READINGS`.
        open_plants: leave crop or weed open everywhere, for a teacher that was never told.
    """
    background, crop, weed, vegetation = [
        where & (sure >= threshold)
        for (where, sure), threshold in zip(readings(probability), thresholds, strict=True)
    ]
    sets = background * BACKGROUND + vegetation * VEGETATION
    if not open_plants:
        sets = torch.where(crop, CROP, torch.where(weed, WEED, sets))
    return sets.to(torch.uint8)


def veto(sets: Tensor, ground: Tensor) -> Tensor:
    """The sets without vegetation where depth says bare ground (bool [B, H, W]).

    A pixel that the teacher calls a plant is unknown there, not background: depth is sure that
    nothing stands there, not that no flat leaf lies there.
    """
    return torch.where(ground, sets & BACKGROUND, sets)


def balanced_thresholds(probability: Tensor, keep: float) -> Tensor:
    """The threshold of each reading that keeps the share `keep` of its pixels; NaN without any.

    Args:
        probability: [B, 3, H, W].

    Returns:
        float32 [4], in the order of `READINGS`.
    """
    quantiles = []
    for where, sure in readings(probability):
        values = sure[where]
        dropped = int((1 - keep) * (len(values) - 1))
        quantiles.append(
            values.kthvalue(dropped + 1).values if len(values) else sure.new_tensor(torch.nan)
        )
    return torch.stack(quantiles).float()


def move_thresholds(
    thresholds: Tensor, target: Tensor, momentum: float, bounds: tuple[float, float]
) -> Tensor:
    """`thresholds` a step of 1 - `momentum` towards `target`, within `bounds`; NaN moves none."""
    moved = thresholds.lerp(target, 1 - momentum)
    return torch.where(target.isnan(), thresholds, moved).clamp(*bounds)
