"""Where the LiDAR was: pose files, and poses between poses.

Not here: KITTI's inertial unit (`oxts.py`), motion within one scan (`geometry/motion.py`),
odometry from scans (`evaluation/`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data import Float64Array, checked_transform
from ..errors import InputError
from ..geometry.transforms import (
    invert_transform,
    rotation_from_vector,
    rotation_vector,
    transform_from_quaternion,
)
from .whole_file import read_text


def interpolate_pose(times: NDArray[np.int64], poses: Float64Array, time: int) -> Float64Array:
    """Give the pose between two recorded ones; outside of them the motion goes on evenly.

    Args:
        times: (N,) int64 nanoseconds, increasing.
        poses: (N, 4, 4) float64 rigid transforms, N >= 1.
        time: nanoseconds.

    Returns:
        (4, 4) float64.
    """
    if len(times) == 1:
        return np.array(poses[0])
    after = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
    before = after - 1
    fraction = int(time - times[before]) / int(times[after] - times[before])
    step = invert_transform(poses[before]) @ poses[after]
    part = np.eye(4)
    part[:3, :3] = rotation_from_vector(rotation_vector(step[:3, :3]) * fraction)
    part[:3, 3] = step[:3, 3] * fraction
    pose: Float64Array = poses[before] @ part
    return pose


def read_poses(path: str | Path) -> Float64Array:
    """Read a file of poses, one a line, one for each frame of a source.

    Args:
        path: KITTI odometry format (12 numbers, the upper three rows of the matrix) or TUM format
            (time x y z qx qy qz qw). Lines that start with # are comments.

    Returns:
        (N, 4, 4) float64 rigid transforms. Which frame they move is the file's business: pose
        files of LiDAR odometry hold T_world_lidar, those of the KITTI odometry benchmark
        T_world_camera of camera 0.

    Raises:
        InputError: the file is missing or a line is no pose.
        CalibrationError: a pose is not rigid.
    """
    path = Path(path)
    poses = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            values = np.array(line.split(), dtype=np.float64)
        except ValueError:
            values = np.zeros(0)
        if len(values) == 12:
            T = np.vstack((values.reshape(3, 4), (0, 0, 0, 1)))
        elif len(values) == 8:
            T = transform_from_quaternion(values[1:4], values[4:])
        else:
            msg = (
                f"{path}: line {number}: found {len(line.split())} values, expected 12 numbers "
                "(KITTI) or 8 (TUM: time x y z qx qy qz qw)"
            )
            raise InputError(msg)
        poses.append(checked_transform(T, f"{path}: line {number}"))
    if not poses:
        msg = f"{path}: found no pose, expected one a line"
        raise InputError(msg)
    return np.stack(poses)
