"""Images of sensor_msgs/Image and CompressedImage as arrays, and back.

Not here: what the pixels mean for a camera (`data.PinholeCamera`). Look next at `fields.py` for
how the fields made here get into a message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, UInt8Array
from ..errors import InputError
from .fields import byte_array

# 8192 x 8192: more than any camera on a robot has, and what is decoded of it still fits in memory.
_MAX_PIXELS = 1 << 26
# Deflate's limit; JPEG's is lower. A file that claims more is made to exhaust memory.
_MAX_PIXELS_PER_BYTE = 1032
# image_transport's compressedDepth: int32 format (0 = inverse depth), float32 A, float32 B
_DEPTH_HEADER = struct.Struct("<iff")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class _Encoding:
    """How the pixels of an encoding lie in memory, and OpenCV's name for the way to RGB."""

    channels: int
    dtype: str = "u1"
    conversion: str = ""
    # Pixels that share values need whole groups of them.
    even_width: bool = False
    # Rows of a planar image: Y, then half as many of colour.
    is_planar: bool = False


_ENCODINGS = {
    "mono8": _Encoding(1, conversion="GRAY2RGB"),
    "mono16": _Encoding(1, "u2", "GRAY2RGB"),
    "rgb8": _Encoding(3),
    "bgr8": _Encoding(3, conversion="BGR2RGB"),
    "rgba8": _Encoding(4, conversion="RGBA2RGB"),
    "bgra8": _Encoding(4, conversion="BGRA2RGB"),
    "rgb16": _Encoding(3, "u2"),
    "bgr16": _Encoding(3, "u2", "BGR2RGB"),
    "rgba16": _Encoding(4, "u2", "RGBA2RGB"),
    "bgra16": _Encoding(4, "u2", "BGRA2RGB"),
    # ROS names the first two pixels of the first two rows, OpenCV the second two: RGGB is "BG".
    "bayer_rggb8": _Encoding(1, conversion="BayerBG2RGB"),
    "bayer_bggr8": _Encoding(1, conversion="BayerRG2RGB"),
    "bayer_gbrg8": _Encoding(1, conversion="BayerGR2RGB"),
    "bayer_grbg8": _Encoding(1, conversion="BayerGB2RGB"),
    "bayer_rggb16": _Encoding(1, "u2", "BayerBG2RGB"),
    "bayer_bggr16": _Encoding(1, "u2", "BayerRG2RGB"),
    "bayer_gbrg16": _Encoding(1, "u2", "BayerGR2RGB"),
    "bayer_grbg16": _Encoding(1, "u2", "BayerGB2RGB"),
    "yuv422": _Encoding(2, conversion="YUV2RGB_UYVY", even_width=True),
    "yuv422_yuy2": _Encoding(2, conversion="YUV2RGB_YUY2", even_width=True),
    "nv12": _Encoding(1, conversion="YUV2RGB_NV12", even_width=True, is_planar=True),
    "nv21": _Encoding(1, conversion="YUV2RGB_NV21", even_width=True, is_planar=True),
}
# Newer names of sensor_msgs, and the bare OpenCV types, which hold what OpenCV holds: BGR.
_ALIASES = {
    "uyvy": "yuv422",
    "yuyv": "yuv422_yuy2",
    "8UC1": "mono8",
    "8UC3": "bgr8",
    "8UC4": "bgra8",
}
_DEPTH_TYPES = {"32FC1": "f4", "16UC1": "u2", "mono16": "u2"}


def read_image(msg: Any) -> UInt8Array:
    """Read an Image of any encoding cameras use as RGB.

    16 bits become 8 by their upper half of the range, as cv_bridge does. YUV is BT.601.

    Args:
        msg: anything with the fields of sensor_msgs/Image.

    Returns:
        (H, W, 3) uint8 RGB. For rgb8 without row padding a view of the message: don't write to it.

    Raises:
        InputError: the encoding is no picture's, or the message contradicts itself.
    """
    name = str(msg.encoding)
    encoding = _ENCODINGS.get(_ALIASES.get(name, name))
    if encoding is None:
        text = f"image: found encoding {name!r}, expected one of {', '.join(_ENCODINGS)}"
        if name in _DEPTH_TYPES:
            text += "; this is a depth image, is 'image' remapped to a depth camera?"
        raise InputError(text)
    height, width = _checked_size(int(msg.height), int(msg.width), "image")
    odd = (encoding.even_width and width % 2) or (encoding.is_planar and height % 2)
    if odd:
        text = f"image: found {width}x{height} pixels of {name}, expected even numbers"
        raise InputError(text)
    rows = height * 3 // 2 if encoding.is_planar else height
    return _to_rgb(_pixels(msg, rows, width, encoding.channels, encoding.dtype), encoding)


