"""KITTI raw drives: full scans, one camera's images, the car's poses.

Layout: `DATE/calib_*.txt` and `DATE/DATE_drive_NNNN_sync/{image_0X,velodyne_points,oxts}`, each
with `data/NUMBER.*` and `timestamps.txt`. A drive that was rendered has exact depth in
`depth_gt/image_0X/NUMBER.png` as well, one with the depth benchmark's maps unpacked into it
accumulated depth in `proj_depth/groundtruth/image_0X/NUMBER.png`.
Not here: the depth benchmark's files made from these drives (`kitti_depth.py`).

Source: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import Float32Array, Float64Array, Frame
from ..errors import InputError
from .base import Dataset
from .calibration import (
    CAMERAS,
    KITTI_LIDAR_FRAME,
    Calibration,
    check_kitti_camera,
    read_calibration,
)
from .depth_png import read_depth_png
from .image_file import read_image_file
from .kitti_layout import IMAGE_SUFFIXES, numbered_files, read_stamps
from .oxts import open_oxts
from .scan_file import read_scan

# Nominal revolution of the scanner, where timestamps_start.txt and timestamps_end.txt are missing.
_REVOLUTION = 0.1


class KittiRawDrive(Dataset):
    """One synchronised drive, seen by one of its four cameras."""

    kind = "kitti_raw"
    lidar_frame = KITTI_LIDAR_FRAME

    def __init__(
        self, path: Path, *, camera: str = "image_02", calibration: Calibration | None = None
    ) -> None:
        """Look through the drive; images and scans are read later.

        Args:
            path: the `DATE_drive_NNNN_sync` folder.
            camera: `image_00` to `image_03`; the grey ones give three equal channels.
            calibration: used instead of the files of the date's folder.

        Raises:
            InputError: a folder or calibration file is missing, or no image has a scan.
            CalibrationError: the calibration cannot be true.
        """
        check_kitti_camera(camera)
        images = numbered_files(path / camera / "data", IMAGE_SUFFIXES)
        scans = numbered_files(path / "velodyne_points" / "data", (".bin",))
        if not images:
            msg = f"{path}: found no {camera}/data/*.png or *.jpg{_other_cameras(path)}"
            raise InputError(msg)
        if not scans:
            msg = f"{path}: found no velodyne_points/data/*.bin"
            raise InputError(msg)
        names = [name for name in images if name in scans]
        if not names:
            msg = f"{path}: found no image of {camera} with a scan of the same number"
            raise InputError(msg)
        super().__init__(path, names)
        self.skipped = {
            **{name: "no scan of this number" for name in images if name not in scans},
            **{name: f"no {camera} image of this number" for name in scans if name not in images},
        }
        self.camera = camera
        self.calibration = calibration or read_calibration(path.parent, camera=camera)
        self._images, self._scans = images, scans
        self._read_times()
        self._track = open_oxts(path)
        self.has_poses = self._track is not None
        self._ground_truth = {
            **numbered_files(path / "proj_depth" / "groundtruth" / camera, (".png",)),
            **numbered_files(path / "depth_gt" / camera, (".png",)),
        }
        self.has_ground_truth = bool(self._ground_truth)

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read exact or accumulated depth; see `Dataset.ground_truth`."""
        path = self._ground_truth.get(self.names[self._checked_index(index)])
        return None if path is None else read_depth_png(path)

    def T_world_lidar(self, index: int) -> Float64Array | None:
        """Give the pose of the scanner facing forward, from oxts; see `Dataset.T_world_lidar`."""
        index = self._checked_index(index)
        if self._track is None:
            return None
        stamp = int(self._points_stamps[index]) if self.has_times else None
        return self._track.T_world_lidar(self.names[index], stamp)

    def revolution(self, index: int) -> float:
        """Give the seconds that the scanner took for the scan of one frame."""
        return self._revolutions[self._checked_index(index)]

    def _read_frame(self, index: int) -> Frame:
        name = self.names[index]
        image = read_image_file(self._images[name])
        points = read_scan(self._scans[name])
        return Frame(
            image=image,
            camera=self.calibration.camera_for(image.shape[1], image.shape[0]),
            T_camera_lidar=self.calibration.T_camera_lidar,
            points=points,
            stamp=int(self.times[index]),
            points_stamp=int(self._points_stamps[index]),
            point_times=point_times_from_azimuth(points, self._revolutions[index]),
            name=name,
        )

    def _read_times(self) -> None:
        """Read the stamps of images and scans; without them frames come at nominal 10 Hz."""
        folder = self.path / "velodyne_points"
        image_times = read_stamps(self.path / self.camera / "timestamps.txt", self._images)
        middle = read_stamps(folder / "timestamps.txt", self._scans)
        start = read_stamps(folder / "timestamps_start.txt", self._scans)
        end = read_stamps(folder / "timestamps_end.txt", self._scans)
        self.has_times = all(name in image_times for name in self.names)
        if self.has_times:
            self.times = np.array([image_times[name] for name in self.names], np.int64)
        self._points_stamps = self.times.copy()
        self._revolutions = [_REVOLUTION] * len(self)
        for i, name in enumerate(self.names):
            if self.has_times and name in middle:
                self._points_stamps[i] = middle[name]
            if name in start and name in end and end[name] > start[name]:
                self._revolutions[i] = (end[name] - start[name]) * 1e-9


def point_times_from_azimuth(points: Float32Array, revolution: float) -> Float64Array:
    """Derive when each point was measured from the direction it was measured in.

    The scanner turns clockwise seen from above, and its stamp is the moment it faces forward: a
    point on the left was measured before, one on the right after it.

    Args:
        points: (N, 3+) float32 metres; x forward, y left.
        revolution: seconds of a full turn.

    Returns:
        (N,) float64 seconds after the forward moment, within half a revolution; 0 where x or y
        is not finite.
    """
    azimuth = np.arctan2(points[:, 1].astype(np.float64), points[:, 0].astype(np.float64))
    return np.nan_to_num(azimuth * (-revolution / (2 * np.pi)), nan=0.0)


def _other_cameras(path: Path) -> str:
    others = [name for name in CAMERAS if (path / name / "data").is_dir()]
    return f" (found {', '.join(others)})" if others else ""
