"""Miniature sources, made of a few bytes, for tests of the readers."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

# Numbers that a reader can follow: focal length 10, optical axes along the scanner's x.
CAM_TO_CAM = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_rect_02: 8.0e+00 6.0e+00
R_rect_00: 1 0 0 0 1 0 0 0 1
R_rect_02: 0 1 0 1 0 0 0 0 1
P_rect_02: 10 0 4 0.6 0 10 3 0 0 0 1 0
S_rect_03: 8.0e+00 6.0e+00
P_rect_03: 10 0 4 -4.8 0 10 3 0 0 0 1 0
S_rect_00: 8.0e+00 6.0e+00
P_rect_00: 10 0 4 0 0 10 3 0 0 0 1 0
"""
VELO_TO_CAM = """calib_time: 15-Mar-2012 11:37:16
R: 0 -1 0 0 0 -1 1 0 0
T: 0 0 -0.25
delta_f: 0 0
"""
IMU_TO_VELO = "R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n"
# A point straight ahead, one to the left, one to the right, one behind.
SCAN = np.array([[5, 0, 0, 0.1], [4, 1, 0, 0.2], [4, -1, 0, 0.3], [-5, 0, 0, 0.4]], np.float32)


def image(value: int = 0, *, width: int = 8, height: int = 6) -> np.ndarray:
    """(H, W, 3) uint8 BGR as OpenCV writes it; blue, green and red differ."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = value, 50, 200
    return picture


def write_image(path: Path, picture: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image() if picture is None else picture)
    return path


def write_depth(path: Path, metres: float = 5.0, *, width: int = 8, height: int = 6) -> Path:
    depth = np.zeros((height, width), np.uint16)
    depth[2, 3] = round(metres * 256)
    return write_image(path, depth)


def write_calibration(date: Path) -> None:
    date.mkdir(parents=True, exist_ok=True)
    (date / "calib_cam_to_cam.txt").write_text(CAM_TO_CAM)
    (date / "calib_velo_to_cam.txt").write_text(VELO_TO_CAM)
    (date / "calib_imu_to_velo.txt").write_text(IMU_TO_VELO)


def write_scan(path: Path, points: np.ndarray = SCAN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)
    return path


def write_stamps(path: Path, count: int, *, first: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamps = [round((first + 0.1 * i) * 1e9) for i in range(count)]
    text = "".join(f"2011-09-26 13:02:{s // 10**9:02d}.{s % 10**9:09d}\n" for s in stamps)
    path.write_text(text)


@pytest.fixture
def make_drive(tmp_path: Path) -> Callable[..., Path]:
    """Write a raw drive and give its `_sync` folder."""

    def make(
        numbers: tuple[int, ...] = (0, 1, 2),
        *,
        name: str = "2011_09_26_drive_0001_sync",
        root: Path | None = None,
    ) -> Path:
        date = (root or tmp_path) / name[:10]
        drive = date / name
        write_calibration(date)
        for number in numbers:
            for camera in ("image_02", "image_03"):
                write_image(drive / camera / "data" / f"{number:010d}.png", image(number))
            write_scan(drive / "velodyne_points" / "data" / f"{number:010d}.bin")
            oxts = drive / "oxts" / "data" / f"{number:010d}.txt"
            oxts.parent.mkdir(parents=True, exist_ok=True)
            oxts.write_text(f"49.0 {8.0 + number * 1e-5} 110.0 0 0 0 0 0 0 0")
        for camera in ("image_02", "image_03"):
            write_stamps(drive / camera / "timestamps.txt", len(numbers), first=0.010)
        for i, kind in enumerate(("_start", "", "_end")):
            path = drive / "velodyne_points" / f"timestamps{kind}.txt"
            write_stamps(path, len(numbers), first=0.05 * i)
        write_stamps(drive / "oxts" / "timestamps.txt", len(numbers), first=0.05)
        return drive

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of single frames and give it."""

    def make(*names: str, endings: tuple[str, ...] = ("sparse", "gt", "calib")) -> Path:
        folder = tmp_path / "frames"
        for name in names:
            write_image(folder / f"{name}_image.png")
            if "sparse" in endings:
                write_depth(folder / f"{name}_sparse.png", 5)
            if "gt" in endings:
                write_depth(folder / f"{name}_gt.png", 6)
            if "calib" in endings:
                calibration = {
                    "image_size": [8, 6],
                    "K": [[10, 0, 4], [0, 10, 3], [0, 0, 1]],
                    "D": [0, 0, 0, 0, 0],
                    "T_camera_lidar": [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]],
                }
                (folder / f"{name}_calib.json").write_text(json.dumps(calibration))
        return folder

    return make


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Give a context in which no file of this process grows beyond so many bytes.

    The system answers a write beyond the limit as it does on a full disk: with an error. It must
    be left before the test ends, as the file that pytest itself reports to is limited, too.
    """

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    return limited
