"""Where the LiDAR was at every scan, for accumulation: known poses, or odometry from the scans.

Not here: pose formats of data sets (`datasets/poses.py`) and deskewing (`geometry/motion.py`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, Frame, checked_transform
from ..datasets import Dataset
from ..errors import BackendError, InputError
from ..geometry.motion import move_points
from ..geometry.transforms import invert_transform

# Seconds of one scan where neither stamps nor neighbours tell.
_NOMINAL_PERIOD = 0.1


@dataclass(frozen=True)
class Trajectory:
    """Hold the pose of the LiDAR at the stamp of each frame's points.

    Attributes:
        poses: (N, 4, 4) float64 T_world_lidar; the world stands still.
        times: (N,) int64 nanoseconds.
        origin: where the poses come from, for people.
    """

    poses: Float64Array
    times: NDArray[np.int64]
    origin: str

    def motion(self, index: int) -> tuple[Float64Array, float]:
        """Give the motion during one scan: the mean of the steps before and after it.

        Returns:
            (4, 4) pose after in the frame before, and the seconds between the two.
        """
        before, after = max(index - 1, 0), min(index + 1, len(self.poses) - 1)
        period = float(self.times[after] - self.times[before]) * 1e-9
        if period <= 0:
            return np.eye(4), _NOMINAL_PERIOD
        return invert_transform(self.poses[before]) @ self.poses[after], period


def known_trajectory(dataset: Dataset) -> Trajectory | None:
    """Take the poses that a source holds itself (oxts, odometry); None if it holds none."""
    if not dataset.has_poses:
        return None
    poses = [dataset.T_world_lidar(index) for index in range(len(dataset))]
    found = [pose for pose in poses if pose is not None]
    if len(found) < len(poses):
        return None
    return Trajectory(np.stack(found), dataset.times, f"poses of the source ({dataset.kind})")


def read_trajectory(path: str | Path, dataset: Dataset) -> Trajectory:
    """Read poses from a file, one for each frame of a source.

    Args:
        path: KITTI odometry or TUM format of T_world_lidar, or JSON with `next_in_this`: the 4x4
            pose of each scan's successor in its own frame.
        dataset: gives number and stamps of the frames.

    Raises:
        InputError: the file cannot be read, or has poses for another number of frames.
        CalibrationError: a pose is not rigid.
    """
    from ..datasets.poses import read_poses

    path = Path(path)
    poses = _read_steps(path) if path.suffix == ".json" else read_poses(path)
    # A drive that was cut short may keep the step to the scan after its last one.
    if len(poses) not in (len(dataset), len(dataset) + 1):
        msg = f"{path}: found {len(poses)} poses, expected one for each of {len(dataset)} frames"
        raise InputError(msg)
    return Trajectory(poses[: len(dataset)], dataset.times, str(path))


def estimate_trajectory(frames: Iterable[Frame | None], times: NDArray[np.int64]) -> Trajectory:
    """Register each scan to those before it, where nobody knows the motion.

    Scans are motion compensated with the step before, as the odometry itself would.

    Args:
        frames: with points, in order; None for one that cannot be read, which is passed over.
        times: (N,) int64 nanoseconds of the same frames.

    Raises:
        BackendError: kiss-icp is not installed.
        InputError: a frame has no points.

    Source: Vizzo et al., "KISS-ICP", RA-L 2023.
    """
    odometry = _open_odometry()
    poses: list[Float64Array] = []
    step, period = np.eye(4), _NOMINAL_PERIOD
    registered = -1
    for index, frame in enumerate(frames):
        if frame is None:
            poses.append(poses[-1] if poses else np.eye(4))
            continue
        points, point_times = _finite_points(frame)
        if point_times is not None:
            points = move_points(points, point_times, step, period)
        odometry.register_frame(points.astype(np.float64), np.zeros(0))
        poses.append(np.array(odometry.last_pose))
        if registered >= 0 and times[index] > times[registered]:
            step = invert_transform(poses[registered]) @ poses[index]
            period = float(times[index] - times[registered]) * 1e-9
        registered = index
    return Trajectory(np.stack(poses), times, "LiDAR odometry (kiss-icp)")


def compensated_points(frame: Frame, trajectory: Trajectory, index: int) -> Float32Array:
    """Show a scan as if it had been taken at its stamp all at once.

    Args:
        frame: with points; without point times they stay as they are.
        trajectory: gives the motion.
        index: of the frame in the trajectory.

    Returns:
        (M, 3) float32 metres, LiDAR frame, finite points only.

    Raises:
        InputError: the frame has no points.
    """
    points, point_times = _finite_points(frame)
    if point_times is None:
        return points
    return move_points(points, point_times, *trajectory.motion(index))


def compensated_frame(frame: Frame, trajectory: Trajectory, index: int) -> Frame:
    """Undo the motion within a frame's scan, for sources that know it.

    Points are moved to the scan's own stamp, not on to the image's: in what is recorded with a
    rotating scanner the camera is triggered at that moment, and KITTI's stamps of the two differ
    by 10 ms all the same.

    Args:
        frame: with points; a sparse map stays as it is.
        trajectory: gives the motion.
        index: of the frame in the trajectory.

    Returns:
        The frame with finite points only and without point times.
    """
    if frame.points is None:
        return frame
    points = compensated_points(frame, trajectory, index)
    return dataclasses.replace(frame, points=points, point_times=None)


def _finite_points(frame: Frame) -> tuple[Float32Array, Float64Array | None]:
    """Give (M, 3) float32 points and (M,) times of a frame without its non-finite returns."""
    if frame.points is None:
        msg = f"frame {frame.name}: found sparse depth, expected a scan (points) to accumulate"
        raise InputError(msg)
    finite = np.isfinite(frame.points[:, :3]).all(axis=1)
    points: Float32Array = np.ascontiguousarray(frame.points[finite, :3])
    return points, None if frame.point_times is None else frame.point_times[finite]


def _read_steps(path: Path) -> Float64Array:
    from ..datasets.whole_file import read_text

    try:
        steps = json.loads(read_text(path))["next_in_this"]
    except (ValueError, KeyError, TypeError):
        msg = f"{path}: found no 'next_in_this', expected JSON with the pose of each next scan"
        raise InputError(msg) from None
    poses = [np.eye(4)]
    for i, step in enumerate(steps):
        poses.append(poses[-1] @ checked_transform(step, f"{path}: next_in_this[{i}]"))
    return np.stack(poses)


def _open_odometry() -> Any:
    try:
        from kiss_icp.config import load_config
        from kiss_icp.kiss_icp import KissICP
    except ImportError as error:
        msg = (
            "no poses: the source holds none and kiss-icp is not installed; give --poses FILE or "
            "pip install 'depth_completion[odometry]'"
        )
        raise BackendError(msg) from error
    config = load_config(None)
    config.data.deskew = False
    config.data.max_range = 100.0
    config.mapping.voxel_size = 1.0
    return KissICP(config)
