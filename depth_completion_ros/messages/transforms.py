"""Transforms and poses of geometry_msgs and nav_msgs as 4x4 matrices, and back.

Not here: looking a transform up in tf (the node does) and moving points by it (`geometry/`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Float64Array, checked_transform
from ..geometry.transforms import quaternion_from_rotation, transform_from_quaternion
from .headers import header_fields


def read_transform(msg: Any) -> Float64Array:
    """Read a Transform or TransformStamped.

    Args:
        msg: anything with `translation` and `rotation`, or with `transform` that has them.

    Returns:
        (4, 4) float64; of a stamped one T_a_b where a is `header.frame_id` and b
        `child_frame_id`.

    Raises:
        CalibrationError: the quaternion is zero or a number is not finite.
    """
    transform = getattr(msg, "transform", msg)
    return _matrix(transform.translation, transform.rotation, "transform")


def read_pose(msg: Any) -> Float64Array:
    """Read a Pose, also inside PoseStamped, PoseWithCovarianceStamped and Odometry.

    Args:
        msg: anything with `position` and `orientation`, or with `pose` that leads to them.

    Returns:
        (4, 4) float64; of an Odometry T_odom_base with odom in `header.frame_id` and base in
        `child_frame_id`.

    Raises:
        CalibrationError: the quaternion is zero or a number is not finite.
    """
    pose = msg
    while hasattr(pose, "pose"):
        pose = pose.pose
    return _matrix(pose.position, pose.orientation, "pose")


def transform_fields(T: Float64Array) -> dict[str, Any]:
    """Give the fields of geometry_msgs/Transform.

    Args:
        T: (4, 4) rigid transform, metres.

    Returns:
        Fields for `fill_message` and `build_message`.
    """
    x, y, z, w = quaternion_from_rotation(T[:3, :3]).tolist()
    translation = dict(zip("xyz", T[:3, 3].tolist(), strict=True))
    return {"translation": translation, "rotation": {"x": x, "y": y, "z": z, "w": w}}


def pose_fields(T: Float64Array) -> dict[str, Any]:
    """Give the fields of geometry_msgs/Pose, for Odometry and PoseStamped.

    Args:
        T: (4, 4) rigid transform, metres.

    Returns:
        Fields for `fill_message` and `build_message`.
    """
    fields = transform_fields(T)
    return {"position": fields["translation"], "orientation": fields["rotation"]}


def stamped_transform_fields(
    T_parent_child: Float64Array, parent: str, child: str, *, stamp: int = 0
) -> dict[str, Any]:
    """Give the fields of geometry_msgs/TransformStamped, the elements of tf2_msgs/TFMessage.

    Args:
        T_parent_child: (4, 4) rigid transform: p_parent = T_parent_child @ p_child.
        parent, child: frame names.
        stamp: nanoseconds.

    Returns:
        Fields for `fill_message` and `build_message`.
    """
    return {
        "header": header_fields(stamp, parent),
        "child_frame_id": child,
        "transform": transform_fields(T_parent_child),
    }


def _matrix(position: Any, rotation: Any, name: str) -> Float64Array:
    translation = np.array((position.x, position.y, position.z), dtype=np.float64)
    quaternion = (rotation.x, rotation.y, rotation.z, rotation.w)
    return checked_transform(transform_from_quaternion(translation, quaternion), name)
