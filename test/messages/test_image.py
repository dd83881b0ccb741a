"""Images of every encoding, pixel by pixel."""

from __future__ import annotations

import contextlib
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from depth_completion_ros.errors import InputError
from depth_completion_ros.messages.fields import build_message
from depth_completion_ros.messages.image import (
    compressed_depth_fields,
    depth_image_fields,
    image_fields,
    read_compressed_depth,
    read_compressed_image,
    read_depth_image,
    read_image,
)

# 2 x 4 pixels: red, green, blue, white over gray, black, yellow, cyan
RGB = np.array(
    [
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]],
        [[128, 128, 128], [0, 0, 0], [255, 255, 0], [0, 255, 255]],
    ],
    np.uint8,
)


def test_rgb8_is_read_without_a_copy(make_image):
    msg = make_image(RGB, "rgb8")
    image = read_image(msg)
    assert image.tolist() == RGB.tolist()
    assert np.shares_memory(image, np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", (0, 1, 2)),
        ("bgr8", (2, 1, 0)),
        ("rgba8", (0, 1, 2, 0)),
        ("bgra8", (2, 1, 0, 0)),
        ("8UC3", (2, 1, 0)),
        ("8UC4", (2, 1, 0, 1)),
    ],
)
def test_channels_in_any_order_with_row_padding(make_image, encoding, channels, padding):
    msg = make_image(RGB[..., channels], encoding, row_padding=padding)
    assert read_image(msg).tolist() == RGB.tolist()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_gray_is_repeated_in_all_channels(make_image, encoding):
    image = read_image(make_image(np.array([[0, 7, 255]], np.uint8), encoding, row_padding=1))
    assert image.tolist() == [[[0, 0, 0], [7, 7, 7], [255, 255, 255]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_gray_of_both_byte_orders(make_image, order):
    levels = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], order + "u2")
    image = read_image(make_image(levels, "mono16", row_padding=2))
    assert image[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb16", (0, 1, 2)),
        ("bgr16", (2, 1, 0)),
        ("rgba16", (0, 1, 2, 0)),
        ("bgra16", (2, 1, 0, 0)),
    ],
)
def test_16_bit_color_of_both_byte_orders(make_image, encoding, channels, order):
    wide = (RGB[..., channels].astype(np.uint16) * 257).astype(order + "u2")
    assert read_image(make_image(wide, encoding)).tolist() == RGB.tolist()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_pattern_is_named_by_its_first_two_rows(make_image, pattern, bits):
    color = {"r": 200, "g": 90, "b": 30}
    tile = np.array([color[letter] for letter in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 5))
    if bits == 16:
        mosaic = mosaic.astype("<u2") * 257
    image = read_image(make_image(mosaic, f"bayer_{pattern}{bits}", row_padding=4))
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[200, 90, 30]]


# BT.601 with a range of 16 to 235: a strong red.
Y, U, V = 81, 90, 240


@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("yuv422", (U, Y, V, Y)),
        ("uyvy", (U, Y, V, Y)),
        ("yuv422_yuy2", (Y, U, Y, V)),
        ("yuyv", (Y, U, Y, V)),
    ],
)
def test_yuv_422_in_both_orders(make_image, encoding, order):
    packed = np.tile(np.array(order, np.uint8).reshape(1, 2, 2), (3, 2, 1))
    image = read_image(make_image(packed, encoding, row_padding=3))
    assert image.shape == (3, 4, 3)
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[254, 0, 0]]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(("encoding", "chroma"), [("nv12", (U, V)), ("nv21", (V, U))])
def test_yuv_420_in_both_orders(make_image, encoding, chroma, padding):
    planes = np.full((6, 6), Y, np.uint8)
    planes[4:] = np.tile(chroma, 3)
    msg = make_image(planes, encoding, height=4, row_padding=padding)
    image = read_image(msg)
    assert image.shape == (4, 6, 3)
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[254, 0, 0]]


def test_a_planar_image_with_a_strange_step_is_read_when_its_size_leaves_no_doubt(make_image):
    msg = make_image(np.full((6, 6), 128, np.uint8), "nv12", height=4)
    msg.step = 12
    assert read_image(msg).shape == (4, 6, 3)


