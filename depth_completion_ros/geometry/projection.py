"""LiDAR points to sparse depth and depth back to points.

Not here: points that the camera cannot see although the LiDAR can (`occlusion.py`).
Look next at `camera.py` for lenses and at `motion.py` for points taken at another time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, PinholeCamera, checked_transform
from .camera import distort_normalised, normalised_pixels
from .transforms import invert_transform

# Fewer points than this share of the image's columns say nothing about the calibration.
_FEW_POINTS = 20

# Cosine of the tilt up to which a LiDAR counts as upright: 45 degrees.
_UPRIGHT = 0.7

# Metres; beyond, float32 cannot tell reliably what is in view (map coordinates, say).
_NEAR_FRAMES = 100.0
_DEPTH_MARGIN = np.float32(1e-2)


def project_points(
    points: Float32Array,
    camera: PinholeCamera,
    T_camera_lidar: Float64Array,
    *,
    min_depth: float = 0.5,
    max_depth: float = 250.0,
) -> Float32Array:
    """Render LiDAR points to sparse depth; the nearest return wins a pixel.

    A point falls on the pixel whose centre is nearest; exactly between two it falls on the one to
    the right and below (floor(u + 0.5)). Which point wins does not depend on their order.

    Args:
        points: (N, 3+) float32, metres, LiDAR frame. Non-finite rows are skipped.
        camera: pinhole model of the image the depth is for.
        T_camera_lidar: (4, 4) float64, rigid: p_camera = T_camera_lidar @ p_lidar.
        min_depth, max_depth: metres along z; points outside are dropped.

    Returns:
        (H, W) float32, metres along z, 0 where no point fell.

    Raises:
        CalibrationError: the transform is not rigid.

    Source: REP 118; pixel centres at integers as in sensor_msgs/CameraInfo.
    """
    u, v, z = _pixels(points, camera, checked_transform(T_camera_lidar))
    keep = (z >= min_depth) & (z <= max_depth) & (z > 0)
    keep &= (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    index = (v[keep] * camera.width + u[keep]).astype(np.intp)
    depth = np.zeros(camera.height * camera.width, np.float32)
    depth[index] = np.inf
    # Order-independent, hence the same result for the same points in any order.
    np.minimum.at(depth, index, z[keep].astype(np.float32))
    return depth.reshape(camera.height, camera.width)


def visible_pixels(
    points: Float32Array, camera: PinholeCamera, T_camera_lidar: Float64Array
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32Array]:
    """Give the pixel and depth of every point in the image, for more than the nearest of each.

    Args:
        points: (N, 3+) float32 metres, LiDAR frame.
        camera: pinhole model.
        T_camera_lidar: (4, 4) rigid transform.

    Returns:
        Row, column and metres along z of the M points that fall into the image, each (M,).
    """
    u, v, z = _pixels(points, camera, checked_transform(T_camera_lidar))
    inside = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    row, column = v[inside].astype(np.intp), u[inside].astype(np.intp)
    return row, column, z[inside].astype(np.float32)


def _pixels(
    points: Float32Array, camera: PinholeCamera, T: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Give rounded column, rounded row and depth of the points that may be in view, float64."""
    R, t = T[:3, :3], T[:3, 3] + camera.shift
    K = camera.K
    # NaN, infinity and points in the plane of the camera are no error: they fall on no pixel.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        p: Float64Array = R @ _possibly_visible(points, camera, R, t).T.astype(np.float64)
        p += t[:, None]
        if camera.is_distorted:
            p = p[:, p[2] > 0]
        z = p[2]
        x, y = p[:2] / z
        if camera.is_distorted:
            x, y = distort_normalised(np.column_stack((x, y)), camera).T
        u = K[0, 0] * x + (K[0, 2] + 0.5)
        if K[0, 1]:
            u += K[0, 1] * y
        v = K[1, 1] * y + (K[1, 2] + 0.5)
        return np.floor(u), np.floor(v), z


