from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.datasets.calibration import Calibration, read_calibration
from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.geometry.transforms import invert_transform, transform_from_quaternion

CAM_TO_CAM = """S_rect_02: 8 6
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_00: 10 0 4 0 0 10 3 0 0 0 1 0
P_rect_02: 10 0 4 0.6 0 10 3 0 0 0 1 0
"""
VELO_TO_CAM = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.25\n"
OBJECT = """P0: 10 0 4 0 0 10 3 0 0 0 1 0
P2: 10 0 4 0.6 0 10 3 0 0 0 1 0
P3: 10 0 4 -4.8 0 10 3 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.25
Tr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0
"""
ODOMETRY = """P0: 10 0 4 0 0 10 3 0 0 0 1 0
P2: 10 0 4 0.6 0 10 3 0 0 0 1 0
Tr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.25
"""
EXPECTED = np.array(((0, -1, 0, 0.06), (0, 0, -1, 0), (1, 0, 0, -0.25), (0, 0, 0, 1)))


def pixel(calibration: Calibration, point: tuple[float, float, float]) -> tuple[float, ...]:
    """Column and row of a LiDAR point, and its depth."""
    assert calibration.T_camera_lidar is not None
    assert calibration.K is not None
    x, y, z = (calibration.T_camera_lidar @ (*point, 1))[:3]
    u, v, _ = calibration.K @ (x / z, y / z, 1)
    return float(u), float(v), float(z)


def _raw(folder: Path, cameras: str = CAM_TO_CAM, lidar: str = VELO_TO_CAM) -> Path:
    (folder / "calib_cam_to_cam.txt").write_text(cameras)
    (folder / "calib_velo_to_cam.txt").write_text(lidar)
    return folder


def _file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_raw_files_fold_the_fourth_column_into_the_extrinsics(tmp_path: Path) -> None:
    calibration = read_calibration(_raw(tmp_path))
    np.testing.assert_allclose(calibration.T_camera_lidar, EXPECTED)
    assert calibration.size == (8, 6)
    camera = calibration.camera
    assert camera is not None
    assert not camera.shift.any()
    assert not camera.is_distorted


@pytest.mark.parametrize("name", ["calib_cam_to_cam.txt", "calib_velo_to_cam.txt"])
def test_either_raw_file_stands_for_both(tmp_path: Path, name: str) -> None:
    calibration = read_calibration(_raw(tmp_path) / name)
    np.testing.assert_allclose(calibration.T_camera_lidar, EXPECTED)


@pytest.mark.parametrize("text", [OBJECT, ODOMETRY])
def test_object_and_odometry_files_give_the_same(tmp_path: Path, text: str) -> None:
    calibration = read_calibration(_file(tmp_path, "000003.txt", text))
    np.testing.assert_allclose(calibration.T_camera_lidar, EXPECTED)
    assert calibration.camera is None
    assert calibration.camera_for(8, 6).K.tolist() == [[10, 0, 4], [0, 10, 3], [0, 0, 1]]


def test_the_camera_chooses_the_projection(tmp_path: Path) -> None:
    path = _file(tmp_path, "000003.txt", OBJECT)
    right = read_calibration(path, camera="image_03").T_camera_lidar
    assert right is not None
    assert right[0, 3] == pytest.approx(-0.48)
    with pytest.raises(CalibrationError, match=r"000003\.txt: found no P1 \(found P0, P2"):
        read_calibration(path, camera="image_01")


def test_benchmark_intrinsics_are_nine_numbers(tmp_path: Path) -> None:
    path = _file(tmp_path, "i.txt", "7.2e+02 0 6.0e+02 0 7.2e+02 1.7e+02 0 0 1")
    calibration = read_calibration(path)
    assert calibration.T_camera_lidar is None
    assert calibration.K is not None
    assert calibration.K[0].tolist() == [720, 0, 600]


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        # P_rect_0X @ R_rect_00 @ T_velo_to_cam with the numbers of the file, for a point 10 m
        # ahead, 2 m to the left and 1 m below the scanner: column, row, depth.
        ("image_02", (466.295, 250.803, 9.71986)),
        ("image_03", (426.749, 251.007, 9.71985)),
        ("image_00", (461.810, 250.851, 9.71712)),
    ],
)
def test_a_point_falls_on_its_known_pixel(
    kitti: Path, camera: str, expected: tuple[float, ...]
) -> None:
    calibration = read_calibration(kitti / "drive_0009" / "2011_09_26", camera=camera)
    u, v, z = pixel(calibration, (10, 2, -1))
    assert (round(u, 3), round(v, 3), round(z, 5)) == expected


