"""Rays and pixels of a camera: distortion, scaling, cropping.

Not here: the camera type itself (`data.PinholeCamera`) and points seen by it (`projection.py`).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ..data import Float32Array, Float64Array, PinholeCamera

# Tangent of the widest angle from the optical axis at which a polynomial lens is believed.
_MAX_NORMALISED_RADIUS = 2.5

# Three steps after OpenCV's iteration bring common lenses to 1e-9; a pixel is about 1e-3.
_NEWTON_STEPS = 3
_NEWTON_TOLERANCE = 1e-6


def distort_normalised(xy: Float64Array, camera: PinholeCamera) -> Float64Array:
    """Bend normalised image coordinates the way the camera's lens does.

    Args:
        xy: (N, 2) float64, x/z and y/z of points in the optical frame.
        camera: gives D and its model.

    Returns:
        (N, 2) float64 distorted normalised coordinates; NaN where the model does not hold.

    Source: OpenCV's calib3d documentation, as sensor_msgs/CameraInfo refers to it.
    """
    if not camera.is_distorted:
        return xy
    x, y = xy[:, 0], xy[:, 1]
    r2 = x * x + y * y
    believed = r2 <= largest_radius(camera) ** 2
    if camera.distortion_model == "equidistant":
        r = np.sqrt(r2)
        scale = np.divide(_bent_angle(np.arctan(r), camera.D), r, where=r > 1e-9, out=r * 0 + 1)
        return np.where(believed[:, None], np.column_stack((x * scale, y * scale)), np.nan)
    D = np.zeros(14)
    D[: len(camera.D)] = camera.D
    _, _, p1, p2, _, _, _, _, s1, s2, s3, s4, tau_x, tau_y = D
    radial = _radial_scale(r2, D)
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    if tau_x or tau_y:
        xd, yd = _tilt(xd, yd, tau_x, tau_y)
    return np.where(believed[:, None], np.column_stack((xd, yd)), np.nan)


def _bent_angle(theta: Float64Array, D: Float64Array) -> Float64Array:
    t2 = theta * theta
    k1, k2, k3, k4 = D
    bent: Float64Array = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return bent


def _radial_scale(r2: Float64Array, D: Float64Array) -> Float64Array:
    k1, k2, _, _, k3, k4, k5, k6 = D[:8]
    scale: Float64Array = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    scale /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    return scale


@functools.lru_cache(maxsize=16)
def largest_radius(camera: PinholeCamera) -> float:
    """Give the distance from the axis, at depth 1, up to which the lens keeps points in order.

    Farther out the polynomials turn back: without this limit a LiDAR's points beside the camera
    would appear in the image.
    """
    if camera.distortion_model == "equidistant":
        theta = np.linspace(0, np.pi / 2, 2000)
        r, bent = np.tan(theta), _bent_angle(theta, camera.D)
    else:
        D = np.zeros(14)
        D[: len(camera.D)] = camera.D
        r = np.linspace(0, _MAX_NORMALISED_RADIUS, 2000)
        bent = r * _radial_scale(r * r, D)
    turned = np.flatnonzero(np.diff(bent) <= 0)
    return float(r[turned[0]] if len(turned) else r[-1])


def _tilt(
    x: Float64Array, y: Float64Array, tau_x: float, tau_y: float
) -> tuple[Float64Array, Float64Array]:
    """Apply OpenCV's tilted sensor, the last two of 14 coefficients."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    Rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    Ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    R = Ry @ Rx
    M = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R
    p = M @ np.vstack((x, y, np.ones_like(x)))
    return p[0] / p[2], p[1] / p[2]


def undistort_normalised(xy: Float64Array, camera: PinholeCamera) -> Float64Array:
    """Straighten normalised image coordinates, the inverse of `distort_normalised`.

    Args:
        xy: (N, 2) float64, (u - cx) / fx and (v - cy) / fy of pixels.
        camera: gives D and its model.

    Returns:
        (N, 2) float64, x/z and y/z of the rays; NaN where the lens model has none.

    Source: OpenCV's fixed-point iteration, whose default stops too early for strong lenses and
    whose criteria differ between versions 4 and 5; hence the Newton steps after it.
    """
    if not camera.is_distorted:
        return xy
    import cv2

    undistort = (
        cv2.fisheye.undistortPoints
        if camera.distortion_model == "equidistant"
        else cv2.undistortPoints
    )
    straight: Float64Array = np.asarray(
        undistort(xy.reshape(-1, 1, 2), np.eye(3), camera.D), np.float64
    ).reshape(-1, 2)
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            straight = _newton_step(straight, xy, camera)
        missed = np.abs(distort_normalised(straight, camera) - xy).max(axis=1)
    straight[~(missed < _NEWTON_TOLERANCE)] = np.nan
    return straight


def _newton_step(
    straight: Float64Array, bent: Float64Array, camera: PinholeCamera
) -> Float64Array:
    step = 1e-6
    right, down = step * np.eye(2)
    here = distort_normalised(straight, camera)
    a, c = ((distort_normalised(straight + right, camera) - here) / step).T
    b, d = ((distort_normalised(straight + down, camera) - here) / step).T
    ex, ey = (bent - here).T
    moved: Float64Array = np.column_stack((d * ex - b * ey, a * ey - c * ex))
    moved /= (a * d - b * c)[:, None]
    moved += straight
    return moved


@functools.lru_cache(maxsize=4)
def normalised_pixels(camera: PinholeCamera) -> Float32Array:
    """Give the viewing ray of every pixel, for unprojection and for networks.

    Args:
        camera: pinhole model; its distortion is undone.

    Returns:
        (H, W, 2) float32: x/z and y/z in the frame of projection, NaN where the lens model has no
        ray. Read-only, as the same array is given again for an equal camera.
    """
    K = camera.K
    y = (np.arange(camera.height)[:, None] - K[1, 2]) / K[1, 1]
    x = (np.arange(camera.width)[None, :] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    rays = np.stack((x, np.broadcast_to(y, x.shape)), axis=-1)
    rays = undistort_normalised(rays.reshape(-1, 2), camera).reshape(rays.shape)
    rays32 = rays.astype(np.float32)
    rays32.setflags(write=False)
    return rays32


def scale_camera(camera: PinholeCamera, width: int, height: int) -> PinholeCamera:
    """Describe the camera of an image that was resized to another size.

    Args:
        camera: model of the image before.
        width, height: size after, in pixels.

    Returns:
        The camera whose pixel centres still lie at integers: the outer edges of both images
        coincide, so the principal point moves by half a pixel as well.
    """
    sx, sy = width / camera.width, height / camera.height
    K = camera.K.copy()
    K[0] *= sx
    K[1] *= sy
    K[0, 2] += 0.5 * (sx - 1)
    K[1, 2] += 0.5 * (sy - 1)
    return dataclasses.replace(camera, width=width, height=height, K=K)


def crop_camera(
    camera: PinholeCamera, left: int, top: int, width: int, height: int
) -> PinholeCamera:
    """Describe the camera of a part of an image; the principal point moves with the crop.

    Args:
        camera: model of the whole image.
        left, top: first column and row that stay; may be negative for padding.
        width, height: size of the part in pixels.

    Returns:
        The camera of the part.
    """
    K = camera.K.copy()
    K[0, 2] -= left
    K[1, 2] -= top
    return dataclasses.replace(camera, width=width, height=height, K=K)
