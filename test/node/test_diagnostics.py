from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from depth_completion_ros.messages.synchroniser import Synchroniser
from depth_completion_ros.node.diagnostics import (
    OK,
    WARN,
    TopicView,
    drop_status,
    explain_silence,
    flow_status,
    latency_status,
)
from depth_completion_ros.node.statistics import Statistics
from depth_completion_ros.settings import SyncSettings

pytestmark = pytest.mark.ros


def view(*, silent_for: float, has_come: bool = False, publishers: tuple[str, ...] = ()):
    return TopicView("points", "/lidar", publishers, silent_for, has_come)


def test_an_input_that_comes_is_no_silence():
    assert explain_silence([view(silent_for=0.1, has_come=True)], 3.0) is None


def test_an_input_that_never_came_is_named_at_once_and_explained_later():
    assert explain_silence([view(silent_for=1.0)], 3.0) == "waiting for points on /lidar"
    assert explain_silence([view(silent_for=4.0)], 3.0) == (
        "waiting for points on /lidar (silent for 4 s, no publisher; is its driver running, is "
        "points remapped?)"
    )


def test_a_silent_publisher_is_named():
    line = explain_silence(
        [view(silent_for=9.0, has_come=True, publishers=("velodyne (best_effort)",))], 3.0
    )
    assert "silent for 9 s, published by velodyne (best_effort)" in line
    assert "DDS profile" in line


def test_a_camera_info_that_came_once_is_no_silence_but_one_that_never_came_is():
    cached = TopicView("camera_info", "/cam/camera_info", (), silent_for=60.0, has_come=True)
    assert explain_silence([cached], 3.0) is None
    missing = TopicView("camera_info", "/cam/camera_info", (), silent_for=60.0, has_come=False)
    assert "camera_info on /cam/camera_info (silent for 60 s" in explain_silence([missing], 3.0)


def test_the_flow_tells_how_far_apart_the_stamps_are_once_it_is_known():
    synchroniser = Synchroniser(SyncSettings(slop=0.02))
    offsets = {"median_offset_ms", "nearest_offset_ms"}
    assert not offsets & set(flow_status(Statistics(), synchroniser.counts()).values)
    synchroniser.add_image(1_000_000_000, "image")
    synchroniser.add_points(1_300_000_000, "cloud")
    apart = flow_status(Statistics(), synchroniser.counts()).values
    assert apart["nearest_offset_ms"] == "300.0"
    assert "median_offset_ms" not in apart
    synchroniser.add_image(1_295_000_000, "image")
    synchroniser.flush()
    assert flow_status(Statistics(), synchroniser.counts()).values["median_offset_ms"] == "5.0"


def test_the_three_reports_tell_what_was_counted():
    statistics = Statistics()
    statistics.count("received.image", 3)
    statistics.count("published", 2)
    statistics.drop("bad_image")
    statistics.record({"stamp_to_publish": 0.0425})
    flow = flow_status(statistics)
    assert (flow.values["received.image"], flow.values["published"]) == (3, 2)
    drops = drop_status(statistics.drops(), {"bad_image": "why"})
    assert (drops.level, drops.message) == (WARN, "bad_image 1")
    assert drops.values["dropped.superseded"] == 0
    assert drops.values["last.bad_image"] == "why"
    latency = latency_status(statistics)
    assert latency.values["latency.stamp_to_publish.p99_ms"] == "42.50"
    assert latency.message == "stamp to publish: p50 42.5, p95 42.5, p99 42.5 ms"
    assert latency.level == OK