def _possibly_visible(
    points: Float32Array, camera: PinholeCamera, R: Float64Array, t: Float64Array
) -> Float32Array:
    """Give the (M, 3) points that are not surely outside the view.

    A LiDAR looks all around: one in six of its points is in the image. Finding these in float32
    leaves little to be done in float64. Its error is far below the margins of a centimetre in
    depth and half a pixel beside the image as long as the frames lie within `_NEAR_FRAMES`.
    """
    xyz: Float32Array = points[:, :3]
    if np.abs(t).max() > _NEAR_FRAMES:
        return xyz
    if camera.is_distorted:
        front: Float32Array = xyz[xyz @ R[2].astype(np.float32) > -_DEPTH_MARGIN - t[2]]
        return front
    # In view is what lies at most half the image, and a pixel, beside the centre.
    half = np.array([0.5 * camera.width + 0.5, 0.5 * camera.height + 0.5])
    N = np.array([[1 / half[0], 0, 1 / half[0] - 1], [0, 1 / half[1], 1 / half[1] - 1], [0, 0, 1]])
    P = (N @ camera.K @ np.column_stack((R, t))).astype(np.float32)
    aside = P[:, :3] @ xyz.T
    aside += P[:, 3:]
    depth = aside[2] + _DEPTH_MARGIN
    inside: NDArray[np.bool_] = np.abs(aside[:2], out=aside[:2]) <= depth
    seen: Float32Array = xyz[inside[0] & inside[1]]
    return seen


def unproject_depth(depth: Float32Array, camera: PinholeCamera) -> Float32Array:
    """Turn a depth map into points of the camera's optical frame.

    Args:
        depth: (H, W) float32 metres along z, 0 = none.
        camera: pinhole model of the map.

    Returns:
        (H, W, 3) float32 metres in `camera.frame_id`, NaN where depth is 0.

    Source: REP 118.
    """
    rays = normalised_pixels(camera)
    z = np.where(depth > 0, depth, np.float32(np.nan))
    points = np.empty((*depth.shape, 3), np.float32)
    points[..., 0] = rays[..., 0] * z
    points[..., 1] = rays[..., 1] * z
    points[..., 2] = z
    if np.any(camera.shift):
        points -= camera.shift.astype(np.float32)
    return points


def count_visible(
    points: Float32Array, camera: PinholeCamera, T_camera_lidar: Float64Array
) -> int:
    """Count the points that fall into the image, to judge a calibration.

    Args:
        points: (N, 3+) float32 metres, LiDAR frame.
        camera: pinhole model.
        T_camera_lidar: (4, 4) rigid transform.

    Returns:
        Number of finite points in front of the camera and inside the image.
    """
    u, v, z = _pixels(points, camera, checked_transform(T_camera_lidar))
    visible: NDArray[np.bool_] = (
        (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    )
    return int(np.count_nonzero(visible))


def question_extrinsics(
    points: Float32Array, camera: PinholeCamera, T_camera_lidar: Float64Array
) -> str | None:
    """Ask whether the extrinsics are the inverse of what was meant.

    Args:
        points: (N, 3+) float32 metres, LiDAR frame.
        camera: pinhole model.
        T_camera_lidar: (4, 4) rigid transform.

    Returns:
        None if nothing looks wrong; else one line that says why. Extrinsics are doubted when few
        points fall into the image while the inverse transform shows clearly more, and when a
        LiDAR that would stand upright with the inverse lies on its side in the image.
    """
    finite = int(np.count_nonzero(np.isfinite(points[:, :3]).all(axis=1)))
    if finite < _FEW_POINTS:
        return None
    T = checked_transform(T_camera_lidar)
    visible = count_visible(points, camera, T)
    inverse = count_visible(points, camera, invert_transform(T))
    if inverse >= _FEW_POINTS and inverse > 5 * visible:
        return (
            f"T_camera_lidar: only {visible} of {finite} points fall into the image, but "
            f"{inverse} do with the inverse transform; did you mean the inverse?"
        )
    # REP 103: the LiDAR's z axis is up, which is -y of an optical frame. A scan of all directions
    # fills the image either way.
    is_upright, inverse_is_upright = -T[1, 2] > _UPRIGHT, -T[2, 1] > _UPRIGHT
    if inverse >= _FEW_POINTS and inverse_is_upright and not is_upright:
        return (
            f"T_camera_lidar: the LiDAR's z axis is not up in the image ({visible} of {finite} "
            f"points fall into it), but is with the inverse transform ({inverse} points); did you "
            "mean the inverse?"
        )
    if visible < _FEW_POINTS:
        return (
            f"T_camera_lidar: only {visible} of {finite} points fall into the image; does the "
            "LiDAR look where the camera looks, and is camera_frame an optical frame (z forward)?"
        )
    return None
