"""What a user reads when nothing matches: every reason produced on purpose, every line whole."""

from __future__ import annotations

import pytest

from depth_completion_ros.messages.silence import nearest_offsets
from depth_completion_ros.messages.synchroniser import Synchroniser
from depth_completion_ros.settings import SyncSettings

MS = 1_000_000
START = 1_700_000_000_000_000_000


def _silence(image_stamps, points_stamps, *, seconds=5.0, **settings) -> str | None:
    """Play both inputs over `seconds` and ask for the reason."""
    now = [0.0]
    synchroniser = Synchroniser(SyncSettings(**settings), clock=lambda: now[0])
    events = [
        (i * seconds / len(stamps), add, stamp)
        for stamps, add in (
            (image_stamps, synchroniser.add_image),
            (points_stamps, synchroniser.add_points),
        )
        for i, stamp in enumerate(stamps)
    ]
    for at, add, stamp in sorted(events, key=lambda event: event[0]):
        now[0] = at
        assert add(stamp, None) == []
    now[0] = seconds
    return synchroniser.explain()


def _stamps(offset_ms=0.0, *, start=START, count=50, period_ms=100.0) -> list[int]:
    return [start + round((offset_ms + i * period_ms) * MS) for i in range(count)]


def test_nothing_is_said_while_pairs_come():
    now = [0.0]
    synchroniser = Synchroniser(clock=lambda: now[0])
    assert synchroniser.explain(2.9) is None
    assert synchroniser.explain(3.0) is not None
    synchroniser.add_image(START, None)
    synchroniser.add_points(START, None)
    assert synchroniser.explain(2.9) is None
    assert synchroniser.silent_inputs(2.9) == ()
    assert synchroniser.silent_inputs(3.0) == ("image", "points")


def test_a_topic_that_never_spoke_is_named():
    assert _silence(_stamps(), []) == ("points: nothing received for 5.0 s; is its topic right?")
    assert _silence([], []) == (
        "image: nothing received for 5.0 s; is its topic right?; "
        "points: nothing received for 5.0 s; is its topic right?"
    )


def test_a_topic_that_fell_silent_is_named():
    now = [0.0]
    synchroniser = Synchroniser(clock=lambda: now[0])
    for i in range(100):
        now[0] = 0.1 * i
        synchroniser.add_image(START + i * 100 * MS, None)
        if i < 20:
            synchroniser.add_points(START + i * 100 * MS, None)
    assert synchroniser.explain() == (
        "points: nothing received for 8.0 s after 20 messages; did its publisher stop?"
    )
    assert synchroniser.silent_inputs() == ("points",)


def test_zero_stamps_are_named():
    assert _silence(_stamps(), [0] * 30) == (
        "points: the last 30 stamps are zero or negative, expected the time of acquisition; "
        "make the driver fill header.stamp"
    )


def test_a_stamp_that_stands_still_is_named():
    assert _silence([START] * 40, _stamps(200.0)) == (
        "image: the last 39 stamps came before, expected a new one with each message; "
        "does the driver set header.stamp once, or do two publishers send it?"
    )


def test_stamps_that_keep_running_backwards_are_named():
    mixed = [stamp for i in range(20) for stamp in (START + i * MS, START + 10**12 + i * MS)]
    assert _silence(mixed, _stamps(30_000.0)) == (
        "stamps ran backwards 19 times in 5.0 s, expected a common direction; "
        "do two players or drivers publish on one topic?"
    )


def test_wall_time_against_time_since_a_start_is_named():
    assert _silence(_stamps(), _stamps(start=1234 * 10**9)) == (
        "points are stamped 1699998766 s before images: image has wall time, points time since "
        "a start; expected one clock; set the timestamp mode of the points driver to system or "
        "PTP time"
    )


@pytest.mark.parametrize(("seconds", "name"), [(37, "TAI"), (18, "GPS time")])
def test_leap_seconds_are_recognised(seconds, name):
    assert _silence(_stamps(), _stamps(seconds * 1000.0)) == (
        f"points are stamped {seconds}.000 s after images: expected one clock; synchronise the "
        f"sensors' clocks (PTP, NTP); {seconds} s is {name} against UTC, set the UTC offset of PTP"
    )


def test_another_clock_is_named():
    assert _silence(_stamps(100_000.0), _stamps()) == (
        "points are stamped 100.000 s before images: expected one clock; synchronise the "
        "sensors' clocks (PTP, NTP)"
    )


def test_an_offset_is_measured_and_the_number_to_enter_is_given():
    slow = {"period_ms": 500.0, "count": 10}
    assert _silence(_stamps(**slow), _stamps(120, **slow)) == (
        "points are stamped 120 ms after the nearest image, sync.slop is 50 ms; if both were "
        "taken at one time, set sync.points_time_offset to -0.120, else raise sync.slop"
    )
    assert _silence(_stamps(**slow), _stamps(120, **slow), points_time_offset=0.02) == (
        "points are stamped 140 ms after the nearest image, sync.slop is 50 ms; if both were "
        "taken at one time, set sync.points_time_offset to -0.120, else raise sync.slop"
    )


def test_the_number_given_makes_the_stamps_match():
    slow = {"period_ms": 500.0, "count": 10}
    with pytest.raises(AssertionError):  # the helper expects no pairs
        _silence(_stamps(**slow), _stamps(120, **slow), points_time_offset=-0.12)


def test_an_offset_of_seconds_is_measured_by_arrival():
    assert _silence(_stamps(), _stamps(-2530.0)) == (
        "points are stamped 2.530 s before the nearest image, sync.slop is 50 ms; if both were "
        "taken at one time, set sync.points_time_offset to 2.530, else raise sync.slop"
    )


def test_stamps_at_varying_distances_ask_for_more_slop():
    images = _stamps(count=5, period_ms=1000.0)
    points = [images[i] + offset * MS for i, offset in enumerate((100, 450, -120, 300, -400))]
    assert _silence(images, points, slop=0.01) == (
        "points are stamped 100 ms after the nearest image, sync.slop is 10 ms and the distance "
        "varies; raise sync.slop or the rate of the image"
    )


def test_exact_points_to_approximate():
    assert _silence(_stamps(), _stamps(3.0), policy="exact") == (
        "points are stamped 3 ms after the nearest image, expected equal stamps; set sync.policy "
        "to approximate"
    )


def test_latest_names_its_timeout():
    slow = {"period_ms": 1000.0, "count": 5}
    assert _silence(_stamps(400, **slow), _stamps(**slow), policy="latest", timeout=0.1) == (
        "points are stamped 400 ms before the nearest image, sync.timeout is 100 ms; if both were "
        "taken at one time, set sync.points_time_offset to 0.400, else raise sync.timeout"
    )


def test_messages_that_match_but_arrive_too_far_apart_ask_for_a_longer_queue():
    now = [0.0]
    synchroniser = Synchroniser(SyncSettings(queue_size=5), clock=lambda: now[0])
    for i in range(60):
        now[0] = 0.1 * i
        pairs = synchroniser.add_image(START + i * 100 * MS, None)
        if i >= 8:
            pairs += synchroniser.add_points(START + (i - 8) * 100 * MS, None)
        assert pairs == []
    assert synchroniser.explain() == (
        "points are stamped 0 ms from the nearest image, which matches, but they arrive 0.80 s "
        "apart; raise sync.queue_size (now 5)"
    )


def test_nearest_offsets_are_cloud_minus_image():
    assert nearest_offsets([0, 100, 200], [110, -5, 260]) == [10, -5, 60]
    assert nearest_offsets([], [1]) == []
