"""Points moved to the moment of the image: motion between two stamps and within one scan.

Not here: where the motion comes from (odometry, tf, poses of a drive).
"""

from __future__ import annotations

import numpy as np

from ..data import Float32Array, Float64Array
from .transforms import rotation_from_vector, rotation_vector


def move_points(
    points: Float32Array,
    times: Float64Array | float,
    T_next: Float64Array,
    period: float,
) -> Float32Array:
    """Show points where they would have been measured at time zero (deskewing).

    The sensor moves evenly: `T_next` in `period` seconds. A point measured at time t is taken into
    the sensor's frame of time 0, for static surroundings.

    Args:
        points: (N, 3+) float32 metres in the sensor frame of each point's own time; columns after
            the third are kept.
        times: (N,) float64 seconds relative to the wanted moment, or one number for all.
        T_next: (4, 4) pose of the sensor after `period` in its frame at time 0.
        period: seconds.

    Returns:
        (N, 3+) float32, same columns.

    Source: constant rotation axis and velocity, as in KISS-ICP (Vizzo et al., RA-L 2023).
    """
    fraction = np.asarray(times, dtype=np.float64) / period
    rotation = rotation_vector(T_next[:3, :3])
    translation = T_next[:3, 3]
    moved = points.copy()
    if fraction.ndim == 0:
        R = rotation_from_vector(rotation * fraction)
        moved[:, :3] = points[:, :3] @ R.T + translation * fraction
        return moved
    # Rodrigues without a matrix per point: the axis is the same for all.
    angle = float(np.linalg.norm(rotation))
    xyz = points[:, :3].astype(np.float64)
    if angle > 1e-12:
        axis = rotation / angle
        turned = angle * fraction[:, None]
        cross = np.cross(axis, xyz)
        along = np.outer(xyz @ axis, axis)
        xyz = along + (xyz - along) * np.cos(turned) + cross * np.sin(turned)
    moved[:, :3] = xyz + fraction[:, None] * translation
    return moved
