"""Where the sensors sit on the vehicle, and the calibration files that say so.

Not here: how the vehicle moves (`trajectory.py`). The base frame is on the ground below camera 0:
x forward, y left, z up. The files have KITTI's keys and conventions, traps included: camera 2 is
shifted against camera 0 by the fourth column of P_rect_02.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...data import Float64Array
from ...geometry.transforms import invert_transform, rotation_from_vector
from .recipe import SyntheticRecipe
from .trajectory import rotation_from_angles

# A camera's x right, y down, z forward in a body's x forward, y left, z up.
_R_BODY_OPTICAL = np.array(((0.0, 0, 1), (-1, 0, 0), (0, -1, 0)))
# Size of the misalignments of KITTI's car: rectification, LiDAR against cameras, IMU.
_RECTIFICATION = (0.0043, -0.0075, -0.0098)
_LIDAR_TILT = (0.006, -0.009, 0.004)
_IMU_TILT = (0.0148, -0.0020, -0.0008)
_IMU_IN_LIDAR = (-0.81, 0.32, -0.80)
_CAMERA_2_SHIFT = np.array((0.0598, 0.0003, 0.0027))


@dataclass(frozen=True)
class Rig:
    """Hold the sensors' places.

    Attributes:
        K: (3, 3) intrinsics of every rectified camera, pixel centres at integers.
        width, height: size of the images.
        T_base_rect: (4, 4) camera 0, rectified, in the base frame.
        T_base_lidar: (4, 4) LiDAR in the base frame.
        T_lidar_imu: (4, 4) IMU in the LiDAR's frame.
        R_rect: (3, 3) from camera 0 as mounted to rectified.
        shifts: (4, 3) metres by camera: p_projection = p_rect + shift.
    """

    K: Float64Array
    width: int
    height: int
    T_base_rect: Float64Array
    T_base_lidar: Float64Array
    T_lidar_imu: Float64Array
    R_rect: Float64Array
    shifts: Float64Array

    @property
    def T_rect_lidar(self) -> Float64Array:
        """Give the (4, 4) transform from the LiDAR to rectified camera 0."""
        return invert_transform(self.T_base_rect) @ self.T_base_lidar

    @property
    def T_base_imu(self) -> Float64Array:
        """Give the (4, 4) place of the IMU in the base frame."""
        return self.T_base_lidar @ self.T_lidar_imu


def build_rig(recipe: SyntheticRecipe) -> Rig:
    """Mount the sensors of a recipe.

    Args:
        recipe: without `randomise`.

    Returns:
        The rig.
    """
    focal = recipe.width / 2 / np.tan(np.radians(recipe.camera_fov_deg) / 2)
    # KITTI's principal point is about 2 % off the middle; so is this one.
    cx, cy = 0.491 * recipe.width - 0.5, 0.4625 * recipe.height - 0.5
    K = np.array(((focal, 0, cx), (0, focal, cy), (0, 0, 1)))
    pitch = np.radians(recipe.camera_pitch_deg)
    T_base_rect = _transform(
        rotation_from_angles(0.0, pitch, 0.0) @ _R_BODY_OPTICAL, (0, 0, recipe.camera_height)
    )
    T_base_lidar = _transform(
        rotation_from_vector(_LIDAR_TILT),
        (-recipe.lidar_behind, recipe.lidar_left, recipe.camera_height + recipe.lidar_above),
    )
    T_lidar_imu = _transform(rotation_from_vector(_IMU_TILT), _IMU_IN_LIDAR)
    shifts = np.zeros((4, 3))
    shifts[1, 0] = -recipe.baseline
    shifts[2] = _CAMERA_2_SHIFT
    shifts[3] = _CAMERA_2_SHIFT - (recipe.baseline, 0, 0)
    return Rig(
        K, recipe.width, recipe.height, T_base_rect, T_base_lidar, T_lidar_imu,
        rotation_from_vector(_RECTIFICATION), shifts,
    )  # fmt: skip


def calibration_files(rig: Rig) -> dict[str, str]:
    """Write the rig down as KITTI's three calibration files.

    Args:
        rig: the sensors' places.

    Returns:
        Content by file name.

    Source: KITTI raw data set, calib_cam_to_cam.txt, calib_velo_to_cam.txt, calib_imu_to_velo.txt.
    """
    time = "calib_time: 21-Jun-2024 09:00:00"
    cameras = [time, "corner_dist: 9.950000e-02"]
    size = f"{rig.width:.6e} {rig.height:.6e}"
    for index, shift in enumerate(rig.shifts):
        P = np.column_stack((rig.K, rig.K @ shift))
        turn = rig.R_rect if index == 0 else np.eye(3)
        cameras += [
            f"S_{index:02}: {size}",
            f"K_{index:02}: {_text(rig.K)}",
            f"D_{index:02}: {_text(np.zeros(5))}",
            f"R_{index:02}: {_text(np.eye(3))}",
            f"T_{index:02}: {_text(shift)}",
            f"S_rect_{index:02}: {size}",
            f"R_rect_{index:02}: {_text(turn)}",
            f"P_rect_{index:02}: {_text(P)}",
        ]
    T_camera_lidar = rig.T_rect_lidar.copy()
    T_camera_lidar[:3] = rig.R_rect.T @ T_camera_lidar[:3]
    lidar = [
        time,
        f"R: {_text(T_camera_lidar[:3, :3])}",
        f"T: {_text(T_camera_lidar[:3, 3])}",
        f"delta_f: {_text(np.zeros(2))}",
        f"delta_c: {_text(np.zeros(2))}",
    ]
    imu = [time, f"R: {_text(rig.T_lidar_imu[:3, :3])}", f"T: {_text(rig.T_lidar_imu[:3, 3])}"]
    return {
        "calib_cam_to_cam.txt": "\n".join(cameras) + "\n",
        "calib_velo_to_cam.txt": "\n".join(lidar) + "\n",
        "calib_imu_to_velo.txt": "\n".join(imu) + "\n",
    }


def _transform(R: Float64Array, t: ArrayLike) -> Float64Array:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def _text(numbers: Float64Array) -> str:
    return " ".join(f"{number:.12e}" for number in numbers.ravel())
