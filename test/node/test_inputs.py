from __future__ import annotations

from types import SimpleNamespace

from depth_completion_ros.messages.headers import header_fields
from depth_completion_ros.node.inputs import Inputs, SequenceGaps
from depth_completion_ros.node.statistics import Statistics
from depth_completion_ros.settings import SyncSettings


def message(stamp: int) -> SimpleNamespace:
    header = header_fields(stamp, "frame")
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(**header["stamp"])))


def test_pairs_are_handed_over_and_everything_is_counted():
    statistics, pairs = Statistics(), []
    inputs = Inputs(SyncSettings(policy="exact"), statistics, pairs.append)
    for stamp in (1_000_000_000, 1_100_000_000):
        inputs.add_image(message(stamp))
        inputs.add_points(message(stamp))
    inputs.note("camera_info")
    inputs.poll()
    assert [pair.image_stamp for pair in pairs] == [1_000_000_000, 1_100_000_000]
    assert statistics.counts() == {
        "received.image": 2,
        "received.points": 2,
        "received.camera_info": 1,
        "matched": 2,
    }


def test_gaps_in_the_publishers_numbers_are_losses():
    statistics = Statistics()
    inputs = Inputs(SyncSettings(), statistics, lambda pair: None)
    for number, stamp in ((5, 10**9), (6, 2 * 10**9), (9, 3 * 10**9)):
        inputs.add_image(message(stamp), {"publication_sequence_number": number})
    assert statistics.drops()["lost_in_transport"] == 2


def test_two_publishers_of_one_topic_are_no_loss():
    gaps = SequenceGaps()
    numbers = [5000, 1, 5001, 2, 5002, 4]
    assert [gaps.lost_before(number) for number in numbers] == [0, 0, 0, 0, 0, 1]


def test_a_restarted_publisher_is_no_loss():
    gaps = SequenceGaps()
    assert [gaps.lost_before(number) for number in (7, 8, 1, 2, 3)] == [0, 0, 0, 0, 0]


def test_silence_is_measured_from_the_last_message_or_from_the_start():
    now = [10.0]
    inputs = Inputs(SyncSettings(), Statistics(), lambda pair: None, clock=lambda: now[0])
    now[0] = 12.0
    assert inputs.silent_for("image") == 2.0
    assert not inputs.has_come("image")
    inputs.add_image(message(10**9))
    now[0] = 12.5
    assert inputs.silent_for("image") == 0.5
    assert inputs.has_come("image")
