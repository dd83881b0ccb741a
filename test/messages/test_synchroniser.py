"""Matching by stamp: exact stamps, exact counts, a clock the test holds in its hand."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from depth_completion_ros.messages.synchroniser import Pair, Synchroniser
from depth_completion_ros.settings import SyncSettings

MS = 1_000_000
START = 1_700_000_000_000_000_000


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


class Rig:
    """A synchroniser, its clock, and the pairs it gave as milliseconds after START."""

    def __init__(self, **settings: object) -> None:
        self.clock = Clock()
        self.synchroniser = Synchroniser(SyncSettings(**settings), clock=self.clock)
        self.pairs: list[tuple[float, float]] = []

    def image(self, ms: float, at: float | None = None) -> list[tuple[float, float]]:
        return self._add(self.synchroniser.add_image, ms, at)

    def points(self, ms: float, at: float | None = None) -> list[tuple[float, float]]:
        return self._add(self.synchroniser.add_points, ms, at)

    def poll(self, at: float) -> list[tuple[float, float]]:
        self.clock.seconds = 100 + at / 1000
        return self._took(self.synchroniser.poll())

    def flush(self) -> list[tuple[float, float]]:
        return self._took(self.synchroniser.flush())

    def play(self, images: list[float], points: list[float], points_delay: float = 0.0) -> None:
        """Let messages arrive at the time of their stamps, clouds later by `points_delay` ms."""
        events = [(ms, self.image, ms) for ms in images]
        events += [(ms + points_delay, self.points, ms) for ms in points]
        for at, add, ms in sorted(events, key=lambda event: event[0]):
            add(ms, at)

    def _add(self, add, ms: float, at: float | None) -> list[tuple[float, float]]:
        self.clock.seconds = 100 + (ms if at is None else at) / 1000
        return self._took(add(START + round(ms * MS), f"{ms}"))

    def _took(self, pairs: list[Pair]) -> list[tuple[float, float]]:
        took = [((p.image_stamp - START) / MS, (p.points_stamp - START) / MS) for p in pairs]
        self.pairs += took
        return took


def test_exact_matches_equal_stamps_only():
    rig = Rig(policy="exact")
    assert rig.image(0) == []
    assert rig.points(0) == [(0, 0)]
    assert rig.points(100) == []
    assert rig.image(100.000001) == []
    assert rig.image(100) == [(100, 100)]


def test_a_pair_hands_back_what_was_given_and_the_offset():
    synchroniser = Synchroniser(SyncSettings(points_time_offset=-0.12))
    image, cloud = object(), object()
    assert synchroniser.add_image(START, image) == []
    (pair,) = synchroniser.add_points(START + 120 * MS, cloud)
    assert pair.image is image
    assert pair.points is cloud
    assert (pair.image_stamp, pair.points_stamp, pair.offset) == (START, START + 120 * MS, 0.0)


def test_slop_is_inclusive():
    rig = Rig(slop=0.05)
    rig.image(0)
    rig.points(50)
    assert rig.flush() == [(0, 50)]
    rig = Rig(slop=0.05)
    rig.image(0)
    rig.points(50.000001)
    assert rig.flush() == []


def test_the_nearest_of_the_images_on_both_sides_wins():
    rig = Rig()
    rig.image(0)
    rig.image(33)
    assert rig.points(20) == [(33, 20)]


def test_a_close_first_pair_comes_at_once():
    rig = Rig(slop=0.05)
    rig.image(0)
    assert rig.points(25) == [(0, 25)]


def test_a_poor_first_pair_waits_for_a_nearer_image():
    rig = Rig(slop=0.05)
    rig.image(0)
    assert rig.points(26) == []
    assert rig.image(33) == [(33, 26)]


def test_a_pair_comes_at_once_when_the_next_image_is_not_due_before():
    rig = Rig()
    rig.play([0, 33, 67, 100, 133, 167], [0, 100])
    assert rig.image(200, at=205) == []
    assert rig.points(205, at=215) == [(200, 205)]


def test_an_image_that_is_due_is_awaited():
    rig = Rig()
    rig.play([0, 33, 67, 100, 133, 167, 200], [0, 100])
    assert rig.points(220, at=221) == []
    assert rig.image(233) == [(233, 220)]


def test_poll_gives_up_on_an_image_that_does_not_come():
    rig = Rig()
    rig.play([0, 33, 67, 100, 133, 167, 200], [0, 100])
    assert rig.points(220, at=221) == []
    assert rig.poll(at=265) == []
    assert rig.poll(at=272) == [(200, 220)]


def test_without_poll_only_the_stamps_decide():
    rig = Rig()
    for ms in (0, 33, 67, 100, 133, 167, 200):
        rig.image(ms, at=0)  # a bag is read faster than it was recorded
    rig.points(0, at=0.2)
    rig.points(100, at=0.2)
    assert rig.points(220, at=0.3) == []
    assert rig.image(233, at=50) == [(233, 220)]


def test_a_poor_first_pair_is_given_after_a_fifth_of_a_second():
    rig = Rig()
    rig.image(0)
    assert rig.points(30) == []
    assert rig.poll(at=229) == []
    assert rig.poll(at=231) == [(0, 30)]


def test_images_at_30_hz_and_clouds_at_10_hz():
    rig = Rig()
    images = [round(i * 100 / 3, 3) for i in range(300)]
    clouds = [i * 100.0 + 7 for i in range(100)]
    rig.play(images, clouds, points_delay=12)
    rig.flush()
    assert rig.pairs == [(i * 100.0, i * 100.0 + 7) for i in range(100)]
    counts = rig.synchroniser.counts()
    assert counts.points.matched == counts.points.received == 100
    assert (counts.image.matched, counts.image.received) == (100, 300)
    assert counts.drops == {"unsynchronised": 0, "bad_stamp": 0, "time_jump": 0}
    assert counts.median_offset == pytest.approx(0.007)


def test_clouds_faster_than_images_give_one_output_per_image_with_the_nearest_cloud():
    rig = Rig()
    images = [i * 100.0 for i in range(50)]
    clouds = [round(i * 100 / 3 + 2, 3) for i in range(150)]
    rig.play(images, clouds, points_delay=5)
    rig.flush()
    assert rig.pairs == [(i * 100.0, i * 100.0 + 2) for i in range(50)]


def test_equal_rates_out_of_phase_all_match():
    rig = Rig()
    rig.play([i * 100.0 for i in range(50)], [i * 100.0 + 43 for i in range(50)], points_delay=9)
    rig.flush()
    assert rig.pairs == [(i * 100.0, i * 100.0 + 43) for i in range(50)]


def test_a_cloud_that_arrives_long_after_its_image_finds_it():
    rig = Rig()
    images = [round(i * 100 / 3, 3) for i in range(90)]
    rig.play(images, [i * 100.0 for i in range(30)], points_delay=150)
    rig.flush()
    assert rig.pairs == [(i * 100.0, i * 100.0) for i in range(30)]


def test_clouds_without_an_image_in_a_gap_are_counted():
    rig = Rig(queue_size=5)
    rig.play(
        [i * 50.0 for i in range(100) if not 20 <= i < 40], [i * 100.0 + 1 for i in range(50)]
    )
    rig.flush()
    assert len(rig.pairs) == 40
    counts = rig.synchroniser.counts()
    assert counts.points.matched == 40
    assert counts.points.unmatched == counts.drops["unsynchronised"]
    assert counts.points.unmatched + len(rig.synchroniser.points.waiting) == 10


def test_images_out_of_order_still_match():
    rig = Rig()
    rig.points(100)
    rig.image(0)
    rig.image(200)
    assert rig.image(100) == [(100, 100)]
    assert rig.synchroniser.counts().time_jumps == 0


def test_a_repeated_stamp_is_ignored_and_counted():
    rig = Rig()
    rig.image(0)
    assert rig.points(0) == [(0, 0)]
    assert rig.image(0) == []
    assert rig.points(0) == []
    counts = rig.synchroniser.counts()
    assert counts.image.duplicates == counts.points.duplicates == 1
    assert counts.image.unmatched == 1


@pytest.mark.parametrize("stamp", [0, -1])
def test_a_stamp_that_nobody_filled_in_is_dropped_by_name(stamp):
    synchroniser = Synchroniser()
    assert synchroniser.add_image(stamp, "image") == []
    assert synchroniser.add_points(stamp, "points") == []
    counts = synchroniser.counts()
    assert counts.drops == {"unsynchronised": 0, "bad_stamp": 2, "time_jump": 0}
    assert counts.image.bad_stamps == counts.image.unmatched == 1


@pytest.mark.parametrize("frames", [4, 5, 50])
def test_a_looped_bag_goes_on_in_the_second_round(frames):
    rig = Rig()
    for round_ in range(3):
        for i in range(frames):
            rig.image(i * 100.0, at=(round_ * frames + i) * 100)
            rig.points(i * 100.0 + 3, at=(round_ * frames + i) * 100 + 20)
    rig.flush()
    # In a bag shorter than half a second it takes three messages to tell a loop from late ones.
    lost = 2 if frames <= 5 else 0
    assert rig.pairs == [
        (i * 100.0, i * 100.0 + 3) for first in (0, lost, 0) for i in range(first, frames)
    ]
    assert rig.synchroniser.counts().time_jumps == 4


def test_a_loop_costs_late_clouds_one_pair():
    rig = Rig()
    events = []
    for round_, i in itertools.product(range(3), range(20)):
        at = round_ * 2000 + i * 100
        events += [(at, "image", i * 100.0), (at + 130, "points", i * 100.0)]
    for at, kind, ms in sorted(events):
        getattr(rig, kind)(ms, at=at)
    rig.flush()
    counts = rig.synchroniser.counts()
    assert counts.points.matched == 58
    # The last cloud of a round comes after the first image of the next.
    assert counts.drops["time_jump"] == 2 * 2
    assert counts.image.received == counts.image.matched + counts.image.unmatched


def test_one_stamp_from_the_future_does_no_lasting_harm():
    rig = Rig()
    rig.play([i * 100.0 for i in range(5)], [i * 100.0 for i in range(5)])
    rig.image(3_600_000, at=450)
    for i in range(5, 10):
        rig.image(i * 100.0)
        rig.points(i * 100.0)
    assert rig.pairs == [(i * 100.0, i * 100.0) for i in range(10)]
    assert rig.synchroniser.counts().time_jumps == 1


def test_latest_completes_each_image_with_the_newest_cloud():
    rig = Rig(policy="latest", timeout=0.15)
    rig.points(0)
    assert rig.image(10) == [(10, 0)]
    assert rig.image(43) == [(43, 0)]
    rig.points(100)
    assert rig.image(90, at=110) == [(90, 100)]
    assert rig.image(250) == [(250, 100)]
    assert rig.image(250.1) == []
    counts = rig.synchroniser.counts()
    assert counts.drops["unsynchronised"] == 1
    assert (counts.image.matched, counts.image.unmatched) == (4, 1)
    assert (counts.points.matched, counts.points.unmatched) == (2, 0)


def test_latest_counts_clouds_nobody_asked_for():
    rig = Rig(policy="latest")
    for ms in (0, 10, 20, 15):
        rig.points(ms)
    rig.image(30)
    counts = rig.synchroniser.counts()
    assert rig.pairs == [(30, 20)]
    assert (counts.points.matched, counts.points.unmatched) == (1, 3)


def test_latest_survives_a_loop():
    rig = Rig(policy="latest")
    for at, ms in enumerate([0, 1000, 2000, 0, 1000, 2000]):
        rig.points(ms, at=at * 1000)
        rig.image(ms + 10, at=at * 1000 + 10)
    assert rig.pairs == 2 * [(10, 0), (1010, 1000), (2010, 2000)]
    assert rig.synchroniser.counts().points.unmatched == 0


def test_offsets_of_the_settings_shift_the_matching_but_not_the_stamps():
    rig = Rig(policy="exact", image_time_offset=0.03, points_time_offset=-0.1)
    rig.image(0)
    assert rig.points(130) == [(0, 130)]


def test_a_queue_of_one_still_matches():
    rig = Rig(queue_size=1)
    rig.play([i * 33.0 for i in range(60)], [i * 99.0 + 5 for i in range(20)])
    rig.flush()
    assert rig.pairs == [(i * 99.0, i * 99.0 + 5) for i in range(20)]


def test_threads_may_add_at_the_same_time():
    synchroniser = Synchroniser(SyncSettings(queue_size=1000))
    pairs: list[Pair] = []

    def feed(add) -> None:
        for i in range(500):
            pairs.extend(add(START + i * 100 * MS, i))

    threads = [
        threading.Thread(target=feed, args=(add,))
        for add in (synchroniser.add_image, synchroniser.add_points)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs += synchroniser.flush()
    assert sorted(pair.image for pair in pairs) == list(range(500))
    assert all(pair.image == pair.points for pair in pairs)


@given(
    period=st.sampled_from([100.0, 50.0, 100 / 3]),
    cloud_period=st.sampled_from([100.0, 50.0]),
    phase=st.floats(0, 49),
    jitter=st.lists(st.floats(-2, 2), min_size=60, max_size=60),
    lost=st.sets(st.integers(0, 59), max_size=6),
    delay=st.floats(0, 120),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_every_message_is_used_once_and_every_count_adds_up(
    period, cloud_period, phase, jitter, lost, delay
):
    images = [round(i * period + jitter[i], 3) + 10 for i in range(60) if i not in lost]
    clouds = [round(i * cloud_period + phase + jitter[-i], 3) + 10 for i in range(30)]
    rig = Rig(slop=0.04)
    rig.play(images, clouds, points_delay=delay)
    rig.flush()
    assert len({image for image, _ in rig.pairs}) == len(rig.pairs)
    assert len({cloud for _, cloud in rig.pairs}) == len(rig.pairs)
    assert all(abs(image - cloud) <= 40.0001 for image, cloud in rig.pairs)
    counts = rig.synchroniser.counts()
    waiting = rig.synchroniser.images.waiting, rig.synchroniser.points.waiting
    for source, queue in zip((counts.image, counts.points), waiting, strict=True):
        assert source.received == source.matched + source.unmatched + len(queue)
        assert source.matched == len(rig.pairs)
    if period < cloud_period and not lost:
        # With images to choose from, each cloud gets its nearest one, once the period is known.
        for image, cloud in rig.pairs[1:]:
            nearest = min(abs(other - cloud) for other in images)
            assert abs(image - cloud) <= nearest + 4.001
        reach = images[-1]
        assert len(rig.pairs) >= sum(cloud <= reach for cloud in clouds) - 1


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 60), st.floats(0, 0.3)), max_size=80))
@hypothesis_settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("policy", ["exact", "approximate", "latest"])
def test_any_stamps_in_any_order_are_counted(policy, events):
    clock = Clock()
    synchroniser = Synchroniser(SyncSettings(policy=policy, slop=0.1, queue_size=3), clock=clock)
    pairs = []
    for is_image, ticks, wait in events:
        clock.seconds += wait
        add = synchroniser.add_image if is_image else synchroniser.add_points
        pairs += add(ticks * 40 * MS, None)
        pairs += synchroniser.poll()
        assert len(synchroniser.images.waiting) <= 3
        synchroniser.explain(clock.seconds + 10)
    counts = synchroniser.counts()
    assert counts.image.matched == len(pairs)
    for source, queue in (
        (counts.image, synchroniser.images),
        (counts.points, synchroniser.points),
    ):
        left = sum(not message.is_matched for message in queue.waiting)
        assert source.received == source.matched + source.unmatched + left
