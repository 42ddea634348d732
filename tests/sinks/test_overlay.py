"""Overlays show crop, weed and unknown, and say when a mask is not to be trusted."""

from collections.abc import Callable

import numpy as np
import pytest

from cropseg_edge.frames import Frame
from cropseg_edge.mask import CropMask, Status
from cropseg_edge.sinks import draw_overlay

Make = Callable[..., tuple[Frame, CropMask]]


def test_background_is_left_as_it_is_and_the_input_untouched(pair: Make) -> None:
    frame, mask = pair()
    before = frame.image.copy()
    overlay = draw_overlay(frame.image, mask.labels, mask)
    assert np.array_equal(frame.image, before)
    assert np.array_equal(overlay[30:], before[30:])


def test_crop_is_green_and_weed_is_magenta(pair: Make) -> None:
    frame, mask = pair()
    overlay = draw_overlay(frame.image, mask.labels).astype(int)
    blue, green, red = overlay[16, 16]
    assert green > max(blue, red) + 30
    blue, green, red = overlay[16, 36]
    assert min(blue, red) > green + 30


def test_unknown_is_hatched_over_the_whole_area(pair: Make) -> None:
    frame, mask = pair(status=Status.INVALID)
    overlay = draw_overlay(frame.image, mask.labels)
    assert (overlay != frame.image).any(axis=2).all()
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) >= 2


@pytest.mark.parametrize("status", [Status.DEGRADED, Status.INVALID])
@pytest.mark.parametrize("size", [(640, 480), (64, 48), (40, 26)])
def test_a_banner_marks_what_is_not_ok(pair: Make, status: Status, size: tuple[int, int]) -> None:
    frame, mask = pair(status=status, reason="the lens is dirty: naïve \u2603 " * 9, size=size)
    plain = draw_overlay(frame.image, mask.labels)
    marked = draw_overlay(frame.image, mask.labels, mask)
    assert marked.shape == plain.shape
    assert (marked[0] != plain[0]).any(axis=1).all()
    assert np.array_equal(marked[-1], plain[-1])


def test_a_read_only_frame_can_be_drawn(pair: Make) -> None:
    frame, mask = pair()
    image = frame.image.copy()
    image.flags.writeable = False
    assert draw_overlay(image, mask.labels).flags.writeable
