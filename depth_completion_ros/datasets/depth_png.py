"""Depth, confidence and sigma as PNG files, as the KITTI depth benchmark writes them.

Depth: 16 bit, metres x 256, 0 = none. Confidence: 8 bit, 0..255 = 0..1. Sigma: 16 bit,
metres x 256, 65535 = none. Look next at `results.py` for the folder they go into.

Source: the devkit of the KITTI depth completion benchmark (Uhrig et al., 3DV 2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float32Array
from ..errors import InputError
from .image_file import decode_image
from .whole_file import write_whole

_SCALE = 256.0
_LARGEST = 65535


def read_depth_png(path: Path) -> Float32Array:
    """Read a KITTI depth PNG.

    Args:
        path: 16-bit grey PNG.

    Returns:
        (H, W) float32 metres, 0 = none.

    Raises:
        InputError: the file is missing, damaged or no 16-bit grey image.
    """
    depth: Float32Array = _read_grey(path, np.uint16).astype(np.float32)
    depth /= np.float32(_SCALE)
    return depth


def write_depth_png(path: Path, depth: Float32Array) -> None:
    """Write a KITTI depth PNG, whole or not at all.

    Values are rounded to the nearest 1/256 m. What is measured stays measured: a depth that would
    round to 0 becomes the smallest value, one beyond 255.99 m the largest.

    Args:
        path: where it goes.
        depth: (H, W) float32 metres; 0, negative and non-finite values mean none.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(path, _png(_quantised(depth, 1, _LARGEST)))


def read_confidence_png(path: Path) -> Float32Array:
    """Read a confidence PNG.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        InputError: the file is missing, damaged or no 8-bit grey image.
    """
    confidence: Float32Array = _read_grey(path, np.uint8).astype(np.float32)
    confidence /= np.float32(255)
    return confidence


def write_confidence_png(path: Path, confidence: Float32Array) -> None:
    """Write a confidence PNG, whole or not at all.

    Args:
        path: where it goes.
        confidence: (H, W) float32 in [0, 1]; NaN counts as 0.

    Raises:
        InputError: the file cannot be written.
    """
    share = np.nan_to_num(confidence, nan=0.0, posinf=1.0, neginf=0.0)
    write_whole(path, _png(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)))


def read_sigma_png(path: Path) -> Float32Array:
    """Read a sigma PNG.

    Returns:
        (H, W) float32 metres, +inf = no estimate.

    Raises:
        InputError: the file is missing, damaged or no 16-bit grey image.
    """
    values = _read_grey(path, np.uint16)
    sigma: Float32Array = values.astype(np.float32) / np.float32(_SCALE)
    sigma[values == _LARGEST] = np.inf
    return sigma


def write_sigma_png(path: Path, sigma: Float32Array) -> None:
    """Write a sigma PNG, whole or not at all.

    Args:
        path: where it goes.
        sigma: (H, W) float32 metres; non-finite values mean none, more than 255.98 m becomes the
            largest value below that.

    Raises:
        InputError: the file cannot be written.
    """
    values = _quantised(sigma, 0, _LARGEST - 1)
    values[~np.isfinite(sigma)] = _LARGEST
    write_whole(path, _png(values))


def _quantised(metres: Float32Array, smallest: int, largest: int) -> Any:
    known = np.isfinite(metres) & (metres > 0)
    values = np.rint(np.where(known, metres, 0).astype(np.float64) * _SCALE)
    return np.where(known, np.clip(values, smallest, largest), 0).astype(np.uint16)


def _png(image: Any) -> bytes:
    import cv2

    # imencode, because imwrite answers a full disk with a silent False.
    done, data = cv2.imencode(".png", image)
    if not done:
        msg = f"PNG: OpenCV could not encode {image.shape} {image.dtype}"
        raise InputError(msg)
    return bytes(data)


def _read_grey(path: Path, dtype: Any) -> Any:
    import cv2

    image = decode_image(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != dtype or image.ndim != 2:
        channels = 1 if image.ndim == 2 else image.shape[2]
        bits = 8 * np.dtype(dtype).itemsize
        msg = (
            f"{path}: found {channels} channel(s) of {8 * image.dtype.itemsize} bit, "
            f"expected one of {bits} bit"
        )
        raise InputError(msg)
    return image