def test_the_last_row_needs_no_padding(make_image):
    msg = make_image(RGB, "rgb8", row_padding=5)
    msg.data = msg.data[:-5]
    assert read_image(msg).tolist() == RGB.tolist()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"data": bytes(23)}, "found 23 bytes of data, expected 24 for 4x2 pixels of rgb8; the"),
        ({"step": 11}, "found step 11, expected at least 12 for 4 pixels of rgb8"),
        ({"encoding": "jpeg"}, "found encoding 'jpeg', expected one of mono8"),
        ({"encoding": "32FC1"}, "this is a depth image, is 'image' remapped to a depth camera"),
        ({"height": 0}, "found 4x0 pixels, expected at least one"),
        (
            {"height": 65535, "width": 65535, "step": 196605},
            "found 65535x65535 pixels, expected a",
        ),
        (
            {"height": 8000, "width": 8000, "step": 24000},
            "found 24 bytes of data, expected 192000",
        ),
        ({"encoding": "yuv422", "width": 3}, "found 3x2 pixels of yuv422, expected even numbers"),
        ({"encoding": "nv12", "height": 3}, "found 4x3 pixels of nv12, expected even numbers"),
        ({"encoding": "bayer_rggb8", "height": 1}, "found 4x1 pixels, expected a Bayer pattern"),
        ({"data": "text"}, "found data of type str, expected bytes"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused(make_image, changes, found):
    msg = make_image(RGB, "rgb8")
    vars(msg).update(changes)
    with pytest.raises(InputError) as error:
        read_image(msg)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def _compressed(extension, pixels, text) -> SimpleNamespace:
    data = cv2.imencode(extension, pixels)[1].ravel()
    return SimpleNamespace(format=text, data=data)


BIG_RGB = np.repeat(np.repeat(RGB, 16, axis=0), 16, axis=1)


@pytest.mark.parametrize(
    ("extension", "text"),
    [
        (".png", ""),
        (".png", "png"),
        (".png", "rgb8; png compressed bgr8"),
        (".png", "bgr8; png compressed bgr8"),
        (".png", "rgba8; png compressed bgr8"),
        (".jpg", "jpeg"),
        (".jpg", "jpg"),
        (".jpg", "rgb8; jpeg compressed bgr8"),
        (".jpg", "yuv422; jpeg compressed bgr8"),
        (".jpg", "bayer_rggb8; jpeg compressed bgr8"),
    ],
)
def test_color_as_image_transport_writes_it(extension, text):
    image = read_compressed_image(_compressed(extension, BIG_RGB[..., ::-1], text))
    assert image.shape == BIG_RGB.shape
    # Colour is subsampled at edges of a JPEG; inside the squares it is nearly exact.
    centres = image[8::16, 8::16].astype(int)
    assert np.abs(centres - RGB).max() <= (0 if extension == ".png" else 3)


@pytest.mark.parametrize("text", ["rgb8; jpeg compressed rgb8", "bgr8; png compressed "])
def test_channels_that_were_stored_as_rgb_are_taken_as_such(text):
    image = read_compressed_image(_compressed(".png", BIG_RGB, text))
    assert image.tolist() == BIG_RGB.tolist()


@pytest.mark.parametrize("text", ["mono8; png compressed ", "mono8; jpeg compressed mono8", "png"])
def test_gray_files_become_rgb(text):
    image = read_compressed_image(_compressed(".png", np.full((3, 4), 9, np.uint8), text))
    assert image.tolist() == np.full((3, 4, 3), 9).tolist()


def test_a_16_bit_png_becomes_8_bit():
    pixels = np.full((3, 4), 257 * 9, np.uint16)
    image = read_compressed_image(_compressed(".png", pixels, "mono16; png compressed "))
    assert image.tolist() == np.full((3, 4, 3), 9).tolist()


def test_a_png_with_alpha_loses_it():
    pixels = np.dstack([BIG_RGB[..., ::-1], BIG_RGB[..., 0]])
    assert read_compressed_image(_compressed(".png", pixels, "png")).tolist() == BIG_RGB.tolist()


def test_a_mosaic_in_a_png_is_demosaiced_and_a_jpeg_is_not():
    mosaic = np.tile(np.array([[200, 90], [90, 30]], np.uint8), (8, 8))
    image = read_compressed_image(_compressed(".png", mosaic, "bayer_rggb8; png compressed "))
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[200, 90, 30]]
    gray = read_compressed_image(_compressed(".png", mosaic, "bayer_rggb8; jpeg compressed mono8"))
    assert (gray[..., 0] == gray[..., 2]).all()


