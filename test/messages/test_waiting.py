"""One input of the synchroniser: its rhythm, its late messages, its counts."""

from __future__ import annotations

import pytest

from depth_completion_ros.messages.waiting import InputCounts, WaitingInput

MS = 1_000_000
START = 1_700_000_000_000_000_000


def _input(stamps_ms, *, offset=0.0, queue_size=10, arrivals=None) -> WaitingInput:
    source = WaitingInput("image", offset, queue_size, 0.05)
    for index, ms in enumerate(stamps_ms):
        now = ms / 1000 if arrivals is None else arrivals[index]
        message = source.arrive(START + ms * MS, str(ms), now)
        assert message is not None
        source.keep(message)
    return source


def _waiting(source) -> list[str]:
    return [message.item for message in source.waiting]


def test_messages_wait_in_the_order_of_their_stamps():
    assert _waiting(_input([0, 200, 100])) == ["0", "100", "200"]


def test_near_is_inclusive_on_both_sides():
    source = _input([0, 100, 200, 300])
    near = source.near(START + 200 * MS, 100 * MS)
    assert [message.item for message in near] == ["100", "200", "300"]
    assert source.near(START + 250 * MS, 49 * MS) == []


def test_the_time_offset_moves_the_stamp_but_not_the_header_stamp():
    (message,) = _input([0], offset=-0.02).waiting
    assert (message.stamp, message.header_stamp) == (START - 20 * MS, START)


def test_the_next_message_is_expected_after_nine_tenths_of_the_median_period():
    source = _input([0, 100, 200, 300, 900])
    newest = START + 900 * MS
    assert not source.can_come_nearer(newest + 40 * MS, 50 * MS)
    assert source.can_come_nearer(newest + 40 * MS, 50 * MS + 1)


def test_before_a_period_is_measured_the_first_period_stands_in():
    source = _input([0])
    assert not source.can_come_nearer(START + 25 * MS, 25 * MS)
    assert source.can_come_nearer(START + 26 * MS, 26 * MS)
    assert _input([]).can_come_nearer(START, 0)


def test_patience_is_one_and_a_half_periods_of_arrival():
    assert _input([0, 100]).patience() == pytest.approx(0.15)
    assert _input([0, 100, 200], arrivals=[0, 0.2, 0.4]).patience() == pytest.approx(0.3)
    assert _input([0]).patience() == 0.2


@pytest.mark.parametrize(
    ("stamp_ms", "is_jump"),
    [(1000, False), (999, False), (500, False), (499, True), (2000, False)],
)
def test_half_a_second_back_is_a_jump(stamp_ms, is_jump):
    source = _input([0, 1000])
    assert source.jumps_back(START + stamp_ms * MS) is is_jump


def test_three_late_messages_in_a_row_are_a_jump():
    source = _input([0, 100, 200, 300])
    assert [source.jumps_back(START + ms * MS) for ms in (0, 100, 200)] == [False, False, True]


def test_late_messages_with_new_ones_between_them_are_no_jump():
    source = _input([0, 100])
    for ms in (200, 150, 300, 250, 400, 350):
        assert not source.jumps_back(START + ms * MS)
        source.remember(START + ms * MS)


def test_forgetting_what_is_newer_keeps_the_rest():
    source = _input([0, 100, 200])
    assert source.forget(after=START + 100 * MS) == 1
    assert _waiting(source) == ["0", "100"]
    assert source.newest == START + 200 * MS
    assert source.forget() == 2
    assert source.newest is None
    assert source.counts() == InputCounts(3, 0, 3, 0, 0)


def test_a_message_that_was_used_is_not_counted_as_unmatched():
    source = _input([0])
    source.waiting[0].is_matched = True
    assert source.drop(source.waiting[0]) == 0
    assert source.counts().unmatched == 0


def test_excess_is_the_oldest():
    source = _input([300, 100, 200], queue_size=2)
    assert [message.item for message in source.excess()] == ["100"]


def test_lead_is_the_stamp_against_the_steady_clock():
    assert _input([0, 100]).lead() == START
    assert _input([]).lead() is None


def test_a_zero_stamp_is_counted_and_refused():
    source = _input([])
    assert source.arrive(0, "item", 1.0) is None
    assert source.counts() == InputCounts(1, 0, 1, 1, 0)
    assert source.bad_run == 1
