"""Extrinsics and motion from tf, where tf2_ros and tf2_msgs are installed (no wheels exist)."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.messages.camera_info import camera_info_fields
from depth_completion_ros.messages.fields import fill_message
from depth_completion_ros.messages.image import image_fields, read_depth_image
from depth_completion_ros.messages.points import points_fields
from depth_completion_ros.messages.transforms import stamped_transform_fields

pytestmark = [pytest.mark.ros, pytest.mark.slow]

T_EYE_SCANNER = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.3], [0, 0, 0, 1]], float)
SECOND = 1_000_000_000


@pytest.fixture
def tf_messages(domain):
    for name in ("tf2_ros", "tf2_msgs"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(name, reason=f"{name} is not installed (it has no wheel)")
    from tf2_msgs.msg import TFMessage

    return TFMessage


@pytest.fixture
def send(listener, wall, wait_until):
    """Publish a camera and a cloud; the cloud may be older."""
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2

    K = np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]], np.float64)
    camera_info = camera_info_fields(PinholeCamera(96, 64, K))
    pixels = image_fields(np.zeros((64, 96, 3), np.uint8), "rgb8")
    kinds = {"image": Image, "camera_info": CameraInfo, "points": PointCloud2}
    publishers = {name: listener.publisher(f"/{name}", kind) for name, kind in kinds.items()}

    def send_pair(stamp: int, points_stamp: int | None = None) -> None:
        for publisher in publishers.values():
            wait_until(lambda p=publisher: p.get_subscription_count() > 0, "subscriber")
        later = stamp if points_stamp is None else points_stamp
        for name, fields, time_ns, frame in (
            ("camera_info", camera_info, stamp, "eye"),
            ("points", points_fields(wall(10.0)), later, "scanner"),
            ("image", pixels, stamp, "eye"),
        ):
            message = fill_message(kinds[name](), fields, stamp=time_ns, frame_id=frame)
            publishers[name].publish(message)

    return send_pair


def latched():
    from rclpy.qos import DurabilityPolicy, QoSProfile

    return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def transforms(kind, *fields):
    return fill_message(kind(), {"transforms": list(fields)})


def test_extrinsics_come_from_tf_and_a_missing_one_is_explained(
    start, listener, tf_messages, send, wait_until
):
    from sensor_msgs.msg import Image

    diagnostics = listener.diagnostics()
    depth = listener.listen("/depth/image", Image)
    node = start("completion_node")
    node.wait_for_line("extrinsics from tf")
    wait_until(lambda: listener.node.count_publishers("/depth/image") > 0, "publisher")
    stamp = 10 * SECOND

    def is_missed() -> bool:
        nonlocal stamp
        stamp += SECOND // 10
        send(stamp)
        time.sleep(0.1)
        return "dropped, no_transform" in node.text

    wait_until(is_missed, "no_transform in the log")
    line = node.wait_for_line("dropped, no_transform")
    assert "'scanner' to 'eye'" in line
    assert "within 100 ms" in line
    wait_until(lambda: diagnostics.count("dropped.no_transform") >= 1, "no_transform")
    static = listener.publisher("/tf_static", tf_messages, latched())
    static.publish(
        transforms(tf_messages, stamped_transform_fields(T_EYE_SCANNER, "eye", "scanner"))
    )

    def is_found() -> bool:
        nonlocal stamp
        stamp += SECOND // 10
        send(stamp)
        time.sleep(0.1)
        return bool(depth)

    wait_until(is_found, "depth")
    assert read_depth_image(depth[-1])[32, 48] == pytest.approx(10, rel=0.02)
    # Static transforms outlive a bag that starts again.
    count = len(depth)
    stamp = 1 * SECOND
    wait_until(lambda: is_found() and len(depth) > count + 1, "depth after the jump")
    assert node.stop() == 0


def test_tf_moves_the_cloud_to_the_moment_of_the_image(
    start, listener, tf_messages, send, wait_until
):
    from sensor_msgs.msg import Image

    sparse = listener.listen("/sparse_depth/image", Image)
    node = start("completion_node", "-p", "motion.source:=tf", "-p", "sync.slop:=0.06")
    node.wait_for_line("ready: listening to")
    static = listener.publisher("/tf_static", tf_messages, latched())
    static.publish(
        transforms(tf_messages, stamped_transform_fields(T_EYE_SCANNER, "eye", "scanner"))
    )
    moving = listener.publisher("/tf", tf_messages, 500)
    wait_until(lambda: moving.get_subscription_count() > 0, "subscriber of tf")
    wait_until(lambda: listener.node.count_publishers("/sparse_depth/image") > 0, "publisher")
    # 20 m/s along the scanner's x: the wall comes 1 m nearer in 50 ms.
    T_scanner_eye = np.linalg.inv(T_EYE_SCANNER)
    for stamp in range(10 * SECOND, 14 * SECOND, SECOND // 50):
        T = np.eye(4)
        T[0, 3] = 20 * (stamp - 10 * SECOND) / SECOND
        fields = stamped_transform_fields(T @ T_scanner_eye, "odom", "eye", stamp=stamp)
        moving.publish(transforms(tf_messages, fields))
    stamp = 10 * SECOND + SECOND // 5

    def is_moved() -> bool:
        nonlocal stamp
        stamp = min(stamp + SECOND // 5, 13 * SECOND)
        time.sleep(0.1)
        send(stamp, stamp - SECOND // 20)
        return bool(sparse)

    wait_until(is_moved, "sparse depth")
    measured = read_depth_image(sparse[0])
    assert measured[measured > 0].mean() == pytest.approx(9.0, abs=0.01)
    assert node.stop() == 0
