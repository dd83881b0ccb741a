from __future__ import annotations

import json

import numpy as np
import pytest

from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.node.extrinsics import describe_extrinsics, given_extrinsics
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