def _to_rgb(pixels: NDArray[Any], encoding: _Encoding) -> UInt8Array:
    if pixels.dtype != np.uint8:
        # The nearest of 256 levels to 255 / 65535 of the value, for both byte orders.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not encoding.conversion:
        return np.ascontiguousarray(pixels)
    import cv2

    if "Bayer" in encoding.conversion and min(pixels.shape[:2]) < 2:
        text = f"image: found {pixels.shape[1]}x{pixels.shape[0]} pixels, expected a Bayer pattern"
        raise InputError(text)
    code = getattr(cv2, f"COLOR_{encoding.conversion}")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)


def _checked_size(height: int, width: int, name: str) -> tuple[int, int]:
    if height <= 0 or width <= 0:
        text = f"{name}: found {width}x{height} pixels, expected at least one"
        raise InputError(text)
    if height * width > _MAX_PIXELS:
        text = f"{name}: found {width}x{height} pixels, expected at most {_MAX_PIXELS}"
        raise InputError(text)
    return height, width


def _pixels(msg: Any, rows: int, width: int, channels: int, kind: str) -> NDArray[Any]:
    """View the pixels of a message, (rows, width) or (rows, width, channels)."""
    data = byte_array(msg.data, "image")
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    row = width * channels * dtype.itemsize
    step = int(msg.step)
    if rows != msg.height and len(data) == rows * row:
        # Drivers of planar images disagree on what their step is; without padding it is clear.
        step = row
    if step < row:
        text = (
            f"image: found step {step}, expected at least {row} for {width} pixels of "
            f"{msg.encoding}; the driver fills the message wrongly"
        )
        raise InputError(text)
    # The last row needs no padding; some drivers cut it off.
    needed = step * (rows - 1) + row
    if len(data) < needed:
        text = (
            f"image: found {len(data)} bytes of data, expected {step * rows} for "
            f"{width}x{msg.height} pixels of {msg.encoding}; the message is truncated"
        )
        raise InputError(text)
    shape = (rows, width) if channels == 1 else (rows, width, channels)
    strides = (step, channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    return np.ndarray(shape, dtype, data, 0, strides)


def read_compressed_image(msg: Any) -> UInt8Array:
    """Read a CompressedImage, JPEG or PNG, as image_transport writes it.

    `format` is empty, a codec (`jpeg`), or says what the pixels were and are: `rgb8; jpeg
    compressed bgr8`. What is decoded is believed more than `format`, except for the order of the
    channels and a Bayer pattern, which nothing else tells. A camera's own JPEG is not turned by
    its EXIF orientation, because camera_info is not turned either.

    Args:
        msg: anything with the fields of sensor_msgs/CompressedImage.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: the data is neither JPEG nor PNG, truncated, corrupt or absurdly large.

    Source: compressed_image_transport's subscriber.
    """
    data = byte_array(msg.data, "compressed image")
    check_picture(data, "compressed image", str(msg.format))
    return _to_rgb(*_decoded_encoding(_decoded(data, "compressed image"), str(msg.format)))


def _decoded_encoding(pixels: NDArray[Any], text: str) -> tuple[NDArray[Any], _Encoding]:
    """Find out what OpenCV's decoder gave: a gray image, a mosaic, or three or four channels."""
    original, semicolon, stored = text.partition(";")
    encoding = _ENCODINGS.get(original.strip(), _ENCODINGS["mono8"])
    if pixels.ndim == 2:
        # JPEG turns a mosaic into gray, PNG keeps it and says nothing after "compressed".
        is_mosaic = original.startswith("bayer") and stored.strip().endswith("compressed")
        return pixels, encoding if is_mosaic else _ENCODINGS["mono8"]
    name = "bgra8" if pixels.shape[2] == 4 else "bgr8"
    is_color = original.strip() in ("rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16")
    if semicolon and is_color and "compressed bgr" not in stored:
        # Written by somebody who handed RGB to an encoder that wants BGR.
        name = name.replace("bgr", "rgb")
    return pixels, _ENCODINGS[name]


def check_picture(data: UInt8Array, name: str, text: str = "") -> None:
    """Look at a JPEG's or PNG's own size and structure before a decoder takes memory for it.

    Args:
        data: (n,) uint8, the whole file.
        name: what it is called in the error.
        text: the format that its message claims.

    Raises:
        InputError: it is neither, truncated, or claims more than it can hold.
    """
    start = data[:24].tobytes()
    if start.startswith(_PNG_START):
        width, height = struct.unpack(">II", start[16:24]) if len(start) == 24 else (0, 0)
        is_whole = _is_whole_png(data)
    elif start.startswith(_JPEG_START):
        height, width = _jpeg_size(data)
        # Cameras pad their JPEGs, so the end may stand a little before the end.
        is_whole = _JPEG_END in data[-4096:].tobytes()
    else:
        msg = (
            f"{name}: found format {text!r} and data that starts with "
            f"{start[:4].hex(' ') or 'nothing'}, expected JPEG or PNG"
        )
        if "compressedDepth" in text:
            msg += "; is 'image/compressed' remapped to a depth image?"
        raise InputError(msg)
    _checked_size(height, width, name)
    if height * width > _MAX_PIXELS_PER_BYTE * len(data):
        msg = (
            f"{name}: found {len(data)} bytes that claim {width}x{height} pixels, more "
            "than any picture fits in; the message is corrupt"
        )
        raise InputError(msg)
    if not is_whole:
        msg = f"{name}: found no end after {len(data)} bytes; the message is truncated"
        raise InputError(msg)


def _is_whole_png(data: UInt8Array) -> bool:
    """Follow a PNG's chunks to its end.

    OpenCV 5 takes as much memory as a chunk claims, up to 4 GB, before it reads it.
    """
    view = data.data
    position = len(_PNG_START)
    while position + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, position)
        position += 12 + int(length)
        if kind == b"IEND":
            return position <= len(view)
    return False


