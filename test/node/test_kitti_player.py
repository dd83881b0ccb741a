"""The real player in a process of its own, over real DDS."""

from __future__ import annotations

import shutil
import signal
import time

import numpy as np
import pytest

from depth_completion_ros.datasets import open_source
from depth_completion_ros.datasets.bag_writer import BagNames, write_bag
from depth_completion_ros.messages.headers import stamp_ns
from depth_completion_ros.messages.image import read_image
from depth_completion_ros.messages.points import read_points

pytestmark = [pytest.mark.ros, pytest.mark.slow]
PLAYER = "/kitti_player"
# The player as it is, but for one frame.
_BREAK_THIRD_FRAME = """
import sys
from depth_completion_ros.datasets.folder import FrameFolder
from depth_completion_ros.node import kitti_player
read = FrameFolder.__getitem__
def break_third(folder, index):
    if index == 2:
        raise IndexError("third frame")
    return read(folder, index)
FrameFolder.__getitem__ = break_third
sys.exit(kitti_player.main())
"""
_MOVED = ("/moved", "/lidar/points")


@pytest.fixture
def kinds():
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2

    return {"/image": Image, "/camera_info": CameraInfo, "/points": PointCloud2}


def test_a_source_is_played_whole_and_in_its_own_time(start, listener, kinds, street, frames):
    arrivals = []
    heard = {topic: listener.listen(topic, kind) for topic, kind in kinds.items()}
    listener.node.create_subscription(
        kinds["/image"], "/image", lambda message: arrivals.append(time.monotonic()), 50
    )
    player = start(
        "kitti_player",
        *("-p", f"drive:={street}", "-p", "wait:=20", "-p", "rate:=2", "-p", "stamps:=recorded"),
    )
    assert player.wait() == 0, player.text
    assert player.stop() == 0
    assert {topic: len(got) for topic, got in heard.items()} == dict.fromkeys(kinds, frames)
    stamps = [stamp_ns(m.header.stamp) for m in heard["/image"]]
    assert stamps == [1_000_000_000 + 100_000_000 * i for i in range(frames)]
    # Twice the speed of 10 Hz, also on a busy machine.
    assert np.median(np.diff(arrivals)) == pytest.approx(0.05, abs=0.02)
    assert tuple(read_image(heard["/image"][3])[0, 0]) == (200, 100, 30)
    np.testing.assert_array_equal(
        read_points(heard["/points"][3]).points, open_source(street)[3].points
    )
    assert f"end: {frames} frames published" in player.text


def test_stamps_are_the_time_of_publishing_if_asked_for(start, listener, kinds, street):
    heard = {topic: listener.listen(topic, kind) for topic, kind in kinds.items()}["/image"]
    player = start(
        "kitti_player",
        *("-p", f"drive:={street}", "-p", "wait:=20", "-p", "stamps:=now"),
        *("-p", "start:=4", "-p", "end:=7"),
    )
    before = time.time_ns()
    assert player.wait() == 0, player.text
    stamps = [stamp_ns(m.header.stamp) for m in heard]
    assert len(stamps) == 3
    assert before < stamps[0] < stamps[-1] < time.time_ns()
    assert read_image(heard[0])[0, 0, 2] == 40


def test_pause_and_step_are_obeyed(start, listener, kinds, street, wait_until):
    from std_srvs.srv import SetBool, Trigger

    heard = {topic: listener.listen(topic, kind) for topic, kind in kinds.items()}["/image"]
    player = start(
        "kitti_player",
        *("-p", f"drive:={street}", "-p", "start_paused:=true", "-p", "rate:=10"),
        *("-p", "wait:=20"),
    )
    for count in (1, 2):
        assert listener.call(f"{PLAYER}/step", Trigger, Trigger.Request()).success
        wait_until(lambda count=count: len(heard) == count, f"{count} frames")
    time.sleep(0.3)
    assert len(heard) == 2
    assert listener.call(f"{PLAYER}/pause", SetBool, SetBool.Request(data=False)).success
    assert player.wait() == 0, player.text
    assert len(heard) == 12
    stamps = [stamp_ns(m.header.stamp) for m in heard]
    assert stamps == sorted(stamps)


def test_step_needs_a_pause(start, listener, street):
    from std_srvs.srv import Trigger

    player = start("kitti_player", "-p", f"drive:={street}", "-p", "loop:=true")
    refused = listener.call(f"{PLAYER}/step", Trigger, Trigger.Request())
    assert not refused.success
    assert "pause" in refused.message
    assert player.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "parameter drive: found nothing"),
        (("-p", "drive:=/no/such/drive"), "/no/such/drive: no such file or folder"),
        (("-p", "drive:=/tmp", "-p", "rate:=fast"), "parameter rate: found 'fast'"),
        (("-p", "drive:=STREET", "-p", "start:=50"), "start, end: found 50 and -1"),
        (("--params-file", "/no/such.yaml"), "cannot start"),
    ],
)
def test_what_cannot_be_played_ends_with_status_2_and_one_line(start, street, arguments, reason):
    player = start("kitti_player", *(a.replace("STREET", str(street)) for a in arguments))
    assert player.wait() == 2
    lines = [line for line in player.text.splitlines() if line.strip()]
    assert reason in lines[-1]
    assert "Traceback" not in player.text


