"""Cameras as sensor_msgs/CameraInfo.

Not here: reading one, which is `PinholeCamera.from_camera_info` in `data.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import PinholeCamera


def camera_info_fields(camera: PinholeCamera) -> dict[str, Any]:
    """Give the fields of the CameraInfo that belongs to a camera's image.

    Args:
        camera: model of the image; of a distorted one P has the focal lengths of K.

    Returns:
        Fields for `fill_message` and `build_message`, without the header. Both
        `from_camera_info(msg, "rectified")` of an undistorted and `"raw"` of a distorted camera
        give the camera back.
    """
    P = np.zeros((3, 4))
    P[:, :3] = camera.K
    P[:, 3] = camera.K @ camera.shift
    # Consumers such as image_geometry want a model with its five coefficients, all of them zero.
    D, model = np.zeros(5), "plumb_bob"
    if camera.is_distorted:
        D, model = camera.D, camera.distortion_model
    return {
        "height": camera.height,
        "width": camera.width,
        "distortion_model": model,
        "d": D.copy(),
        "k": camera.K.ravel().copy(),
        "r": np.eye(3).ravel(),
        "p": P.ravel(),
    }
