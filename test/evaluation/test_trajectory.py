from __future__ import annotations

import json

import numpy as np
import pytest

from depth_completion_ros import open_source
from depth_completion_ros.errors import InputError
from depth_completion_ros.evaluation.trajectory import (
    Trajectory,
    compensated_points,
    estimate_trajectory,
    known_trajectory,
    read_trajectory,
)


def straight(count: int, speed: float = 10.0) -> Trajectory:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = speed * 0.1 * np.arange(count)
    return Trajectory(poses, np.arange(count, dtype=np.int64) * 100_000_000, "test")


def test_motion_is_the_mean_of_the_steps_around_a_scan():
    trajectory = straight(4)
    T, period = trajectory.motion(1)
    assert (T[0, 3], period) == (pytest.approx(2.0), pytest.approx(0.2))
    T, period = trajectory.motion(0)
    assert (T[0, 3], period) == (pytest.approx(1.0), pytest.approx(0.1))


def test_a_single_pose_means_standing_still():
    T, period = straight(1).motion(0)
    assert np.array_equal(T, np.eye(4))
    assert period > 0


@pytest.fixture
def drive(kitti):
    return open_source(kitti / "drive_0009")


@pytest.mark.dataset
def test_points_are_moved_to_the_forward_moment(drive):
    """At 11 m/s a point measured 0.05 s later is moved 0.55 m ahead."""
    trajectory = known_trajectory(drive)
    frame = drive[11]
    moved = compensated_points(frame, trajectory, 11)
    late = frame.point_times > 0.045
    step = moved[late, 0] - frame.points[late, 0]
    speed = np.linalg.norm(trajectory.motion(11)[0][:3, 3]) / trajectory.motion(11)[1]
    assert np.median(step) == pytest.approx(speed * np.median(frame.point_times[late]), rel=0.05)


@pytest.mark.dataset
def test_poses_of_one_drive_agree_wherever_they_come_from(drive, kitti):
    oxts = known_trajectory(drive)
    icp = read_trajectory(kitti / "drive_0009" / "poses_icp.json", drive)
    assert len(oxts.poses) == len(icp.poses) == 30

    def distance(trajectory: Trajectory) -> float:
        return float(np.linalg.norm(trajectory.poses[-1, :3, 3] - trajectory.poses[0, :3, 3]))

    assert distance(oxts) == pytest.approx(distance(icp), rel=0.01)
    assert distance(icp) > 25


@pytest.mark.dataset
@pytest.mark.slow
def test_odometry_follows_the_scans_and_passes_over_bad_ones(drive, kitti):
    pytest.importorskip("kiss_icp", reason="no kiss-icp: pip install 'depth_completion[odometry]'")
    frames = [drive[i] for i in range(8)]
    icp = read_trajectory(kitti / "drive_0009" / "poses_icp.json", drive)
    found = estimate_trajectory(frames, drive.times[:8])
    length = np.linalg.norm(icp.poses[7, :3, 3])
    assert np.linalg.norm(found.poses[7, :3, 3]) == pytest.approx(length, abs=0.15)
    with_gap = estimate_trajectory([*frames[:4], None, *frames[5:]], drive.times[:8])
    assert np.linalg.norm(with_gap.poses[7, :3, 3]) == pytest.approx(length, abs=0.3)


@pytest.mark.dataset
def test_poses_for_other_frames_are_refused(drive, tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 7)
    with pytest.raises(InputError, match="found 7 poses, expected one for each of 30 frames"):
        read_trajectory(path, drive)
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({"other": []}))
    with pytest.raises(InputError, match="found no 'next_in_this'"):
        read_trajectory(path, drive)