def _jpeg_size(data: UInt8Array) -> tuple[int, int]:
    """Read height and width from a JPEG's start-of-frame segment; 0, 0 if there is none."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            break
        marker = int(data[position + 1])
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # segments without a length
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9].tobytes())
            return height, width
        else:
            length = int(data[position + 2]) << 8 | int(data[position + 3])
            position += 2 + max(length, 2)
    return 0, 0


def _decoded(data: UInt8Array, name: str) -> NDArray[Any]:
    import cv2

    try:
        pixels: NDArray[Any] | None = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        msg = f"{name}: found {len(data)} bytes that cannot be decoded; the message is corrupt"
        raise InputError(msg)
    return pixels


def image_fields(array: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Give the fields of an Image.

    Args:
        array: (H, W) or (H, W, channels) in the type and the order of channels of `encoding`.
        encoding: such as rgb8, mono8, 32FC1 or 16UC1.

    Returns:
        Fields for `fill_message` and `build_message`, without the header. `data` is a view of
        `array` where its layout allows.

    Raises:
        InputError: the array does not fit the encoding.
    """
    if encoding in _DEPTH_TYPES:
        channels, dtype = 1, np.dtype("<" + _DEPTH_TYPES[encoding])
    elif encoding in _ENCODINGS:
        layout = _ENCODINGS[encoding]
        channels, dtype = layout.channels, np.dtype("<" + layout.dtype)
    else:
        msg = f"image: found encoding {encoding!r}, expected one that sensor_msgs names"
        raise InputError(msg)
    found = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or array.size == 0 or found != channels or array.dtype != dtype:
        msg = (
            f"image: found {array.shape} {array.dtype}, expected (H, W, {channels}) "
            f"{dtype.name} for {encoding}"
        )
        raise InputError(msg)
    height, width = array.shape[:2]
    if encoding in ("nv12", "nv21"):
        height = height * 2 // 3
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": width * channels * dtype.itemsize,
        "data": np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8),
    }


def depth_image_fields(depth: Float32Array, encoding: str = "32FC1") -> dict[str, Any]:
    """Give the fields of a depth image, also of sigma and sparse depth.

    Args:
        depth: (H, W) float32 metres, 0 or not finite = none.
        encoding: 32FC1 (metres, NaN = none) or 16UC1 (millimetres, 0 = none; what is farther than
            65.535 m has no number and becomes none).

    Returns:
        Fields for `fill_message` and `build_message`, without the header.

    Raises:
        InputError: another encoding, or no (H, W) array.

    Source: REP 118.
    """
    if encoding == "16UC1":
        return image_fields(_millimetres(depth), encoding)
    if encoding != "32FC1":
        msg = f"depth image: found encoding {encoding!r}, expected 32FC1 or 16UC1"
        raise InputError(msg)
    metres = np.where((depth > 0) & np.isfinite(depth), depth, np.float32(np.nan))
    return image_fields(metres.astype(np.float32, copy=False), encoding)


