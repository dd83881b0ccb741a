"""Cameras out to CameraInfo and back."""

from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.messages.camera_info import camera_info_fields
from depth_completion_ros.messages.fields import build_message

K = [[700.0, 0, 600], [0, 710, 180], [0, 0, 1]]


def _round_trip(typestore, camera, model):
    name = "sensor_msgs/msg/CameraInfo"
    msg = build_message(typestore, name, camera_info_fields(camera), stamp=1, frame_id="camera")
    read = typestore.deserialize_cdr(typestore.serialize_cdr(msg, name), name)
    return PinholeCamera.from_camera_info(read, model)


def test_a_rectified_camera_comes_back_with_its_shift(typestore):
    camera = PinholeCamera(1242, 375, K, frame_id="camera", shift=[-0.5, 0, 0])
    assert _round_trip(typestore, camera, "rectified") == camera


def test_p_holds_the_shift_in_pixels():
    fields = camera_info_fields(PinholeCamera(1242, 375, K, shift=[-0.5, 0, 0]))
    assert fields["p"].tolist() == [700, 0, 600, -350, 0, 710, 180, 0, 0, 0, 1, 0]
    assert fields["k"].tolist() == [700, 0, 600, 0, 710, 180, 0, 0, 1]
    assert fields["r"].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (fields["distortion_model"], fields["d"].tolist()) == ("plumb_bob", [0] * 5)


@pytest.mark.parametrize(("model", "count"), [("plumb_bob", 5), ("equidistant", 4)])
def test_a_distorted_camera_comes_back_with_its_coefficients(typestore, model, count):
    camera = PinholeCamera(1242, 375, K, np.full(count, 0.01), model, "camera")
    assert _round_trip(typestore, camera, "raw") == camera


def test_the_fields_share_no_memory_with_the_camera():
    camera = PinholeCamera(1242, 375, K, np.full(5, 0.01), "plumb_bob")
    fields = camera_info_fields(camera)
    for name in ("d", "k", "r", "p"):
        fields[name][:] = 0
    assert camera.K[0, 0] == 700
    assert camera.D[0] == 0.01