def _jpeg_with_orientation() -> bytes:
    """A JPEG of 2 x 4 squares whose EXIF says: turn me by 90 degrees."""
    jpeg = cv2.imencode(".jpg", BIG_RGB[..., ::-1])[1].tobytes()
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_the_orientation_of_a_jpeg_is_not_applied():
    msg = SimpleNamespace(format="jpeg", data=_jpeg_with_orientation())
    assert cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (64, 32)
    assert read_compressed_image(msg).shape == (32, 64, 3)


def _png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunk + end


def test_a_small_file_of_a_huge_picture_is_refused_before_memory_is_taken():
    msg = SimpleNamespace(format="png", data=_png_claiming(65535, 65535))
    with pytest.raises(InputError, match="found 65535x65535 pixels, expected at most 67108864"):
        read_compressed_image(msg)
    jpeg = bytearray(cv2.imencode(".jpg", BIG_RGB)[1].tobytes())
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65535, 65535)
    with pytest.raises(InputError, match="found 65535x65535 pixels"):
        read_compressed_image(SimpleNamespace(format="jpeg", data=bytes(jpeg)))


def test_a_file_that_claims_more_pixels_than_it_can_hold_is_refused():
    msg = SimpleNamespace(format="png", data=_png_claiming(8000, 8000))
    with pytest.raises(InputError, match="found 45 bytes that claim 8000x8000 pixels"):
        read_compressed_image(msg)


def test_a_chunk_that_claims_gigabytes_is_refused_before_memory_is_taken():
    png = bytearray(cv2.imencode(".png", BIG_RGB)[1].tobytes())
    position = png.index(b"IDAT") - 4
    png[position : position + 4] = struct.pack(">I", 0x7FFF0000)
    with pytest.raises(InputError, match="the message is truncated"):
        read_compressed_image(SimpleNamespace(format="png", data=bytes(png)))


