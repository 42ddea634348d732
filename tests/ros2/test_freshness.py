"""When a stream is stale and when it is trusted again, on a clock that the test moves."""

import pytest

from cropseg_ros.freshness import Freshness
from cropseg_ros.mailbox import Mailbox


def test_no_image_at_all_is_stale_after_max_age() -> None:
    freshness = Freshness(0.2, now=10.0)
    assert freshness.seconds_left(10.1) == pytest.approx(0.1)
    assert freshness.seconds_left(10.2) <= 0
    assert "no image" in freshness.reason(10.2)


def test_first_mask_is_trusted_at_once() -> None:
    freshness = Freshness(0.2, now=0.0)
    assert freshness.seconds_left(5.0) < 0
    assert freshness.valid(5.0) == 0
    assert freshness.seconds_left(5.1) > 0


@pytest.mark.parametrize(("period", "limit"), [(0.01, 0.2), (0.1, 0.3), (0.5, 1.5)])
def test_limit_is_max_age_or_three_periods(period: float, limit: float) -> None:
    freshness = Freshness(0.2, now=0.0)
    for index in range(20):
        freshness.arrived(index * period)
    assert freshness.limit_s() == pytest.approx(limit)


def test_one_long_gap_does_not_raise_the_limit() -> None:
    freshness = Freshness(0.2, now=0.0)
    for now in (0.0, 0.05, 0.1, 0.15, 10.0, 10.05):
        freshness.arrived(now)
    assert freshness.limit_s() == pytest.approx(0.2)


def test_an_early_gap_does_not_raise_the_limit() -> None:
    freshness = Freshness(0.2, now=0.0)
    for now in (0.0, 10.0, 20.0):
        freshness.arrived(now)
        assert freshness.limit_s() == pytest.approx(0.2)


def test_images_without_a_valid_mask_from_the_start_need_three_valid_ones() -> None:
    freshness = Freshness(0.2, now=0.0)
    for now in (5.0, 5.1, 5.2, 5.3):
        freshness.arrived(now)
    assert [freshness.valid(now) for now in (5.3, 5.4, 5.5)] == [2, 1, 0]


def test_a_gap_while_the_stream_recovers_starts_the_recovery_anew() -> None:
    freshness = Freshness(0.2, now=0.0)
    freshness.arrived(0.0)
    assert [freshness.valid(now) for now in (0.0, 1.0, 1.1)] == [0, 2, 1]
    assert [freshness.valid(now) for now in (2.0, 2.1, 2.2)] == [2, 1, 0]


def test_a_stale_stream_recovers_with_the_third_valid_mask_in_a_row() -> None:
    freshness = Freshness(0.2, now=0.0)
    freshness.arrived(0.0)
    assert freshness.valid(0.0) == 0
    assert freshness.seconds_left(1.0) < 0
    assert freshness.valid(1.1) == 2
    freshness.invalid()
    assert [freshness.valid(1.2), freshness.valid(1.3), freshness.valid(1.4)] == [2, 1, 0]
    assert freshness.seconds_left(1.5) > 0


def test_mailbox_keeps_the_latest_and_counts_what_it_replaced() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for item in (1, 2, 3):
        mailbox.put(item)
    assert mailbox.take() == 3
    assert mailbox.dropped == 2
    mailbox.close()
    assert mailbox.take() is None
