"""How the recording vehicle and other traffic move along the street.

Not here: the street's course (`street.py`) and where on the vehicle the sensors sit (`rig.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...data import Float64Array
from .street import Street


@dataclass(frozen=True)
class Poses:
    """Hold N places and directions: p_world = R @ p_body + position.

    Attributes:
        R: (N, 3, 3) float64 rotations.
        position: (N, 3) float64 metres.
    """

    R: Float64Array
    position: Float64Array

    def matrices(self) -> Float64Array:
        """Give the poses as (N, 4, 4) transforms T_world_body."""
        T = np.zeros((len(self.R), 4, 4))
        T[:, :3, :3], T[:, :3, 3], T[:, 3, 3] = self.R, self.position, 1.0
        return T


def rotation_from_angles(roll: ArrayLike, pitch: ArrayLike, yaw: ArrayLike) -> Float64Array:
    """Turn roll, pitch and yaw into R = Rz(yaw) Ry(pitch) Rx(roll), as oxts means them.

    Args:
        roll: radians, positive lifts the left side.
        pitch: radians, positive lowers the front.
        yaw: radians, counter-clockwise from east.

    Returns:
        (..., 3, 3) float64.

    Source: KITTI raw development kit, convertOxtsToPose.
    """
    a, b, c = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (roll, pitch, yaw)))
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    rows = (
        (cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc),
        (cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc),
        (-sb, sa * cb, ca * cb),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(frozen=True)
class EgoMotion:
    """Drive along the right lane with a speed that varies, swaying a little.

    Attributes:
        street: where to drive.
        speed: mean, metres per second.
        phase: radians, where in its rhythm the drive begins.
    """

    street: Street
    speed: float
    phase: float

    def s(self, t: ArrayLike) -> Float64Array:
        """Metres along the street t seconds after the first frame."""
        t = np.asarray(t, np.float64)
        w = 0.5
        swing = 0.2 * (np.cos(self.phase) - np.cos(w * t + self.phase)) / w
        return np.asarray(self.speed * (t + swing), np.float64)

    def poses(self, t: ArrayLike) -> Poses:
        """Give the vehicle's frame on the ground below camera 0: x forward, y left, z up."""
        t = np.atleast_1d(np.asarray(t, np.float64))
        s, step = self.s(t), 0.05
        left = -self.street.lane / 2 + 0.12 * np.sin(0.11 * s + self.phase)
        bias = 0.12 * 0.11 * np.cos(0.11 * s + self.phase)
        ground = self.street.ground_height(s, left)
        rise = self.street.ground_height(s + step, left) - ground
        moving = min(1.0, self.speed)
        pitch = -np.arctan(rise / step) + 0.003 * moving * np.sin(7.1 * t + self.phase)
        roll = 0.004 * moving * np.sin(5.3 * t + 2 * self.phase)
        R = rotation_from_angles(roll, pitch, self.street.path.heading(s) + np.arctan(bias))
        place = np.concatenate((self.street.path.place(s, left), ground[:, None]), axis=1)
        return Poses(R, place)


@dataclass(frozen=True)
class TrafficMotion:
    """Move evenly along the street, or keep a slowly changing distance to the ego vehicle.

    Attributes:
        street: where to move.
        s0: metres along the street at time 0; with `ego` metres ahead of it.
        speed: metres per second along s, negative for oncoming; with `ego` relative to it.
        left: metres left of the middle.
        ego: whom to follow, or None.
    """

    street: Street
    s0: float
    speed: float
    left: float
    ego: EgoMotion | None = None

    def poses(self, t: ArrayLike) -> Poses:
        """Give the thing's frame on the ground at times t, (N,) seconds."""
        t = np.atleast_1d(np.asarray(t, np.float64))
        s = self.s0 + self.speed * t
        if self.ego is not None:
            s = s + self.ego.s(t)
        path = self.street.path
        s = np.clip(s, path.start, path.end)
        backwards = self.ego is None and self.speed < 0
        yaw = path.heading(s) + (np.pi if backwards else 0.0)
        pitch = -np.arctan(path.slope(s)) * (-1 if backwards else 1)
        R = rotation_from_angles(0.0 * s, pitch, yaw)
        height = self.street.ground_height(s, self.left)
        return Poses(R, np.concatenate((path.place(s, self.left), height[:, None]), axis=1))
