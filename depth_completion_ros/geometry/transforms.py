"""Rigid transforms as 4x4 matrices.

Not here: looking transforms up (tf2 in the node) or reading them from files (`datasets/`).
`T_a_b` takes a point from frame b to frame a. Look next at `motion.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..data import Float64Array
from ..errors import CalibrationError


def transform_from_quaternion(translation: ArrayLike, quaternion: ArrayLike) -> Float64Array:
    """Build a transform from what ROS messages and YAML files hold.

    Args:
        translation: (3,) metres.
        quaternion: (4,) x, y, z, w as in geometry_msgs/Quaternion; need not be normalised.

    Returns:
        (4, 4) float64.

    Raises:
        CalibrationError: the quaternion is zero or not finite.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if q.shape != (4,) or not np.isfinite(norm) or norm < 1e-9:
        msg = f"quaternion: found {q.tolist()}, expected x y z w of length 1"
        raise CalibrationError(msg)
    x, y, z, w = q / norm
    T = np.eye(4)
    T[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    T[:3, 3] = np.asarray(translation, dtype=np.float64)
    return T


def quaternion_from_rotation(R: Float64Array) -> Float64Array:
    """Turn a rotation into the x, y, z, w of geometry_msgs/Quaternion.

    Args:
        R: (3, 3) rotation.

    Returns:
        (4,) float64 of length 1 with w >= 0.

    Source: Shepperd, "Quaternion from rotation matrix", 1978: divide by the largest component.
    """
    trace = float(np.trace(R))
    squares = np.array([1 + 2 * R[0, 0] - trace, 1 + 2 * R[1, 1] - trace, 1 + 2 * R[2, 2] - trace])
    largest = int(np.argmax([*squares, 1 + trace]))
    q = np.empty(4)
    if largest == 3:
        q[:] = (R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace)
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q[i] = squares[i]
        q[j] = R[j, i] + R[i, j]
        q[k] = R[k, i] + R[i, k]
        q[3] = R[k, j] - R[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0 else q


def invert_transform(T: Float64Array) -> Float64Array:
    """Turn T_a_b into T_b_a without a general matrix inversion.

    Args:
        T: (4, 4) rigid transform.

    Returns:
        (4, 4) float64.
    """
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse


def rotation_vector(R: Float64Array) -> Float64Array:
    """Give axis times angle of a rotation, the inverse of `rotation_from_vector`.

    Args:
        R: (3, 3) rotation.

    Returns:
        (3,) float64 radians, at most pi long.
    """
    q = quaternion_from_rotation(R)
    sine = float(np.linalg.norm(q[:3]))
    if sine < 1e-12:
        return q[:3] * 2.0
    vector: Float64Array = q[:3] * (2 * np.arctan2(sine, q[3]) / sine)
    return vector


def rotation_from_vector(vectors: ArrayLike) -> Float64Array:
    """Turn axis times angle into rotations (Rodrigues' formula), many at once.

    Args:
        vectors: (..., 3) radians.

    Returns:
        (..., 3, 3) float64.
    """
    v = np.asarray(vectors, dtype=np.float64)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    K = np.zeros((*v.shape[:-1], 3, 3))
    K[..., 0, 1], K[..., 0, 2], K[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    K -= np.swapaxes(K, -1, -2)
    # sin(a)/a and (1 - cos(a))/a**2 as sinc, which is exact at 0.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    rotations: Float64Array = np.eye(3) + first * K + second * (K @ K)
    return rotations