def test_a_source_without_points_is_refused_before_anything_is_played(start, street, tmp_path):
    import cv2

    for name in ("000", "001"):
        shutil.copy(street / f"{name}_image.png", tmp_path)
        sparse = np.zeros((64, 96), np.uint16)
        sparse[32, 48] = 10 * 256
        cv2.imwrite(str(tmp_path / f"{name}_sparse.png"), sparse)
    shutil.copy(street / "calib.json", tmp_path)
    player = start("kitti_player", "-p", f"drive:={tmp_path}")
    assert player.wait() == 2
    # Kilted's DDS warns of the older name of its settings variable.
    said = [line for line in player.text.splitlines() if line.strip() and "[rmw_" not in line]
    assert said == [
        f"{tmp_path}: found sparse depth only, expected frames with points; play the KITTI raw "
        "drive or the bag it was made from"
    ]


def test_a_defect_while_playing_ends_with_one_line_and_no_good_status(start, street):
    player = start(
        "kitti_player", "-p", f"drive:={street}", "-p", "wait:=0", script=_BREAK_THIRD_FRAME
    )
    assert player.wait() == 2
    assert player.text.splitlines()[-1] == (
        "playing ended after 2 frames by a defect: IndexError: third frame"
    )
    assert "Traceback" not in player.text


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_best_effort_bag_is_replayed_byte_by_byte(
    start, listener, kinds, street, frames, tmp_path, storage, wait_until
):
    plain, bag = tmp_path / "plain", tmp_path / "bag"
    names = BagNames("/cam/image", "/cam/camera_info", "/lidar/points")
    assert write_bag(open_source(street), plain, storage=storage, names=names) == frames
    _offer_best_effort(plain, bag, storage)
    stored = _stored_messages(bag)
    topics = {"/cam/image": "/image", "/cam/camera_info": "/camera_info"}
    heard = {
        topic: listener.listen(topic, kinds[kind], qos=_best_effort(), raw=True)
        for topic, kind in {**topics, "/moved": "/points"}.items()
    }
    player = start(
        "kitti_player",
        *("-p", f"drive:={bag}", "-p", "stamps:=recorded", "-p", "rate:=2"),
        *("-p", "start_paused:=true", "-r", "/lidar/points:=/moved"),
    )
    player.wait_for_line("playing bag")
    for topic in heard:
        wait_until(lambda topic=topic: listener.node.count_publishers(topic) == 1, "publisher")
    offered = listener.node.get_publishers_info_by_topic("/cam/image")[0].qos_profile
    assert offered.reliability.name == "BEST_EFFORT"
    time.sleep(0.5)
    from std_srvs.srv import SetBool

    assert listener.call(f"{PLAYER}/pause", SetBool, SetBool.Request(data=False)).success
    assert player.wait() == 0, player.text
    assert player.stop() == 0
    for topic, source in (("/cam/image",) * 2, ("/cam/camera_info",) * 2, _MOVED):
        assert len(heard[topic]) == frames
        for got, sent in zip(heard[topic], stored[source], strict=True):
            # DDS carries whole groups of four bytes.
            assert got == sent + bytes(-len(sent) % 4)


def _best_effort():
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


def _offer_best_effort(source, target, storage: str) -> None:
    """Copy a bag as if its publishers had been best effort, as sensors are."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    never = QosTime(2147483647, 4294967295)
    qos = Qos(
        *(QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.VOLATILE),
        *(never, never, QosLiveliness.AUTOMATIC, never, False),
    )
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    typestore = get_typestore(Stores.ROS2_JAZZY)
    with Reader(source) as reader, Writer(target, version=9, storage_plugin=plugin) as writer:
        copies = {
            c.id: writer.add_connection(
                c.topic, c.msgtype, typestore=typestore, offered_qos_profiles=[qos]
            )
            for c in reader.connections
        }
        for connection, stamp, data in reader.messages():
            writer.write(copies[connection.id], stamp, data)


def _stored_messages(bag) -> dict[str, list[bytes]]:
    from rosbags.rosbag2 import Reader

    stored: dict[str, list[bytes]] = {}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            stored.setdefault(connection.topic, []).append(bytes(data))
    return stored
