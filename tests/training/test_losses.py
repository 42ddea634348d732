"""Labels that leave classes open: what they cost and what they leave alone."""

import math

import numpy as np
import pytest
import torch

from training.data.labels import loosened
from training.losses import partial_cross_entropy, set_dice

BACKGROUND, CROP, WEED = 1, 2, 4


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (CROP, -math.log(0.5)),
        (BACKGROUND | WEED, -math.log(0.5)),
        (CROP | WEED, -math.log(0.7)),
        (BACKGROUND | CROP | WEED, 0.0),
        (0, 0.0),
    ],
)
def test_a_pixel_costs_the_log_of_its_sets_probability(sets, expected):
    logits = torch.tensor([0.3, 0.5, 0.2]).log().view(1, 3, 1, 1)
    loss = partial_cross_entropy(logits, torch.full((1, 1, 1), sets, dtype=torch.uint8))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_unknown_pixels_get_no_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    sets = torch.tensor([[[0, CROP], [0, WEED]]], dtype=torch.uint8)
    (partial_cross_entropy(logits, sets) + set_dice(logits, sets)).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[..., 0].abs().max() == 0
    assert logits.grad[..., 1].abs().min() > 0


def test_open_labels_do_not_pull_between_their_classes():
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    sets = torch.full((1, 1, 1), BACKGROUND | WEED, dtype=torch.uint8)
    partial_cross_entropy(logits, sets).backward()
    background, crop, weed = logits.grad.flatten().tolist()
    assert background == weed < 0 < crop


def test_a_crop_weight_moves_plants_to_crop_and_leaves_the_background_alone():
    # two of five plants are crop; counted twice, they are four of seven
    sets = torch.tensor([[[CROP] * 2 + [WEED] * 3 + [BACKGROUND] * 5]], dtype=torch.uint8)
    best = torch.tensor([0.5, 0.5 * 4 / 7, 0.5 * 3 / 7]).log().view(1, 3, 1, 1).requires_grad_()
    partial_cross_entropy(best.expand(1, 3, 1, 10), sets, crop_weight=2.0).backward()
    torch.testing.assert_close(best.grad, torch.zeros_like(best), atol=1e-6, rtol=0)


def test_a_perfect_prediction_has_almost_no_dice_loss():
    sets = torch.tensor([[[BACKGROUND, CROP], [WEED, CROP]]], dtype=torch.uint8)
    perfect = torch.stack([(sets == bit).float() for bit in (BACKGROUND, CROP, WEED)], 1) * 40
    assert set_dice(perfect, sets).item() < 1e-3
    assert set_dice(-perfect, sets).item() > 0.4


def test_loose_outlines_say_nothing_near_them():
    sets = np.full((9, 9), BACKGROUND, np.uint8)
    sets[3:, :] = CROP
    found = loosened(sets, 1)
    assert (found[2:4] == 0).all()
    assert (found[:2] == BACKGROUND).all()
    assert (found[4:] == CROP).all()
