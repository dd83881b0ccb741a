"""Where the LiDAR was when: the motion of the robot between the stamps of cloud and image.

Not here: moving points (`geometry/motion.py`). No ROS is needed but for tf.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..data import Float32Array, Float64Array
from ..errors import CalibrationError
from ..geometry.motion import move_points
from ..geometry.transforms import invert_transform, rotation_from_vector, rotation_vector
from .extrinsics import TfExtrinsics

# Odometry comes at 10 Hz or more; poses farther apart say nothing about what is between them.
_LONGEST_GAP_NS = 500_000_000
# A motion may be continued this far beyond the last pose: one period of 20 Hz odometry.
_LONGEST_EXTRAPOLATION_NS = 50_000_000
_KEPT_POSES = 2000
_SHORTEST_PERIOD = 1e-3


class Motion(Protocol):
    """Answer how the LiDAR moved between two moments."""

    def between(
        self, lidar_frame: str, to_ns: int, from_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_to_from: (4, 4), takes points from the LiDAR's frame at `from_ns` to `to_ns`.

        Raises:
            CalibrationError: the motion is not known at one of the two moments.
        """
        ...


class OdometryTrack:
    """Poses of an odometry topic, interpolated."""

    def __init__(
        self,
        find_T_base_lidar: Callable[[str, str], Float64Array],
        timeout: float = 0.1,
    ) -> None:
        """Start without poses.

        Args:
            find_T_base_lidar: gives the (4, 4) transform from the LiDAR to the odometry's child
                frame for the names of both (child, LiDAR); may raise CalibrationError.
            timeout: seconds, longest wait for odometry that is still on its way.
        """
        self._find_T_base_lidar = find_T_base_lidar
        self._timeout = timeout
        self._base_frame = ""
        self._condition = threading.Condition()
        self._stamps: deque[int] = deque(maxlen=_KEPT_POSES)
        self._poses: deque[Float64Array] = deque(maxlen=_KEPT_POSES)

    def add(self, stamp_ns: int, T_odom_base: Float64Array, base_frame: str = "") -> None:
        """Remember a pose; a stamp before the last one starts again (a bag that loops)."""
        with self._condition:
            self._base_frame = base_frame
            if self._stamps and stamp_ns <= self._stamps[-1]:
                if stamp_ns == self._stamps[-1]:
                    return
                self._stamps.clear()
                self._poses.clear()
            self._stamps.append(stamp_ns)
            self._poses.append(T_odom_base)
            self._condition.notify_all()

    def between(
        self, lidar_frame: str, to_ns: int, from_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_to_from; waits until odometry has come so far, at most the timeout."""
        latest = max(to_ns, from_ns)
        with self._condition:
            self._condition.wait_for(
                lambda: give_up() or bool(self._stamps and self._stamps[-1] >= latest),
                timeout=self._timeout,
            )
            T_odom_to = self._at(to_ns)
            T_odom_from = self._at(from_ns)
        T_base_to_from = invert_transform(T_odom_to) @ T_odom_from
        T_base_lidar = self._find_T_base_lidar(self._base_frame, lidar_frame)
        return invert_transform(T_base_lidar) @ T_base_to_from @ T_base_lidar

    def _at(self, stamp_ns: int) -> Float64Array:
        """Interpolate between the two poses around a moment, or continue the last motion."""
        if len(self._stamps) < 2:
            found = "no pose" if not self._stamps else "one pose"
            msg = f"odometry: found {found} so far, expected two; is its topic published?"
            raise CalibrationError(msg)
        stamps = list(self._stamps)
        after = min(max(bisect_right(stamps, stamp_ns), 1), len(stamps) - 1)
        before = after - 1
        outside = max(stamps[before] - stamp_ns, stamp_ns - stamps[after], 0)
        if outside > _LONGEST_EXTRAPOLATION_NS:
            side = "before the first" if stamp_ns < stamps[0] else "after the last"
            msg = (
                f"odometry: {stamp_ns / 1e9:.3f} s is {outside / 1e6:.0f} ms {side} pose, "
                f"expected at most {_LONGEST_EXTRAPOLATION_NS / 1e6:.0f} ms"
            )
            raise CalibrationError(msg)
        period = stamps[after] - stamps[before]
        if period > _LONGEST_GAP_NS:
            msg = (
                f"odometry: found a gap of {period / 1e6:.0f} ms around {stamp_ns / 1e9:.3f} s, "
                f"expected at most {_LONGEST_GAP_NS / 1e6:.0f} ms"
            )
            raise CalibrationError(msg)
        fraction = (stamp_ns - stamps[before]) / period
        return interpolate_pose(self._poses[before], self._poses[after], fraction)


class TfMotion:
    """The motion of the LiDAR in tf, against a frame that stands still."""

    def __init__(self, tf: TfExtrinsics, fixed_frame: str) -> None:
        """Use tf look-ups.

        Args:
            tf: listens already.
            fixed_frame: such as `odom`.
        """
        self._tf = tf
        self._fixed_frame = fixed_frame

    def between(
        self, lidar_frame: str, to_ns: int, from_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_to_from."""
        return self._tf.between(
            lidar_frame, to_ns, lidar_frame, from_ns, self._fixed_frame, give_up
        )


def interpolate_pose(T_a: Float64Array, T_b: Float64Array, fraction: float) -> Float64Array:
    """Give the pose on the way from one to another, at constant velocity.

    Args:
        T_a, T_b: (4, 4) poses at 0 and 1.
        fraction: where; outside of [0, 1] the motion goes on.

    Returns:
        (4, 4) float64.
    """
    T = np.eye(4)
    turn = rotation_vector(T_a[:3, :3].T @ T_b[:3, :3])
    T[:3, :3] = T_a[:3, :3] @ rotation_from_vector(turn * fraction)
    T[:3, 3] = T_a[:3, 3] + (T_b[:3, 3] - T_a[:3, 3]) * fraction
    return T


def points_at_image_time(
    points: Float32Array,
    points_ns: int,
    point_times: Float64Array | None,
    image_ns: int,
    motion: Motion,
    lidar_frame: str,
    give_up: Callable[[], bool],
) -> Float32Array:
    """Move a cloud to where it would have been measured at the moment of the image.

    Args:
        points: (N, 3+) float32 metres in the LiDAR frame.
        points_ns: nanoseconds, the cloud's stamp.
        point_times: (N,) seconds after it, NaN where unknown, to deskew as well; None moves the
            cloud as a whole.
        image_ns: nanoseconds, the image's stamp.
        motion: of the LiDAR.
        lidar_frame: its frame_id.
        give_up: tells that waiting makes no sense any more.

    Returns:
        (N, 3+) float32 in the LiDAR frame at `image_ns`.

    Raises:
        CalibrationError: the motion is not known.
    """
    offset = (points_ns - image_ns) * 1e-9
    if point_times is None:
        if points_ns == image_ns:
            return points
        T = motion.between(lidar_frame, image_ns, points_ns, give_up)
        return move_points(points, 1.0, T, 1.0)
    times = np.nan_to_num(point_times) + offset
    if len(times) == 0:
        return points
    # The farthest point in time sets the velocity: nothing is extrapolated.
    period = float(times.max() if times.max() > -times.min() else times.min())
    if abs(period) < _SHORTEST_PERIOD:
        return points
    T = motion.between(lidar_frame, image_ns, image_ns + round(period * 1e9), give_up)
    return move_points(points, times, T, period)
