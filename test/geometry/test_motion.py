"""Points moved to another moment: known values, and one transform per point as reference."""

from __future__ import annotations

import numpy as np

from depth_completion_ros.geometry.motion import move_points
from depth_completion_ros.geometry.transforms import invert_transform, rotation_from_vector


def pose(translation=(0, 0, 0), rotation=(0, 0, 0)) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = rotation_from_vector(rotation)
    T[:3, 3] = translation
    return T


def test_a_point_seen_later_was_farther_away_before():
    # 10 m/s forward: at 0.05 s the sensor is half a metre ahead.
    points = np.array([[7, 1, 0, 0.5]], np.float32)
    moved = move_points(points, np.array([0.05]), pose((1, 0, 0)), 0.1)
    np.testing.assert_allclose(moved, [[7.5, 1, 0, 0.5]])
    assert moved.dtype == np.float32
    assert points[0, 0] == 7


def test_a_point_seen_earlier_was_nearer_afterwards():
    moved = move_points(np.array([[7, 1, 0]], np.float32), np.array([-0.05]), pose((1, 0, 0)), 0.1)
    np.testing.assert_allclose(moved, [[6.5, 1, 0]])


def test_a_turning_sensor():
    # A quarter turn to the left in 0.1 s; straight ahead at its end is on the left at its start.
    moved = move_points(
        np.array([[2, 0, 0], [2, 0, 0], [2, 0, 0]], np.float32),
        np.array([0.0, 0.05, 0.1]),
        pose(rotation=(0, 0, np.pi / 2)),
        0.1,
    )
    half = np.sqrt(2)
    np.testing.assert_allclose(moved, [[2, 0, 0], [half, half, 0], [0, 2, 0]], atol=1e-6)


def test_one_time_for_all_equals_a_time_for_each():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 4)).astype(np.float32)
    T = pose((1, -0.2, 0.1), (0.02, -0.01, 0.3))
    np.testing.assert_allclose(
        move_points(points, 0.03, T, 0.1),
        move_points(points, np.full(50, 0.03), T, 0.1),
        atol=1e-6,
    )


def test_at_the_end_of_the_period_it_is_the_whole_motion():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(20, 3)).astype(np.float32)
    T = pose((1, 2, 3), (0.1, 0.2, -0.4))
    expected = points @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(move_points(points, 0.1, T, 0.1), expected, atol=1e-5)


def test_a_landmark_lands_on_one_place_however_late_it_was_seen():
    landmark = np.array([12.0, -4.0, 1.5])
    velocity, turn = np.array([8.0, 0.5, 0.0]), np.array([0.02, 0.01, 0.7])  # per second
    times = np.linspace(-0.05, 0.05, 11)
    seen = []
    for t in times:
        T_start_now = pose(velocity * t, turn * t)
        seen.append((invert_transform(T_start_now) @ (*landmark, 1))[:3])
    moved = move_points(np.array(seen, np.float32), times, pose(velocity * 0.1, turn * 0.1), 0.1)
    np.testing.assert_allclose(moved, np.tile(landmark, (11, 1)), atol=1e-5)


def test_standing_still_changes_nothing():
    points = np.array([[1, 2, 3], [np.nan, 0, 0]], np.float32)
    np.testing.assert_array_equal(
        move_points(points, np.array([0.0, 0.05]), np.eye(4), 0.1), points
    )
