from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.errors import CalibrationError
from depth_completion_ros.geometry.transforms import rotation_from_vector
from depth_completion_ros.node.motion import (
    OdometryTrack,
    interpolate_pose,
    points_at_image_time,
)

MS = 1_000_000


def never() -> bool:
    return False


def forward_at(speed: float, stamp_ns: int) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = speed * stamp_ns * 1e-9
    return T


def track(T_base_lidar=None, *, speed: float = 10.0, last_ms: int = 1000) -> OdometryTrack:
    given = np.eye(4) if T_base_lidar is None else T_base_lidar
    poses = OdometryTrack(lambda base, lidar: given, timeout=0.01)
    for stamp in range(0, last_ms + 1, 20):
        poses.add(stamp * MS, forward_at(speed, stamp * MS), "base")
    return poses


def test_a_pose_half_way_turns_and_moves_half_as_much():
    T = np.eye(4)
    T[:3, :3] = rotation_from_vector((0, 0, 0.4))
    T[:3, 3] = (2, 0, 0)
    half = interpolate_pose(np.eye(4), T, 0.5)
    np.testing.assert_allclose(half[:3, :3], rotation_from_vector((0, 0, 0.2)), atol=1e-12)
    np.testing.assert_allclose(half[:3, 3], (1, 0, 0))


def test_a_point_ahead_comes_nearer_while_the_robot_drives():
    points = np.array([[10, 1, 0, 0.5]], np.float32)
    moved = points_at_image_time(points, 400 * MS, None, 450 * MS, track(), "lidar", never)
    np.testing.assert_allclose(moved, [[9.5, 1, 0, 0.5]], atol=1e-6)


def test_a_lidar_that_looks_backwards_moves_backwards():
    T_base_lidar = np.diag([-1.0, -1.0, 1.0, 1.0])
    points = np.array([[10, 0, 0]], np.float32)
    moved = points_at_image_time(
        points, 400 * MS, None, 450 * MS, track(T_base_lidar), "lidar", never
    )
    np.testing.assert_allclose(moved, [[10.5, 0, 0]], atol=1e-6)


def test_every_point_is_moved_from_its_own_time():
    points = np.array([[10, 0, 0], [10, 0, 0], [10, 0, 0]], np.float32)
    times = np.array([-0.05, 0.0, 0.05])
    moved = points_at_image_time(points, 500 * MS, times, 500 * MS, track(), "lidar", never)
    np.testing.assert_allclose(moved[:, 0], (9.5, 10, 10.5), atol=1e-6)


def test_equal_stamps_need_no_motion():
    points = np.array([[10, 0, 0]], np.float32)
    empty = OdometryTrack(lambda base, lidar: np.eye(4), timeout=0.01)
    assert points_at_image_time(points, 5, None, 5, empty, "lidar", never) is points


@pytest.mark.parametrize(
    ("stamp_ms", "reason"), [(2000, "1000 ms after the last pose"), (-500, "before the first")]
)
def test_beyond_the_poses_nothing_is_made_up(stamp_ms, reason):
    with pytest.raises(CalibrationError, match=reason):
        track().between("lidar", stamp_ms * MS, 500 * MS, never)


def test_without_poses_the_motion_is_unknown():
    empty = OdometryTrack(lambda base, lidar: np.eye(4), timeout=0.01)
    with pytest.raises(CalibrationError, match="no pose"):
        empty.between("lidar", 1, 2, never)


def test_a_gap_in_the_odometry_is_named():
    poses = OdometryTrack(lambda base, lidar: np.eye(4), timeout=0.01)
    poses.add(0, np.eye(4))
    poses.add(1000 * MS, np.eye(4))
    with pytest.raises(CalibrationError, match="gap of 1000 ms"):
        poses.between("lidar", 500 * MS, 400 * MS, never)


def test_odometry_that_starts_again_replaces_the_old_one():
    poses = track()
    poses.add(10 * MS, np.eye(4))
    poses.add(30 * MS, np.eye(4))
    np.testing.assert_array_equal(poses.between("lidar", 20 * MS, 10 * MS, never), np.eye(4))
