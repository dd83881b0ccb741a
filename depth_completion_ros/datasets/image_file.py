"""PNG and JPEG files to arrays, and a clear word about damaged ones.

OpenCV fills what it cannot decode with grey and says nothing, so a file is looked over first.
Not here: what 16-bit values mean (`depth_png.py`).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from ..data import UInt8Array
from ..errors import InputError
from .whole_file import read_bytes

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_image_file(path: Path) -> UInt8Array:
    """Read a camera image.

    Args:
        path: PNG or JPEG, colour or grey.

    Returns:
        (H, W, 3) uint8 RGB; a grey image has three equal channels.

    Raises:
        InputError: the file is missing, damaged or no image.
    """
    import cv2

    # IGNORE_ORIENTATION: a rotated image would no longer fit the camera's K.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image: UInt8Array = cv2.cvtColor(decode_image(path, flags), cv2.COLOR_BGR2RGB)
    return image


def decode_image(path: Path, flags: int) -> Any:
    """Decode an image file that is whole.

    Args:
        path: PNG or JPEG.
        flags: of `cv2.imdecode`.

    Returns:
        What OpenCV makes of it: (H, W) or (H, W, 3) in BGR order.

    Raises:
        InputError: the file is missing, damaged or no image.
    """
    import cv2
    import numpy as np

    data = read_bytes(path)
    damage = _find_damage(data)
    if damage:
        msg = f"{path}: {damage}; expected a whole PNG or JPEG"
        raise InputError(msg)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        msg = f"{path}: cannot be decoded, expected a whole PNG or JPEG"
        raise InputError(msg)
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Give the width and height of an image file in pixels.

    Raises:
        InputError: the file is missing, damaged or no image.
    """
    data = read_bytes(path)
    if data.startswith(_PNG_START) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    image = read_image_file(path)
    return image.shape[1], image.shape[0]


def _find_damage(data: bytes) -> str:
    """Say what is wrong with the bytes of an image, empty if nothing is."""
    if not data:
        return "found an empty file"
    if data.startswith(_PNG_START):
        return _find_png_damage(data)
    if data.startswith(_JPEG_START):
        # Some cameras pad their files with zeros.
        return "" if data.rstrip(b"\0").endswith(_JPEG_END) else "found a truncated JPEG"
    if data.startswith(b"version https://git-lfs"):
        return "found a git-lfs pointer, not the file itself (run git lfs pull)"
    return f"found a file that starts with {data[:8]!r}"


def _find_png_damage(data: bytes) -> str:
    position = len(_PNG_START)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "found a PNG with a wrong checksum"
        if data[position + 4 : position + 8] == b"IEND":
            return ""
        position = end + 4
    return "found a truncated PNG"
