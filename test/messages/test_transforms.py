"""Transforms and poses out to geometry_msgs and back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depth_completion_ros.errors import CalibrationError
from depth_completion_ros.messages.fields import build_message, fill_message
from depth_completion_ros.messages.transforms import (
    pose_fields,
    read_pose,
    read_transform,
    stamped_transform_fields,
    transform_fields,
)

# A quarter turn about z, then 1, 2, 3 metres.
T = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


def test_a_transform_round_trips(typestore):
    msg = build_message(typestore, "geometry_msgs/msg/Transform", transform_fields(T))
    assert (msg.translation.x, msg.translation.y, msg.translation.z) == (1, 2, 3)
    assert (msg.rotation.x, msg.rotation.y) == (0, 0)
    assert msg.rotation.z == pytest.approx(np.sqrt(0.5))
    assert msg.rotation.w == pytest.approx(np.sqrt(0.5))
    assert read_transform(msg) == pytest.approx(T)


def test_a_stamped_transform_names_both_frames(typestore):
    fields = stamped_transform_fields(T, "base", "lidar", stamp=2_000_000_001)
    msg = build_message(typestore, "geometry_msgs/msg/TransformStamped", fields)
    assert (msg.header.frame_id, msg.child_frame_id) == ("base", "lidar")
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (2, 1)
    assert read_transform(msg) == pytest.approx(T)


def test_a_tf_message_holds_many(typestore):
    fields = {"transforms": [stamped_transform_fields(T, "base", name) for name in "ab"]}
    msg = build_message(typestore, "tf2_msgs/msg/TFMessage", fields)
    assert [item.child_frame_id for item in msg.transforms] == ["a", "b"]


@pytest.mark.parametrize(
    ("typename", "wrap"),
    [
        ("geometry_msgs/msg/Pose", lambda pose: pose),
        ("geometry_msgs/msg/PoseStamped", lambda pose: {"pose": pose}),
        ("nav_msgs/msg/Odometry", lambda pose: {"pose": {"pose": pose}}),
    ],
)
def test_poses_are_read_wherever_they_are(typestore, typename, wrap):
    msg = build_message(typestore, typename, wrap(pose_fields(T)))
    assert read_pose(msg) == pytest.approx(T)


@pytest.mark.ros
def test_messages_of_rclpy_are_filled_and_read():
    messages = pytest.importorskip("geometry_msgs.msg", reason="no geometry_msgs here")
    fields = stamped_transform_fields(T, "base", "lidar")
    assert read_transform(fill_message(messages.TransformStamped(), fields)) == pytest.approx(T)


@pytest.mark.parametrize(
    ("translation", "rotation", "found"),
    [
        ((0, 0, 0), (0, 0, 0, 0), "quaternion: found"),
        ((0, 0, 0), (0, 0, 0, float("nan")), "quaternion: found"),
        ((float("nan"), 0, 0), (0, 0, 0, 1), "transform: found NaN"),
    ],
)
def test_a_transform_that_cannot_be_is_refused(translation, rotation, found):
    msg = SimpleNamespace(
        translation=SimpleNamespace(**dict(zip("xyz", translation, strict=True))),
        rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
    )
    with pytest.raises(CalibrationError, match=found):
        read_transform(msg)
