from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.messages.transforms import stamped_transform_fields
from depth_completion_ros.node import extrinsics
from depth_completion_ros.node.extrinsics import (
    TfExtrinsics,
    describe_extrinsics,
    given_extrinsics,
)
from depth_completion_ros.settings import CalibrationSettings

T = [[0, -1, 0, 0.06], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]]


def never() -> bool:
    return False


def test_auto_takes_the_file_then_the_parameter_then_tf(tmp_path):
    path = tmp_path / "calib.json"
    path.write_text(json.dumps({"T_camera_lidar": T}))
    numbers = tuple(float(x) for x in np.eye(4).ravel())
    both = given_extrinsics(CalibrationSettings(file=str(path), T_camera_lidar=numbers))
    np.testing.assert_allclose(both.look_up("a", "b", 0, never), T)
    assert both.origin == f"file {path}"
    parameter = given_extrinsics(CalibrationSettings(T_camera_lidar=numbers))
    np.testing.assert_array_equal(parameter.look_up("a", "b", 0, never), np.eye(4))
    assert given_extrinsics(CalibrationSettings()) is None
    assert given_extrinsics(CalibrationSettings(source="tf", file=str(path))) is None


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        (CalibrationSettings(source="file"), CalibrationError, "calibration.file: found nothing"),
        (
            CalibrationSettings(source="parameters"),
            CalibrationError,
            "calibration.T_camera_lidar: found nothing",
        ),
        (
            CalibrationSettings(T_camera_lidar=tuple(float(x) for x in 2 * np.eye(4).ravel())),
            CalibrationError,
            "calibration.T_camera_lidar",
        ),
        (CalibrationSettings(file="/no/such.yaml"), InputError, "/no/such.yaml"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(settings, error, reason):
    with pytest.raises(error, match=reason):
        given_extrinsics(settings)


def test_a_file_without_extrinsics_is_refused(tmp_path):
    path = tmp_path / "calib.json"
    path.write_text(json.dumps({"image_size": [4, 4], "K": np.eye(3).tolist()}))
    with pytest.raises(CalibrationError, match="no T_camera_lidar"):
        given_extrinsics(CalibrationSettings(file=str(path)))


class _Buffer:
    """What tf2 knows in a test: where frames stand along the camera's x."""

    def __init__(self) -> None:
        self.places: dict[str, float] = {}
        self.looked = 0

    def all_frames_as_yaml(self) -> str:
        self.looked += 1
        if not self.places:
            return "[]"
        return "".join(f"{name}:\n  parent: 'lidar'\n  rate: 10.0\n" for name in self.places)

    def lookup_transform(self, target: str, source: str, when) -> SimpleNamespace:
        if source not in self.places:
            raise LookupError(source)
        matrix = np.eye(4)
        matrix[0, 3] = self.places[source] - self.places[target]
        return _message(stamped_transform_fields(matrix, target, source))


def _message(fields):
    """Make what a message of ROS looks like to a reader."""
    if not isinstance(fields, dict):
        return fields
    return SimpleNamespace(**{name: _message(value) for name, value in fields.items()})


@pytest.fixture
def tf(monkeypatch):
    """Extrinsics of a tf2 that is played by the test."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    stand_in = SimpleNamespace(
        Buffer=_Buffer, TransformListener=lambda buffer, node: None, TransformException=LookupError
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", stand_in)
    return TfExtrinsics(None, 0.1)


@pytest.mark.ros
def test_a_shift_that_tf_holds_already_is_dropped_and_any_other_stays(tf):
    K = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])
    camera = PinholeCamera(1242, 375, K, frame_id="eye", shift=np.array([0.0598, 0.0, 0.0]))
    places = tf._buffer.places
    assert tf.without_shift(camera, "eye").shift[0] == 0.0598
    places |= {"camera_color_left": 0.0, "camera_color_right": 0.53}
    assert tf.without_shift(camera, "camera_color_left").shift[0] == 0.0598
    places["camera_gray_left"] = 0.0598
    assert not tf.without_shift(replace(camera, frame_id="x"), "camera_color_left").shift.any()


@pytest.mark.ros
def test_tf_is_asked_for_the_shift_once_and_again_after_a_while_if_it_was_not_there(
    tf, monkeypatch
):
    camera = PinholeCamera(1242, 375, np.diag([700.0, 700, 1]), shift=np.array([0.06, 0, 0]))
    tf._buffer.places |= {"left": 0.0}
    for _ in range(3):
        assert tf.without_shift(camera, "left").shift.any()
    assert tf._buffer.looked == 1
    tf._buffer.places["middle"] = 0.06
    monkeypatch.setattr(extrinsics, "_LOOK_AGAIN_SECONDS", 0.0)
    for _ in range(3):
        assert not tf.without_shift(camera, "left").shift.any()
    assert tf._buffer.looked == 2
    unshifted = replace(camera, shift=np.zeros(3))
    assert tf.without_shift(unshifted, "left") is unshifted
    assert tf._buffer.looked == 2


@pytest.mark.dataset
def test_a_kitti_folder_gives_the_camera_whose_frame_the_images_carry(kitti):
    settings = CalibrationSettings(file=str(kitti / "drive_0009" / "2011_09_26"))
    extrinsics = given_extrinsics(settings)
    left = extrinsics.look_up("camera_color_left", "velo_link", 0, never)
    right = extrinsics.look_up("camera_color_right", "velo_link", 0, never)
    # The two colour cameras stand 0.53 m apart.
    assert left[0, 3] - right[0, 3] == pytest.approx(0.53, abs=0.01)
    np.testing.assert_array_equal(extrinsics.look_up("my_camera", "velo_link", 0, never), left)
    assert extrinsics.camera.width == 1242


def test_the_place_of_the_lidar_is_told_in_words():
    assert describe_extrinsics(np.array(T, np.float64)) == (
        "the LiDAR stands 0.27 m behind, 0.06 m right of, 0.08 m above the camera; its x axis "
        "points forward, its z axis points up"
    )


def test_a_turned_lidar_is_told_with_its_angle():
    turn = np.radians(30)
    R = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], np.float64
    )
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(T, np.float64)[:3, :3] @ R
    text = describe_extrinsics(matrix)
    assert text.startswith("the LiDAR stands where the camera is; its x axis points forward ")
    assert "(turned by 30 degrees)" in text