def test_a_blank_picture_is_read_though_it_packs_as_well_as_can_be():
    for extension in (".png", ".jpg"):
        msg = _compressed(extension, np.zeros((1080, 1920), np.uint8), "")
        assert read_compressed_image(msg).shape == (1080, 1920, 3)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(extension, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    msg = _compressed(extension, noise, "")
    msg.data = msg.data[: int(len(msg.data) * part)]
    with pytest.raises(InputError, match="compressed image: found"):
        read_compressed_image(msg)


def test_a_padded_jpeg_is_read():
    msg = _compressed(".jpg", BIG_RGB, "jpeg")
    msg.data = np.concatenate((msg.data, np.zeros(500, np.uint8)))
    assert read_compressed_image(msg).shape == BIG_RGB.shape


@pytest.mark.parametrize(
    ("text", "data", "found"),
    [
        (
            "h264",
            b"\x00\x00\x00\x01gB",
            "found format 'h264' and data that starts with 00 00 00 01",
        ),
        ("jpeg", b"", "data that starts with nothing, expected JPEG or PNG"),
        ("16UC1; compressedDepth png", bytes(30), "'image/compressed' remapped to a depth image"),
        ("png", _png_claiming(0, 5), "found 0x5 pixels"),
        ("png", _png_claiming(5, 5), "cannot be decoded; the message is corrupt"),
    ],
)
def test_other_data_is_refused(text, data, found):
    with pytest.raises(InputError) as error:
        read_compressed_image(SimpleNamespace(format=text, data=data))
    assert found in str(error.value)


DEPTH = np.array([[0, 1.5, 80.25], [np.nan, np.inf, -1]], np.float32)


def test_depth_in_metres_has_nan_where_there_is_none():
    fields = depth_image_fields(DEPTH)
    assert (fields["height"], fields["width"], fields["step"]) == (2, 3, 12)
    assert (fields["encoding"], fields["is_bigendian"]) == ("32FC1", 0)
    written = fields["data"].view("<f4")
    assert written[1:3].tolist() == [1.5, 80.25]
    assert np.isnan(written[[0, 3, 4, 5]]).all()
    assert DEPTH[0, 0] == 0


def test_depth_in_millimetres_has_0_where_there_is_none():
    depth = np.array([[0, 1.5, 1.2344, 65.535, 65.536, 80, np.nan, 0.0004]], np.float32)
    fields = depth_image_fields(depth, "16UC1")
    assert fields["data"].view("<u2").tolist() == [0, 1500, 1234, 65535, 0, 0, 0, 0]
    assert fields["step"] == 16


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_depth_round_trips_through_cdr(typestore, encoding):
    depth = np.array([[0, 1.5, 60.25]], np.float32)
    name = "sensor_msgs/msg/Image"
    msg = build_message(typestore, name, depth_image_fields(depth, encoding))
    read = read_depth_image(typestore.deserialize_cdr(typestore.serialize_cdr(msg, name), name))
    assert read.tolist() == depth.tolist()
    assert read.dtype == np.float32


@pytest.mark.parametrize("order", ["<", ">"])
def test_depth_of_both_byte_orders_and_with_padding(make_image, order):
    metres = make_image(DEPTH.astype(order + "f4"), "32FC1", row_padding=4)
    assert read_depth_image(metres).tolist() == [[0, 1.5, 80.25], [0, 0, 0]]
    millimetres = make_image(np.array([[0, 1500], [1, 65535]], order + "u2"), "16UC1")
    expected = np.array([[0, 1.5], [0.001, 65.535]], np.float32)
    assert read_depth_image(millimetres).tolist() == expected.tolist()


def test_a_color_image_is_no_depth_image(make_image):
    with pytest.raises(InputError, match="found encoding 'rgb8', expected 32FC1 or 16UC1"):
        read_depth_image(make_image(RGB, "rgb8"))
    with pytest.raises(InputError, match="found encoding 'rgb8', expected 32FC1 or 16UC1"):
        depth_image_fields(DEPTH, "rgb8")


def test_compressed_depth_is_lossless_millimetres():
    depth = np.array([[0, 1.5, 1.2344, 65.535, 70, np.nan]], np.float32)
    fields = compressed_depth_fields(depth)
    assert fields["format"] == "16UC1; compressedDepth png"
    assert fields["data"][:12].tolist() == [0] * 12
    assert fields["data"][12:20].tobytes() == b"\x89PNG\r\n\x1a\n"
    expected = np.array([[0, 1.5, 1.234, 65.535, 0, 0]], np.float32)
    assert read_compressed_depth(SimpleNamespace(**fields)).tolist() == expected.tolist()


def test_compressed_inverse_depth_is_read():
    # compressed_depth_image_transport's defaults: depth_quantization 100, depth_max 10
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0
    inverse = np.array([[0, 1, 2000]], np.uint16)
    png = cv2.imencode(".png", inverse)[1].tobytes()
    msg = SimpleNamespace(
        format="32FC1; compressedDepth png", data=struct.pack("<iff", 0, a, b) + png
    )
    assert read_compressed_depth(msg)[0].tolist() == pytest.approx([0, 10, 10100 / 3009])
    msg.format = "32FC1; compressedDepth"
    assert read_compressed_depth(msg)[0, 1] == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "data", "found"),
    [
        ("16UC1; compressedDepth rvl", bytes(50), "set the publisher's compressedDepth format to"),
        ("rgb8; jpeg compressed bgr8", bytes(50), "expected 16UC1 or 32FC1 as PNG"),
        ("16UC1; compressedDepth png", bytes(12), "found 12 bytes; the message is truncated"),
        ("16UC1; compressedDepth png", bytes(50), "expected JPEG or PNG"),
        (
            "16UC1; compressedDepth png",
            bytes(12) + cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes(),
            "found (2, 2, 3) uint8, expected (H, W) uint16",
        ),
    ],
)
def test_other_compressed_depth_is_refused(text, data, found):
    with pytest.raises(InputError) as error:
        read_compressed_depth(SimpleNamespace(format=text, data=data))
    assert found in str(error.value)


def test_image_fields_share_the_memory_of_a_contiguous_array():
    image = RGB.copy()
    fields = image_fields(image, "rgb8")
    assert np.shares_memory(fields["data"], image)
    assert fields["data"].tolist() == RGB.ravel().tolist()
    assert (fields["height"], fields["width"], fields["step"]) == (2, 4, 12)


