"""Where the LiDAR was: KITTI's oxts records and pose files.

Not here: motion within one scan (`geometry/motion.py`), odometry from scans (`evaluation/`).
"""

from __future__ import annotations

from collections.abc import Sequence
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

_EARTH_RADIUS = 6378137.0


def read_oxts_poses(paths: Sequence[Path]) -> Float64Array:
    """Read the poses of KITTI's inertial unit from its oxts records.

    Args:
        paths: one record file per pose: latitude, longitude (degrees), altitude (metres), roll,
            pitch, yaw (radians), and more that is not needed.

    Returns:
        (N, 4, 4) float64 T_world_imu; the world's x axis points east, y north, z up, its origin
        is the first record.

    Raises:
        InputError: a record is missing or damaged.

    Source: KITTI raw devkit, Mercator projection scaled at the first record's latitude.
    """
    records = np.stack([_read_record(path) for path in paths])
    scale = np.cos(np.radians(records[0, 0]))
    east = scale * _EARTH_RADIUS * np.radians(records[:, 1])
    north = scale * _EARTH_RADIUS * np.log(np.tan(np.radians(90 + records[:, 0]) / 2))
    roll, pitch, yaw = (records[:, k, None] * np.eye(3)[k - 3] for k in (3, 4, 5))
    poses = np.tile(np.eye(4), (len(paths), 1, 1))
    poses[:, :3, :3] = (
        rotation_from_vector(yaw) @ rotation_from_vector(pitch) @ rotation_from_vector(roll)
    )
    poses[:, :3, 3] = np.stack((east, north, records[:, 2]), axis=1)
    poses[:, :3, 3] -= poses[0, :3, 3].copy()
    return poses


def _read_record(path: Path) -> Float64Array:
    try:
        numbers = np.array(read_text(path).split()[:6], dtype=np.float64)
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) != 6 or not np.all(np.isfinite(numbers)):
        msg = f"{path}: found no oxts record, expected latitude, longitude, altitude, roll ..."
        raise InputError(msg)
    return numbers


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
        return poses[0].copy()
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
