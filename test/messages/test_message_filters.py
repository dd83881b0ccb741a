"""Our matching beside message_filters' ApproximateTimeSynchronizer, where that can be had.

It is greedy on arrival and its slop is strict; ours waits for the nearest and is inclusive.
"""

from __future__ import annotations

import importlib
import random

import pytest

from depth_completion_ros.messages.headers import split_stamp
from depth_completion_ros.messages.synchroniser import Synchroniser
from depth_completion_ros.settings import SyncSettings

MS = 1_000_000
START = 1_700_000_000_000_000_000

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def message_filters():
    pytest.importorskip("rclpy", reason="no rclpy here")
    return pytest.importorskip(
        "message_filters", reason="no message_filters here; it comes with an installed ROS"
    )


def _streams(image_period, cloud_period, jitter, delay, phase, seed):
    """Events (arrival, kind, stamp; ms) of two sensors for six seconds, some lost."""
    generator = random.Random(seed)
    events = []
    for kind, period, late, start in (
        ("image", image_period, 8, 0.0),
        ("points", cloud_period, delay, phase),
    ):
        for i in range(int(6000 / period)):
            if generator.random() < 0.03:
                continue
            stamp = start + i * period + generator.uniform(-jitter, jitter) + 10
            events.append((stamp + late, kind, round(stamp, 3)))
    return sorted(events)


def _ours(events, slop_ms):
    now = [0.0]
    synchroniser = Synchroniser(SyncSettings(slop=slop_ms / 1000), clock=lambda: now[0])
    pairs = []
    for at, kind, ms in events:
        now[0] = at / 1000
        add = synchroniser.add_image if kind == "image" else synchroniser.add_points
        pairs += add(START + round(ms * MS), ms) + synchroniser.poll()
    pairs += synchroniser.flush()
    return {(pair.image, pair.points) for pair in pairs}


def _theirs(module, events, slop_ms):
    sensor_msgs = importlib.import_module("sensor_msgs.msg")
    filters = {"image": module.SimpleFilter(), "points": module.SimpleFilter()}
    synchroniser = module.ApproximateTimeSynchronizer(
        list(filters.values()), 10, slop=slop_ms / 1000
    )
    pairs = set()
    synchroniser.registerCallback(
        lambda image, cloud: pairs.add((image.header.frame_id, cloud.header.frame_id))
    )
    for _, kind, ms in events:
        msg = sensor_msgs.Image() if kind == "image" else sensor_msgs.PointCloud2()
        msg.header.stamp.sec, msg.header.stamp.nanosec = split_stamp(START + round(ms * MS))
        msg.header.frame_id = str(ms)
        filters[kind].signalMessage(msg)
    return {(float(image), float(cloud)) for image, cloud in pairs}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("image_period", "cloud_period", "slop"), [(100, 100, 20), (100 / 3, 100, 12), (50, 100, 20)]
)
def test_where_only_one_partner_is_in_reach_both_give_the_same_pairs(
    message_filters, image_period, cloud_period, slop, seed
):
    events = _streams(image_period, cloud_period, jitter=2, delay=40, phase=5, seed=seed)
    ours = _ours(events, slop)
    assert len(ours) > 40
    assert ours == _theirs(message_filters, events, slop)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("image_period", "delay"), [(100 / 3, 5), (100 / 3, 60), (50, 40)])
def test_where_there_is_a_choice_ours_are_as_many_and_nearer(
    message_filters, image_period, delay, seed
):
    events = _streams(image_period, 100, jitter=3, delay=delay, phase=14, seed=seed)
    ours, theirs = _ours(events, 50), _theirs(message_filters, events, 50)
    assert len(ours) >= len(theirs)

    def distance(pairs):
        return sum(abs(image - cloud) for image, cloud in pairs) / len(pairs)

    assert distance(ours) <= distance(theirs)


def test_a_pair_exactly_slop_apart_is_ours_but_not_theirs(message_filters):
    events = [(1, "image", 100.0), (2, "points", 150.0)]
    assert _ours(events, 50) == {(100.0, 150.0)}
    assert _theirs(message_filters, events, 50) == set()
    assert _theirs(message_filters, events, 50.001) == {(100.0, 150.0)}
