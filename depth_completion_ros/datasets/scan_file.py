"""LiDAR scans in files: KITTI's `.bin` and numpy's `.npy`.

Not here: clouds in messages (`messages/points.py`).
"""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import numpy as np

from ..data import Float32Array
from ..errors import InputError
from .whole_file import read_bytes

SCAN_SUFFIXES = (".bin", ".npy")
_BYTES_PER_POINT = 16
# numpy reads the header as Python, and raises what Python raises.
_NPY_DAMAGE = (
    ValueError,
    TypeError,
    EOFError,
    OSError,
    SyntaxError,
    tokenize.TokenError,
    OverflowError,
    MemoryError,
)


def read_scan(path: Path) -> Float32Array:
    """Read one scan.

    Args:
        path: `.bin` with float32 little endian x, y, z, intensity, or `.npy` with (N, 3) or (N, 4)
            numbers.

    Returns:
        (N, 3) or (N, 4) float32 metres in the LiDAR frame, as recorded: own vehicle, NaN and all.

    Raises:
        InputError: the file is missing, truncated or holds something else.
    """
    data = read_bytes(path)
    if path.suffix == ".npy":
        return _read_npy(path, data)
    if len(data) % _BYTES_PER_POINT:
        msg = (
            f"{path}: found {len(data)} bytes, expected a multiple of 16 (x y z intensity as "
            "float32); is the file truncated?"
        )
        raise InputError(msg)
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, 4)


def _read_npy(path: Path, data: bytes) -> Float32Array:
    try:
        points = np.load(io.BytesIO(data), allow_pickle=False)
    except _NPY_DAMAGE as error:
        msg = f"{path}: found no whole npy file ({' '.join(str(error).split())})"
        raise InputError(msg) from error
    is_cloud = isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] in (3, 4)
    if not is_cloud or points.dtype.kind not in "fiu":
        found = f"{getattr(points, 'shape', type(points))} {getattr(points, 'dtype', '')}"
        msg = f"{path}: found {found}, expected (N, 3) or (N, 4) numbers"
        raise InputError(msg)
    return np.ascontiguousarray(points, np.float32)
