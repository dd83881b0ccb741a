"""The vehicle's motion as the files of KITTI's GPS and inertial unit tell it.

Not here: the motion itself (`trajectory.py`). Read back with the development kit's Mercator
formula the files give the exact poses to well below a millimetre.
"""

from __future__ import annotations

import numpy as np

from ...data import Float64Array
from .rig import Rig
from .trajectory import EgoMotion

_EARTH_RADIUS = 6378137.0
# Where the first frame is: a place in the middle of Europe, 100 m above the sea.
_LATITUDE, _LONGITUDE, _ALTITUDE = 49.0, 8.4, 100.0
# Accuracies and receiver states of a good fix, as in the real files.
_STATE = "0.05 0.02 4 8 4 4 0"

DATA_FORMAT = """\
lat:     latitude (deg)
lon:     longitude (deg)
alt:     altitude (m)
roll:    roll angle (rad), positive = left side up
pitch:   pitch angle (rad), positive = front down
yaw:     heading (rad), 0 = east, positive = counter clockwise
vn, ve:  velocity towards north and east (m/s)
vf, vl, vu: velocity forward, left and up (m/s)
ax, ay, az: acceleration along the vehicle's x, y, z (m/s^2)
af, al, au: acceleration forward, left and up (m/s^2)
wx, wy, wz: angular rate around the vehicle's x, y, z (rad/s)
wf, wl, wu: angular rate around forward, left and up (rad/s)
pos_accuracy, vel_accuracy, navstat, numsats, posmode, velmode, orimode
"""


def imu_poses(ego: EgoMotion, rig: Rig, times: Float64Array) -> Float64Array:
    """Give T_world_imu at some times.

    Args:
        ego: motion of the vehicle.
        rig: where the IMU sits.
        times: (N,) seconds after the first frame.

    Returns:
        (N, 4, 4) float64.
    """
    return ego.poses(times).matrices() @ rig.T_base_imu


def oxts_lines(ego: EgoMotion, rig: Rig, times: Float64Array) -> list[str]:
    """Write the line of each frame's file.

    Args:
        ego: motion of the vehicle.
        rig: where the IMU sits.
        times: (N,) seconds of the frames; the first one is at 49 degrees north, 8.4 east.

    Returns:
        N lines of 30 numbers.

    Source: KITTI raw development kit, convertOxtsToPose and dataformat.txt.
    """
    step = 0.01
    T = imu_poses(ego, rig, times)
    before, after = imu_poses(ego, rig, times - step), imu_poses(ego, rig, times + step)
    velocity = (after[:, :3, 3] - before[:, :3, 3]) / (2 * step)
    acceleration = (after[:, :3, 3] - 2 * T[:, :3, 3] + before[:, :3, 3]) / step**2
    turn = np.swapaxes(before[:, :3, :3], 1, 2) @ after[:, :3, :3]
    skew = (turn - np.swapaxes(turn, 1, 2)) / (4 * step)
    rate = np.stack((skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]), axis=1)
    R = T[:, :3, :3]
    yaw = np.arctan2(R[:, 1, 0], R[:, 0, 0])
    pitch = np.arctan2(-R[:, 2, 0], np.hypot(R[:, 0, 0], R[:, 1, 0]))
    roll = np.arctan2(R[:, 2, 1], R[:, 2, 2])
    scale = np.cos(np.radians(_LATITUDE))
    offset = T[:, :3, 3] - T[0, :3, 3]
    lon = _LONGITUDE + np.degrees(offset[:, 0] / (scale * _EARTH_RADIUS))
    north = scale * _EARTH_RADIUS * np.log(np.tan(np.radians(90 + _LATITUDE) / 2))
    lat = np.degrees(2 * np.arctan(np.exp((north + offset[:, 1]) / (scale * _EARTH_RADIUS)))) - 90
    alt = _ALTITUDE + offset[:, 2]
    level = np.stack((np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)), axis=1)
    lines = []
    for i in range(len(times)):
        forward, left = level[i].reshape(2, 2)
        flat = [(forward @ a[:2], left @ a[:2], a[2]) for a in (velocity[i], acceleration[i])]
        spin = R[i] @ rate[i]
        numbers = [
            lat[i], lon[i], alt[i], roll[i], pitch[i], yaw[i], velocity[i, 1], velocity[i, 0],
            *flat[0], *(R[i].T @ (acceleration[i] + (0, 0, 9.81))), *flat[1], *rate[i],
            forward @ spin[:2], left @ spin[:2], spin[2],
        ]  # fmt: skip
        lines.append(" ".join(f"{float(x):.13f}" for x in numbers) + f" {_STATE}\n")
    return lines
