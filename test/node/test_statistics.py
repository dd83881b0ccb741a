from __future__ import annotations

import pytest

from depth_completion_ros.node.statistics import DROP_REASONS, Statistics


def test_every_reason_is_reported_even_if_it_never_occurred():
    statistics = Statistics()
    statistics.drop("superseded")
    statistics.drop("superseded", 2)
    drops = statistics.drops()
    assert list(drops) == list(DROP_REASONS)
    assert drops["superseded"] == 3
    assert sum(drops.values()) == 3


def test_an_unknown_reason_is_refused():
    with pytest.raises(KeyError):
        Statistics().drop("bored")


def test_percentiles_are_values_that_really_occurred():
    statistics = Statistics()
    for milliseconds in range(1, 101):
        statistics.record({"infer": milliseconds / 1000})
    assert statistics.percentiles() == {"infer": (0.050, 0.095, 0.099)}


def test_one_sample_is_every_percentile():
    statistics = Statistics()
    statistics.record({"infer": 0.25})
    assert statistics.percentiles()["infer"] == (0.25, 0.25, 0.25)


def test_a_rate_forgets_what_is_older_than_five_seconds():
    now = [0.0]
    statistics = Statistics(clock=lambda: now[0])
    for tick in range(100):
        now[0] = tick / 10
        statistics.count("received.image")
    assert statistics.rate("received.image") == pytest.approx(10, abs=0.3)
    now[0] = 60.0
    assert statistics.rate("received.image") == 0
    assert statistics.counts() == {"received.image": 100}
