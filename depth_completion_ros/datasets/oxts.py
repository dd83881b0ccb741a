"""The poses that KITTI's inertial and GPS unit recorded.

Not here: pose files (`poses.py`). oxts is the noisier source: about 5 cm a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import Float64Array
from ..errors import InputError
from ..geometry.transforms import invert_transform, rotation_from_vector
from .calibration import read_imu_calibration
from .kitti_layout import numbered_files, read_stamps
from .poses import interpolate_pose
from .whole_file import read_text

_EARTH_RADIUS = 6378137.0


class OxtsTrack:
    """The scanner's way through one drive; records are read when the first pose is asked for."""

    def __init__(
        self, records: Mapping[str, Path], stamps: Mapping[str, int], T_lidar_imu: Float64Array
    ) -> None:
        """Remember where the records are.

        Args:
            records: file of each record, by frame name.
            stamps: nanoseconds of each record; may be empty.
            T_lidar_imu: (4, 4) mounting of the unit.
        """
        # Long drives hold a few records whose stamp goes back; they cannot be interpolated.
        latest, kept = -1, []
        for name in records:
            if not stamps or stamps.get(name, -1) > latest:
                latest = stamps.get(name, -1)
                kept.append(name)
        self._records = {name: records[name] for name in kept}
        self._index = {name: i for i, name in enumerate(kept)}
        self._stamps = np.array([stamps[name] for name in kept if name in stamps], np.int64)
        self._T_imu_lidar = invert_transform(T_lidar_imu)
        self._poses: Float64Array | None = None

    def T_world_lidar(self, name: str, stamp: int | None) -> Float64Array | None:
        """Give the pose at a stamp, or that of the record of this name where there is no stamp.

        Returns:
            (4, 4) float64; None if neither is known.
        """
        if self._poses is None:
            self._poses = read_oxts_poses(list(self._records.values())) @ self._T_imu_lidar
        if stamp is not None and len(self._stamps) > 1:
            return interpolate_pose(self._stamps, self._poses, stamp)
        if name not in self._index:
            return None
        return np.array(self._poses[self._index[name]])


def open_oxts(drive: Path) -> OxtsTrack | None:
    """Find the records of a drive; None if it has none or their mounting is not known."""
    records = numbered_files(drive / "oxts" / "data", (".txt",))
    calibration = drive.parent / "calib_imu_to_velo.txt"
    if not records or not calibration.is_file():
        return None
    stamps = read_stamps(drive / "oxts" / "timestamps.txt", records)
    return OxtsTrack(records, stamps, read_imu_calibration(calibration))


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
