"""KITTI raw drives: full scans, one camera's images, the car's poses.

Layout: `DATE/calib_*.txt` and `DATE/DATE_drive_NNNN_sync/{image_0X,velodyne_points,oxts}`, each
with `data/NUMBER.*` and `timestamps.txt`. A drive that was rendered has exact depth in
`depth_gt/image_0X/NUMBER.png` as well.
Not here: the depth benchmark's files made from these drives (`kitti_depth.py`).

Source: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import Float32Array, Float64Array, Frame
from ..errors import InputError
from ..geometry.transforms import invert_transform
from .base import Dataset
from .calibration import (
    CAMERAS,
    KITTI_LIDAR_FRAME,
    Calibration,
    check_kitti_camera,
    read_calibration,
    read_imu_calibration,
)
from .depth_png import read_depth_png
from .image_file import read_image_file
from .poses import interpolate_pose, read_oxts_poses
from .scan_file import read_scan
from .whole_file import read_text

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Nominal revolution of the scanner, where timestamps_start.txt and timestamps_end.txt are missing.
_REVOLUTION = 0.1
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")


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
        self._prepare_poses()
        self._ground_truth = numbered_files(path / "depth_gt" / camera, (".png",))
        self.has_ground_truth = bool(self._ground_truth)

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read exact depth of a rendered drive; see `Dataset.ground_truth`."""
        path = self._ground_truth.get(self.names[self._checked_index(index)])
        return None if path is None else read_depth_png(path)

    def T_world_lidar(self, index: int) -> Float64Array | None:
        """Give the pose of the scanner facing forward, from oxts; see `Dataset.T_world_lidar`."""
        index = self._checked_index(index)
        if not self.has_poses:
            return None
        if self._poses is None:
            poses = read_oxts_poses([self._oxts[name] for name in self._pose_names])
            self._poses = poses @ self._T_imu_lidar
        if self._pose_times is None:
            return self._poses[self._pose_names.index(self.names[index])]
        return interpolate_pose(self._pose_times, self._poses, int(self._points_stamps[index]))

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

    def _prepare_poses(self) -> None:
        self._poses: Float64Array | None = None
        self._pose_times = None
        self._oxts = numbered_files(self.path / "oxts" / "data", (".txt",))
        self._pose_names = list(self._oxts)
        calibration = self.path.parent / "calib_imu_to_velo.txt"
        if not self._oxts or not calibration.is_file():
            return
        self._T_imu_lidar = invert_transform(read_imu_calibration(calibration))
        stamps = read_stamps(self.path / "oxts" / "timestamps.txt", self._oxts)
        if self.has_times and len(stamps) > 1:
            # Some records of the long drives carry a stamp that goes back; they are passed over.
            latest, kept = 0, []
            for name in self._pose_names:
                if stamps.get(name, 0) > latest:
                    latest = stamps[name]
                    kept.append(name)
            self._pose_names = kept
            self._pose_times = np.array([stamps[name] for name in kept], np.int64)
            self.has_poses = True
        else:
            self.has_poses = all(name in self._oxts for name in self.names)


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


def find_drives(path: Path) -> list[Path]:
    """List the drives at a path: the drive itself, those of a date or those of all dates."""
    found = []
    for folder in _subfolders(path):
        found += (
            [folder] if _is_drive(folder) else [p for p in _subfolders(folder) if _is_drive(p)]
        )
    return found


def numbered_files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Map the names of the files in a folder without their suffix to their paths, in order."""
    if not folder.is_dir():
        return {}
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.stem.isdigit()]
    return {p.stem: p for p in sorted(files, key=lambda p: (int(p.stem), p.suffix))}


def read_stamps(path: Path, files: Mapping[str, Path]) -> dict[str, int]:
    """Read a `timestamps.txt` and tell which line belongs to which file.

    Where single files are missing, some drives keep their lines and others do not: if there are
    lines up to the largest number, the number counts; if there are as many lines as files, their
    order does.

    Args:
        path: one `YYYY-MM-DD HH:MM:SS.nnnnnnnnn` a line; the clock is taken for UTC.
        files: what the stamps belong to, by number.

    Returns:
        Nanoseconds since 1970 by name; empty if there is no such file.

    Raises:
        InputError: a line is no time, or lines and files cannot be matched.
    """
    if not path.is_file() or not files:
        return {}
    lines = read_text(path).rstrip().splitlines()
    stamps = [_parse_stamp(path, i + 1, line) for i, line in enumerate(lines)]
    if len(stamps) > max(int(name) for name in files):
        by_number = {name: stamps[int(name)] for name in files}
        return {name: stamp for name, stamp in by_number.items() if stamp is not None}
    present = [stamp for stamp in stamps if stamp is not None]
    if len(present) != len(files):
        msg = f"{path}: found {len(present)} stamps for {len(files)} files; is the drive complete?"
        raise InputError(msg)
    return dict(zip(files, present, strict=True))


def _parse_stamp(path: Path, number: int, line: str) -> int | None:
    if not line.strip():
        return None
    match = _STAMP.fullmatch(line.strip())
    if match is None:
        msg = f"{path}: line {number}: found {line[:40]!r}, expected YYYY-MM-DD HH:MM:SS.nnnnnnnnn"
        raise InputError(msg)
    *parts, fraction = match.groups()
    seconds = calendar.timegm((*(int(part) for part in parts), 0, 0, 0))
    # Digit by digit: a float holds microseconds at best.
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def _is_drive(path: Path) -> bool:
    return any((path / name / "data").is_dir() for name in (*CAMERAS, "velodyne_points"))


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _other_cameras(path: Path) -> str:
    others = [name for name in CAMERAS if (path / name / "data").is_dir()]
    return f" (found {', '.join(others)})" if others else ""
