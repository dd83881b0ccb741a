from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

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
