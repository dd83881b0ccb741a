from __future__ import annotations

import struct
import threading

import pytest

from depth_completion_ros.node.playback import (
    Moment,
    Prefetcher,
    StampMapper,
    Timeline,
    chosen_range,
)
from depth_completion_ros.settings import PlayerSettings


class Hand:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_time_runs_at_the_chosen_rate_and_a_change_makes_no_jump():
    clock = Hand()
    timeline = Timeline(rate=2.0, clock=clock)
    timeline.start(5_000_000_000)
    clock.seconds += 1.0
    assert timeline.now() == 7_000_000_000
    timeline.set_rate(0.5)
    assert timeline.now() == 7_000_000_000
    clock.seconds += 1.0
    assert timeline.now() == 7_500_000_000


def test_a_pause_takes_no_time_of_the_recording():
    clock = Hand()
    timeline = Timeline(clock=clock)
    timeline.start(0)
    clock.seconds += 1.0
    timeline.pause(True)
    clock.seconds += 50.0
    assert timeline.now() == 1_000_000_000
    timeline.pause(False)
    clock.seconds += 1.0
    assert timeline.now() == 2_000_000_000


def test_a_step_lets_one_frame_through_and_time_stops_there():
    timeline = Timeline(clock=Hand())
    timeline.pause(True)
    timeline.start(0)
    timeline.step()
    assert timeline.wait_until(3_000_000_000)
    timeline.end_step()
    assert timeline.now() == 3_000_000_000
    waiting = threading.Thread(target=timeline.wait_until, args=(4_000_000_000,))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    timeline.stop()
    waiting.join(5)
    assert not waiting.is_alive()
    assert not timeline.wait_until(0)


def test_stamps_continue_over_loops():
    stamps = StampMapper("continued")
    assert stamps.offset(10) == 0
    stamps.begin_loop(first_ns=10, last_ns=90, period_ns=20)
    assert stamps.due(10) == 110
    assert 10 + stamps.offset(10) == 110
    assert stamps.clock(110) == 110


def test_recorded_stamps_start_again_with_every_loop_and_so_does_the_clock():
    stamps = StampMapper("recorded")
    stamps.begin_loop(first_ns=10, last_ns=90, period_ns=20)
    assert stamps.offset(10) == 0
    assert stamps.due(10) == 110
    assert stamps.clock(110) == 10


def test_stamps_of_now_ignore_the_recording():
    stamps = StampMapper("now", now_ns=lambda: 5000)
    assert 70 + stamps.offset(70) == 5000
    assert stamps.clock(70) == 5000


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, -1, range(10)), (3, 5, range(3, 5)), (0, 99, range(10)), (12, -1, range(10, 10))],
)
def test_start_and_end_choose_frames(start, end, expected):
    assert chosen_range(10, PlayerSettings(start=start, end=end)) == expected


def test_moments_come_in_order_and_a_reader_that_is_stopped_ends():
    prefetcher = Prefetcher(lambda: (Moment(i) for i in range(5)))
    assert [moment.time_ns for moment in prefetcher] == [0, 1, 2, 3, 4]
    endless = Prefetcher(lambda: (Moment(i) for i in range(10**9)))
    assert next(iter(endless)).time_ns == 0
    endless.stop()


def test_a_defect_while_reading_is_no_end():
    def moments():
        yield Moment(0)
        msg = "list index out of range"
        raise IndexError(msg)

    played = iter(Prefetcher(moments))
    assert next(played).time_ns == 0
    with pytest.raises(IndexError, match="out of range"):
        next(played)


def test_the_stamp_of_a_serialised_message_is_moved_and_nothing_else():
    move_stamp = pytest.importorskip("depth_completion_ros.node.bag_replay").move_stamp
    for flag, order in ((1, "<"), (0, ">")):
        data = bytes((0, flag, 0, 0)) + struct.pack(f"{order}iI", 7, 999_999_999) + b"rest"
        moved = move_stamp(data, 2)
        assert moved[:4] == data[:4]
        assert struct.unpack_from(f"{order}iI", moved, 4) == (8, 1)
        assert moved[12:] == b"rest"
        assert move_stamp(data, -8_000_000_000) == data
