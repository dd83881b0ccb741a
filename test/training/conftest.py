"""Small frames whose every number can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")

from depth_completion_ros.data import Frame, PinholeCamera
from depth_completion_ros.training.sources import Example

WIDTH, HEIGHT = 96, 64
K = np.array([[80.0, 0, 45], [0, 80, 31.5], [0, 0, 1]])
# The LiDAR 0.1 m above and 0.3 m behind the camera, looking the same way.
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1.0]])


def street() -> np.ndarray:
    """Ground and a wall to the right, metres."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.where(rows > 30, 1020 / np.maximum(rows - 29.0, 1), 60.0)
    return np.where((columns > 60) & (rows < 50), 12.0, depth).clip(2, 60).astype(np.float32)


@pytest.fixture
def example() -> Example:
    """A frame measured on every fourth row, with dense truth."""
    depth = street()
    sparse = np.where(np.arange(HEIGHT)[:, None] % 4 == 1, depth, 0).astype(np.float32)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = np.arange(WIDTH)
    image[..., 1] = np.arange(HEIGHT)[:, None]
    camera = PinholeCamera(WIDTH, HEIGHT, K)
    frame = Frame(image, camera, T_CAMERA_LIDAR, sparse_depth=sparse, name="street")
    return Example(frame, depth, "0_street")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four frames in files: three with ground truth, `lidar_only` without."""
    path = tmp_path / "frames"
    path.mkdir()
    depth = street()
    calibration = {
        "image_size": [WIDTH, HEIGHT],
        "K": K.tolist(),
        "D": [],
        "T_camera_lidar": T_CAMERA_LIDAR.tolist(),
    }
    (path / "calib.json").write_text(json.dumps(calibration))
    for number, name in enumerate(("a_1", "a_2", "b_1", "lidar_only")):
        sparse = np.where(np.arange(HEIGHT)[:, None] % 4 == number % 4, depth, 0)
        image = np.full((HEIGHT, WIDTH, 3), 60 * number, np.uint8)
        cv2.imwrite(str(path / f"{name}_image.png"), image)
        cv2.imwrite(str(path / f"{name}_sparse.png"), (sparse * 256).astype(np.uint16))
        if name != "lidar_only":
            cv2.imwrite(str(path / f"{name}_gt.png"), (depth * 256).astype(np.uint16))
    return path