@pytest.mark.dataset
def test_dropping_the_fourth_column_would_shift_points_by_45_pixels_per_metre(kitti: Path) -> None:
    date = kitti / "drive_0009" / "2011_09_26"
    for depth in (5.0, 10.0, 45.0):
        left, _, z = pixel(read_calibration(date, camera="image_02"), (depth, 0, 0))
        wrong, _, _ = pixel(read_calibration(date, camera="image_00"), (depth, 0, 0))
        # The column's third number, 2.7 mm along z, takes back a little of it.
        assert (left - wrong) * z == pytest.approx(44.85728 - wrong * 0.002745884, abs=1e-3)


@pytest.mark.dataset
def test_the_raw_files_give_what_the_shipped_frames_carry(kitti: Path) -> None:
    raw = read_calibration(kitti / "drive_0009" / "2011_09_26")
    shipped = read_calibration(kitti / "completion" / "raw0009_0000000005_calib.json")
    np.testing.assert_allclose(raw.T_camera_lidar, shipped.T_camera_lidar, atol=1e-11)
    assert raw.camera is not None
    assert shipped.camera is not None
    np.testing.assert_array_equal(raw.camera.K, shipped.camera.K)
    assert raw.size == shipped.size == (1242, 375)


def test_own_yaml_as_matrix_and_as_quaternion(tmp_path: Path) -> None:
    camera = (
        "camera: {width: 8, height: 6, K: [10, 0, 4, 0, 10, 3, 0, 0, 1], "
        "D: [0.1, 0, 0, 0, 0], distortion_model: plumb_bob, frame_id: front}\n"
    )
    matrix = f"T_camera_lidar: {EXPECTED.tolist()}\n"
    quaternion = (
        "T_camera_lidar: {translation: [0.06, 0, -0.25], rotation: [0.5, -0.5, 0.5, 0.5]}\n"
    )
    first = read_calibration(_file(tmp_path, "a.yaml", camera + matrix))
    second = read_calibration(_file(tmp_path, "b.yml", camera + quaternion))
    assert first.camera is not None
    assert first.camera.distortion_model == "plumb_bob"
    assert first.camera.D[0] == 0.1
    assert first.camera.frame_id == "front"
    np.testing.assert_allclose(first.T_camera_lidar, EXPECTED)
    np.testing.assert_allclose(second.T_camera_lidar, EXPECTED, atol=1e-12)


def test_own_yaml_may_hold_the_extrinsics_alone_and_the_other_way_round(tmp_path: Path) -> None:
    inverse = invert_transform(EXPECTED).tolist()
    calibration = read_calibration(_file(tmp_path, "a.yaml", f"T_lidar_camera: {inverse}\n"))
    np.testing.assert_allclose(calibration.T_camera_lidar, EXPECTED, atol=1e-12)
    assert calibration.camera is None
    with pytest.raises(CalibrationError, match="found no intrinsics"):
        calibration.camera_for(8, 6)


ROS_YAML = """image_width: 8
image_height: 6
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [11, 0, 4.5, 0, 11, 3.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [10, 0, 4, 0, 0, 10, 3, 0, 0, 0, 1, 0]}
"""


def test_ros_yaml_gives_the_rectified_or_the_raw_camera(tmp_path: Path) -> None:
    path = _file(tmp_path, "front.yaml", ROS_YAML)
    rectified = read_calibration(path).camera
    raw = read_calibration(path, projection_model="raw").camera
    assert rectified is not None
    assert raw is not None
    assert (rectified.K[0, 0], rectified.is_distorted) == (10, False)
    assert (raw.K[0, 0], raw.is_distorted) == (11, True)


KOIDE = {
    "camera": {
        "camera_model": "plumb_bob",
        "distortion_coeffs": [-0.04, 0.08, 0.0, 0.0, -0.04],
        "intrinsics": [810.0, 811.0, 822.0, 622.0],
    },
    "meta": {"image_topic": "/image"},
    "results": {
        "T_lidar_camera": [0.03, 0.002, 0.108, -0.5, 0.5, -0.5, 0.5],
        "init_T_lidar_camera": [0, 0, 0, 0, 0, 0, 1],
    },
}


def test_koide_transform_is_turned_round(tmp_path: Path) -> None:
    calibration = read_calibration(_file(tmp_path, "calib.json", json.dumps(KOIDE)))
    # The camera stands at (0.03, 0.002, 0.108) in the LiDAR's frame and looks along its x.
    assert calibration.T_camera_lidar is not None
    point = calibration.T_camera_lidar @ (5.03, 0.002, 0.108, 1)
    np.testing.assert_allclose(point, (0, 0, 5, 1), atol=1e-12)
    T_lidar_camera = transform_from_quaternion((0.03, 0.002, 0.108), (-0.5, 0.5, -0.5, 0.5))
    np.testing.assert_allclose(calibration.T_camera_lidar @ T_lidar_camera, np.eye(4), atol=1e-12)
    camera = calibration.camera_for(1640, 1232)
    assert camera.K.tolist() == [[810, 0, 822], [0, 811, 622], [0, 0, 1]]
    assert camera.D.tolist() == [-0.04, 0.08, 0.0, 0.0, -0.04]


