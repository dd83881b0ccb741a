from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.datasets.oxts import read_oxts_poses
from depth_completion_ros.datasets.poses import interpolate_pose, read_poses
from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.geometry.transforms import rotation_from_vector


def _file(folder: Path, text: str) -> Path:
    (folder / "poses.txt").write_text(text)
    return folder / "poses.txt"


def test_kitti_lines_hold_three_rows(tmp_path: Path) -> None:
    poses = read_poses(_file(tmp_path, "1 0 0 5 0 1 0 6 0 0 1 7\n0 -1 0 0 1 0 0 0 0 0 1 0\n"))
    assert poses.shape == (2, 4, 4)
    assert poses[0, :3, 3].tolist() == [5, 6, 7]
    assert poses[1, 0, 1] == -1


def test_tum_lines_hold_time_position_and_quaternion(tmp_path: Path) -> None:
    text = "# time x y z qx qy qz qw\n1317.5 5 6 7 0 0 0.7071067811865476 0.7071067811865476\n"
    (pose,) = read_poses(_file(tmp_path, text))
    assert pose[:3, 3].tolist() == [5, 6, 7]
    np.testing.assert_allclose(pose[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)


@pytest.mark.parametrize("text", ["1 2 3\n", "1 0 0 5 0 1 0 6 0 0 1 x\n", "\n# nothing\n"])
def test_what_is_no_pose_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"poses\.txt: (line 1: found|found no pose)"):
        read_poses(_file(tmp_path, text))


def test_a_pose_that_is_not_rigid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"poses\.txt: line 1: its left upper 3x3"):
        read_poses(_file(tmp_path, "2 0 0 5 0 2 0 6 0 0 2 7\n"))


def test_a_pose_between_two_lies_between_them() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = rotation_from_vector((0, 0, 0.2))
    poses[1, :3, 3] = (1, 0, 0)
    times = np.array([1000, 2000])
    middle = interpolate_pose(times, poses, 1500)
    np.testing.assert_allclose(middle[:3, :3], rotation_from_vector((0, 0, 0.1)), atol=1e-12)
    np.testing.assert_allclose(middle[:3, 3], (0.5, 0, 0))
    np.testing.assert_allclose(interpolate_pose(times, poses, 2000), poses[1], atol=1e-12)
    # Beyond the last one the motion goes on.
    beyond = interpolate_pose(times, poses, 3000)
    np.testing.assert_allclose(beyond[:3, :3], rotation_from_vector((0, 0, 0.4)), atol=1e-12)
    np.testing.assert_allclose(beyond[:3, 3], (2, 0, 0))
    np.testing.assert_array_equal(interpolate_pose(times[:1], poses[:1], 5), poses[0])


def test_oxts_records_become_metres_east_and_north(tmp_path: Path) -> None:
    records = ["49 8 100 0 0 0", "49.00001 8.00002 101.5 0.01 0.02 1.5707963267948966"]
    paths = []
    for i, record in enumerate(records):
        paths.append(tmp_path / f"{i}.txt")
        paths[-1].write_text(record + " 0" * 24)
    poses = read_oxts_poses(paths)
    np.testing.assert_array_equal(poses[0], np.eye(4))
    radius = 6378137.0 * np.pi / 180
    np.testing.assert_allclose(
        poses[1, :3, 3],
        (np.cos(np.radians(49)) * radius * 2e-5, radius * 1e-5, 1.5),
        rtol=1e-4,
    )
    # Yaw turns the car's forward axis from east to north.
    np.testing.assert_allclose(poses[1, :3, 0], (0, 1, 0), atol=0.03)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("49 8")
    with pytest.raises(InputError, match=r"0\.txt: found no oxts record"):
        read_oxts_poses([tmp_path / "0.txt"])