def test_image_fields_of_a_planar_image_have_the_height_of_the_picture():
    fields = image_fields(np.zeros((6, 4), np.uint8), "nv12")
    assert (fields["height"], fields["width"], fields["step"]) == (4, 4, 4)


@pytest.mark.parametrize(
    ("array", "encoding", "found"),
    [
        (RGB, "mono8", r"found \(2, 4, 3\) uint8, expected \(H, W, 1\) uint8 for mono8"),
        (RGB.astype(np.float32), "rgb8", r"found \(2, 4, 3\) float32"),
        (RGB, "rgb9", "found encoding 'rgb9'"),
    ],
)
def test_an_array_that_does_not_fit_its_encoding_is_not_written(array, encoding, found):
    with pytest.raises(InputError, match=found):
        image_fields(array, encoding)


ENCODINGS = [
    *(
        "mono8",
        "mono16",
        "rgb8",
        "bgr8",
        "rgba8",
        "bgra8",
        "8UC1",
        "8UC3",
        "8UC4",
        "yuv422",
        "uyvy",
    ),
    *(
        "yuv422_yuy2",
        "yuyv",
        "nv12",
        "nv21",
        "rgb16",
        "bayer_rggb8",
        "bayer_bggr16",
        "bayer_gbrg8",
    ),
]


@given(
    height=st.integers(-1, 8) | st.integers(0, 2**32 - 1),
    width=st.integers(-1, 8) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    encoding=st.sampled_from([*ENCODINGS, "32FC1", "16UC1", "nv24", ""]) | st.text(max_size=8),
    is_bigendian=st.integers(0, 255),
    data=st.binary(max_size=400),
)
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_message_gives_a_picture_or_an_input_error(
    height, width, step, encoding, is_bigendian, data
):
    msg = SimpleNamespace(
        height=height,
        width=width,
        step=step,
        encoding=encoding,
        is_bigendian=is_bigendian,
        data=data,
    )
    with contextlib.suppress(InputError):
        image = read_image(msg)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
    with contextlib.suppress(InputError):
        depth = read_depth_image(msg)
        assert depth.shape == (height, width)
        assert (np.isfinite(depth) & (depth >= 0)).all()


PICTURES = [
    cv2.imencode(extension, pixels)[1].tobytes()
    for extension in (".png", ".jpg")
    for pixels in (BIG_RGB, BIG_RGB[..., 0], BIG_RGB[:1, :1])
]


@given(
    picture=st.sampled_from(PICTURES),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    text=st.sampled_from(["", "jpeg", "bayer_rggb8; png compressed ", "rgb8; jpeg compressed "]),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_change_to_a_file_gives_a_picture_or_an_input_error(picture, changes, text):
    data = bytearray(picture)
    for position, value in changes:
        data[position % len(data)] = value
    with contextlib.suppress(InputError):
        image = read_compressed_image(SimpleNamespace(format=text, data=bytes(data)))
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.dtype == np.uint8


@pytest.mark.ros
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        *(("mono8", 1), ("mono16", 1), ("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4)),
        *(("bayer_rggb8", 1), ("bayer_bggr8", 1), ("bayer_gbrg8", 1), ("bayer_grbg8", 1)),
        *(("yuv422", 2), ("yuv422_yuy2", 2)),
    ],
)
def test_cv_bridge_reads_the_same_pixels(make_image, encoding, channels, padding):
    pytest.importorskip("sensor_msgs", reason="no sensor_msgs here")
    cv_bridge = pytest.importorskip(
        "cv_bridge", reason="no cv_bridge here; it comes with an installed ROS"
    )
    from sensor_msgs.msg import Image

    from depth_completion_ros.messages.fields import fill_message

    kind = np.uint16 if encoding == "mono16" else np.uint8
    shape = (37, 50) if channels == 1 else (37, 50, channels)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind)
    fields = vars(make_image(pixels, encoding, row_padding=padding)).copy()
    fields["data"] = np.frombuffer(fields["data"], np.uint8)
    del fields["header"]
    msg = fill_message(Image(), fields)
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(msg, "rgb8")
    assert read_image(msg).tolist() == theirs.tolist()
