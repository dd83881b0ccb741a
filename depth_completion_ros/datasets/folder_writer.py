"""Write frames as a folder of `NAME_image.png`, what was measured, and `NAME_calib.json`.

Not here: reading such a folder (`folder.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data import Float32Array, Frame
from ..errors import InputError
from .depth_png import write_depth_png
from .whole_file import write_whole


def write_frame(
    folder: Path,
    frame: Frame,
    *,
    sparse_depth: Float32Array | None = None,
    ground_truth: Float32Array | None = None,
) -> None:
    """Write one frame, each file whole or not at all; the image comes last and means "done".

    Args:
        folder: where the files go; made if it is not there.
        frame: its name names the files. Points are written as `NAME_points.bin`, a sparse map as
            `NAME_sparse.png`.
        sparse_depth: (H, W) float32 metres to write instead of the points.
        ground_truth: (H, W) float32 metres, 0 = unknown, for `NAME_gt.png`.

    Raises:
        InputError: a file cannot be written.
    """
    import cv2
    import numpy as np

    if Path(frame.name).name != frame.name or not frame.name:
        msg = f"{folder}: found the frame name {frame.name!r}, expected a plain file name"
        raise InputError(msg)
    start = folder / frame.name
    measured = frame.sparse_depth if sparse_depth is None else sparse_depth
    if measured is not None:
        write_depth_png(Path(f"{start}_sparse.png"), measured)
    elif frame.points is not None:
        scan = np.zeros((len(frame.points), 4), "<f4")
        scan[:, : frame.points.shape[1]] = frame.points
        write_whole(Path(f"{start}_points.bin"), scan.tobytes())
    if ground_truth is not None:
        write_depth_png(Path(f"{start}_gt.png"), ground_truth)
    text = json.dumps(_calibration(frame), indent=1) + "\n"
    write_whole(Path(f"{start}_calib.json"), text.encode())
    _, data = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    write_whole(Path(f"{start}_image.png"), bytes(data))


def _calibration(frame: Frame) -> dict[str, Any]:
    """Describe the camera; a shift of its centre of projection goes into the extrinsics."""
    camera, T = frame.camera, frame.T_camera_lidar
    if T is not None:
        T = T.copy()
        T[:3, 3] += camera.shift
    return {
        "image_size": [camera.width, camera.height],
        "K": camera.K.tolist(),
        "D": camera.D.tolist(),
        "distortion_model": camera.distortion_model,
        "T_camera_lidar": None if T is None else T.tolist(),
    }
