"""Rays and pixels of a camera: distortion, scaling, cropping.

Not here: the camera type itself (`data.PinholeCamera`) and points seen by it (`projection.py`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..data import Float32Array, Float64Array, PinholeCamera

# Beyond this angle from the optical axis the polynomial models are not monotonic any more.
_MAX_NORMALISED_RADIUS = 2.5


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
    if camera.distortion_model == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        t2 = theta * theta
        k1, k2, k3, k4 = camera.D
        bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        scale = np.divide(bent, r, out=np.ones_like(r), where=r > 1e-9)
        return np.column_stack((x * scale, y * scale))
    D = np.zeros(14)
    D[: len(camera.D)] = camera.D
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = D
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    if tau_x or tau_y:
        xd, yd = _tilt(xd, yd, tau_x, tau_y)
    folded = (r2 > _MAX_NORMALISED_RADIUS**2) | (radial <= 0)
    distorted = np.column_stack((xd, yd))
    distorted[folded] = np.nan
    return distorted


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


def normalised_pixels(camera: PinholeCamera) -> Float32Array:
    """Give the viewing ray of every pixel, for unprojection and for networks.

    Args:
        camera: pinhole model; distortion is undone iteratively by OpenCV.

    Returns:
        (H, W, 2) float32: x/z and y/z in the frame of projection.
    """
    u = np.arange(camera.width, dtype=np.float64)
    v = np.arange(camera.height, dtype=np.float64)
    if camera.is_distorted:
        return _undistorted_pixels(camera, u, v)
    K = camera.K
    y = (v - K[1, 2]) / K[1, 1]
    rays = np.empty((camera.height, camera.width, 2), np.float32)
    rays[..., 0] = (u[None, :] - K[0, 2] - K[0, 1] * y[:, None]) / K[0, 0]
    rays[..., 1] = y[:, None]
    return rays


def _undistorted_pixels(camera: PinholeCamera, u: Float64Array, v: Float64Array) -> Float32Array:
    import cv2

    pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 1, 2)
    if camera.distortion_model == "equidistant":
        rays = cv2.fisheye.undistortPoints(pixels, camera.K, camera.D)
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-8)
        rays = cv2.undistortPointsIter(pixels, camera.K, camera.D, None, None, criteria)
    return rays.reshape(camera.height, camera.width, 2).astype(np.float32)


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