def read_depth_image(msg: Any) -> Float32Array:
    """Read a depth image of metres or millimetres.

    Args:
        msg: anything with the fields of sensor_msgs/Image; 32FC1, 16UC1 or mono16.

    Returns:
        (H, W) float32 metres, 0 = none.

    Raises:
        InputError: the encoding is no depth image's, or the message contradicts itself.

    Source: REP 118.
    """
    name = str(msg.encoding)
    if name not in _DEPTH_TYPES:
        text = f"depth image: found encoding {name!r}, expected 32FC1 or 16UC1"
        raise InputError(text)
    height, width = _checked_size(int(msg.height), int(msg.width), "depth image")
    return _metres(_pixels(msg, height, width, 1, _DEPTH_TYPES[name]))


def compressed_depth_fields(depth: Float32Array) -> dict[str, Any]:
    """Give the fields of a CompressedImage for topic `.../compressedDepth`, lossless millimetres.

    Args:
        depth: (H, W) float32 metres, 0 or not finite = none, as is what lies beyond 65.535 m.

    Returns:
        Fields for `fill_message` and `build_message`, without the header.

    Source: compressed_depth_image_transport: 12 bytes of configuration, then a 16 bit PNG.
    """
    import cv2

    # Level 6 takes six times as long and saves an eighth of the bytes.
    _, png = cv2.imencode(".png", _millimetres(depth), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    header = np.frombuffer(_DEPTH_HEADER.pack(0, 0.0, 0.0), np.uint8)
    return {
        "format": "16UC1; compressedDepth png",
        "data": np.concatenate((header, png.reshape(-1))),
    }


def read_compressed_depth(msg: Any) -> Float32Array:
    """Read a CompressedImage of topic `.../compressedDepth`.

    Args:
        msg: anything with the fields of sensor_msgs/CompressedImage, PNG inside; 16UC1, or 32FC1
            stored as inverse depth.

    Returns:
        (H, W) float32 metres, 0 = none.

    Raises:
        InputError: the format is another, or the data is truncated or corrupt.

    Source: compressed_depth_image_transport's codec.
    """
    text = str(msg.format)
    data = byte_array(msg.data, "compressed depth")
    encoding, _, codec = text.partition(";")
    if encoding not in ("16UC1", "32FC1") or codec.strip() not in (
        "",
        "compressedDepth",
        "compressedDepth png",
    ):
        msg_ = (
            f"compressed depth: found format {text!r}, expected 16UC1 or 32FC1 as PNG; set the "
            "publisher's compressedDepth format to png"
        )
        raise InputError(msg_)
    if len(data) <= _DEPTH_HEADER.size:
        msg_ = f"compressed depth: found {len(data)} bytes; the message is truncated"
        raise InputError(msg_)
    _, a, b = _DEPTH_HEADER.unpack(data[: _DEPTH_HEADER.size].tobytes())
    check_picture(data[_DEPTH_HEADER.size :], "compressed depth", text)
    pixels = _decoded(data[_DEPTH_HEADER.size :], "compressed depth")
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        msg_ = f"compressed depth: found {pixels.shape} {pixels.dtype}, expected (H, W) uint16"
        raise InputError(msg_)
    if encoding == "16UC1":
        return _metres(pixels)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
    return _metres(np.where(pixels > 0, inverse, np.float32(0)))


def _millimetres(depth: Float32Array) -> NDArray[np.uint16]:
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.rint(depth * np.float32(1000))
        fits = (rounded >= 1) & (rounded <= 65535)
    return np.where(fits, rounded, 0).astype(np.uint16)


def _metres(depth: NDArray[Any]) -> Float32Array:
    """Give metres with 0 for none, from millimetres or from metres with NaN."""
    if depth.dtype.kind == "u":
        return depth.astype(np.float32) / np.float32(1000)
    metres = depth.astype(np.float32)
    with np.errstate(invalid="ignore"):
        metres[~((metres > 0) & np.isfinite(metres))] = 0
    return metres