def test_koide_fisheye_is_equidistant_and_unknown_lenses_are_refused(tmp_path: Path) -> None:
    tree = json.loads(json.dumps(KOIDE))
    tree["camera"].update(camera_model="fisheye", distortion_coeffs=[0.1, 0, 0, 0])
    calibration = read_calibration(_file(tmp_path, "calib.json", json.dumps(tree)))
    assert calibration.distortion_model == "equidistant"
    tree["camera"]["camera_model"] = "omnidir"
    with pytest.raises(CalibrationError, match="found 'omnidir', expected one of plumb_bob"):
        read_calibration(_file(tmp_path, "calib.json", json.dumps(tree)))


def test_koide_without_a_result_is_no_calibration(tmp_path: Path) -> None:
    tree = json.loads(json.dumps(KOIDE))
    del tree["results"]["T_lidar_camera"]
    with pytest.raises(CalibrationError, match="only an initial guess, expected T_lidar_camera"):
        read_calibration(_file(tmp_path, "calib.json", json.dumps(tree)))


def test_a_size_that_contradicts_the_image_is_refused(tmp_path: Path) -> None:
    calibration = read_calibration(_raw(tmp_path))
    with pytest.raises(CalibrationError, match="calibration of a 8x6 image, expected 9x6"):
        calibration.camera_for(9, 6)


BAD_YAML = {
    "K: [0, 0, 0, 0, 0, 0, 0, 0, 0]": "found focal lengths 0 and 0",
    "K: [10, 0, 4]": r"K: found \[10, 0, 4\], expected 3 x 3 numbers",
    "K: ten": "K: found 'ten', expected 3 x 3 numbers",
    "K: [10, 0, 4, 0, .nan, 3, 0, 0, 1]": "K: found NaN",
    "camera: 5": "camera: found 5, expected width",
    "camera: {width: 8, height: 6}": r"found no K \(found width, height\)",
    "camera: {K: [10, 0, 4, 0, 10, 3, 0, 0, 1], D: [1, 2, 3]}": "found 3 coefficients",
    "camera: {K: [1, 0, 4, 0, 1, 3, 0, 0, 1], D: [1], distortion_model: x}": "found 'x'",
    "T_camera_lidar: [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]": "is no rotation",
    "T_camera_lidar: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]": "mirrors",
    "T_camera_lidar: {translation: [0, 0, 0]}": "found no rotation",
    "T_camera_lidar: {translation: [0, 0, 0], rotation: [0, 0, 0, 0]}": "quaternion: found",
    "T_camera_lidar: [1, 2]": "expected 4 x 4 numbers",
    "lens: wide": "found lens; expected camera and T_camera_lidar",
    "results: {T_lidar_camera: [0, 0, 0, 0, 0, 0, 1]}": "expected the tables of direct_visual",
    "camera_matrix: {data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}": "image_width, image_height: found",
}


@pytest.mark.parametrize("text", BAD_YAML)
def test_what_cannot_be_true_is_refused_in_one_line_with_the_path(
    tmp_path: Path, text: str
) -> None:
    path = _file(tmp_path, "bad.yaml", text)
    with pytest.raises(CalibrationError, match=BAD_YAML[text]) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "found no valid JSON"),
        ("a.yaml", "a: [", "found no valid YAML"),
        ("a.yaml", "- 1", "found list at the top level"),
        ("a.xml", "<a/>", "found a file of unknown kind"),
    ],
)
def test_what_is_no_calibration_file_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_calibration(_file(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.yaml", "none.txt", "none.json", "none"):
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            read_calibration(tmp_path / name)


def test_a_missing_raw_key_is_named(tmp_path: Path) -> None:
    lines = [line for line in CAM_TO_CAM.splitlines() if "R_rect_00" not in line]
    with pytest.raises(CalibrationError, match=r"cam_to_cam\.txt: found no R_rect_00"):
        read_calibration(_raw(tmp_path, "\n".join(lines)))
    with pytest.raises(CalibrationError, match=r"velo_to_cam\.txt: T: found \['0'\], expected 3"):
        read_calibration(_raw(tmp_path, lidar="R: 0 -1 0 0 0 -1 1 0 0\nT: 0\n"))
    with pytest.raises(CalibrationError, match="is no rotation"):
        read_calibration(_raw(tmp_path, lidar="R: 0 -3 0 0 0 -1 1 0 0\nT: 0 0 0\n"))
    zeros = CAM_TO_CAM.replace("P_rect_02: 10 0 4 0.6 0 10", "P_rect_02: 0 0 4 0.6 0 0")
    with pytest.raises(CalibrationError, match="found focal lengths 0 and 0"):
        read_calibration(_raw(tmp_path, zeros))
    shutil.rmtree(tmp_path)
