"""The shared types: what they accept, and the one line they refuse the rest with."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from depth_completion_ros.data import DenseDepth, Frame, PinholeCamera, checked_transform
from depth_completion_ros.errors import CalibrationError, InputError

K = [[100, 0, 20], [0, 110, 15], [0, 0, 1]]
CAMERA = PinholeCamera(40, 30, K)
IMAGE = np.zeros((30, 40, 3), np.uint8)
SPARSE = np.zeros((30, 40), np.float32)
POINTS = np.zeros((5, 4), np.float32)
NOT_A_NUMBER = np.full((30, 40), np.nan, np.float32)


class TestPinholeCamera:
    def test_numbers_become_read_only_doubles(self):
        assert CAMERA.K.dtype == np.float64
        assert CAMERA.shift.tolist() == [0, 0, 0]
        with pytest.raises(ValueError, match="read-only"):
            CAMERA.K[0, 0] = 1

    def test_the_callers_array_is_not_locked(self):
        mine = np.array(K, np.float64)
        PinholeCamera(40, 30, mine)
        mine[0, 0] = 5

    def test_it_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            CAMERA.width = 3

    def test_equal_numbers_make_equal_cameras(self):
        same = PinholeCamera(40, 30, np.array(K, np.float32))
        assert same == CAMERA
        assert hash(same) == hash(CAMERA)
        assert PinholeCamera(40, 31, K) != CAMERA
        assert dataclasses.replace(CAMERA, shift=[0.1, 0, 0]) != CAMERA
        assert dataclasses.replace(CAMERA, frame_id="other") != CAMERA
        assert CAMERA != "camera"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"width": 0}, "camera size: found 0x30, expected positive integers"),
            ({"height": 2.5}, "camera size: found 40x2.5, expected positive integers"),
            ({"K": np.zeros((3, 3))},
             "K: found focal lengths 0 and 0, expected positive ones; is the camera calibrated?"),
            ({"K": np.eye(4)}, "K: found shape (4, 4), expected (3, 3)"),
            ({"K": np.full((3, 3), np.nan)},
             "K: found NaN or infinite numbers, expected finite ones"),
            ({"K": "fx"}, "K: found 'fx', expected numbers"),
            ({"K": np.transpose(K)},
             "K: expected an upper triangular matrix with last row 0 0 1; is it transposed?"),
            ({"D": [[0.1]]}, "D: found shape (1, 1), expected (n,)"),
            ({"D": [0.1] * 4, "distortion_model": "fov"},
             "distortion_model: found 'fov', expected one of plumb_bob, rational_polynomial, "
             "equidistant"),
            ({"D": [0.1] * 3, "distortion_model": "plumb_bob"},
             "D: found 3 coefficients for 'plumb_bob', expected 0 or 4 or 5"),
            ({"D": [0.1] * 5, "distortion_model": "rational_polynomial"},
             "D: found 5 coefficients for 'rational_polynomial', expected 8 or 12 or 14"),
            ({"D": [0.1] * 5, "distortion_model": "equidistant"},
             "D: found 5 coefficients for 'equidistant', expected 4"),
            ({"D": [0.1] * 5}, "D: found 5 coefficients for '', expected 0"),
            ({"shift": [1, 2]}, "shift: found shape (2,), expected (3,)"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_true_is_refused(self, changes, message):
        with pytest.raises(CalibrationError) as caught:
            dataclasses.replace(CAMERA, **changes)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("model", "D", "bends"),
        [("", [], False), ("plumb_bob", [0] * 5, False), ("plumb_bob", [0.1, 0, 0, 0], True),
         ("equidistant", [], False), ("equidistant", [0] * 4, True)],
    )  # fmt: skip
    def test_an_ideal_fisheye_bends_rays_though_its_coefficients_are_zero(self, model, D, bends):
        assert PinholeCamera(40, 30, K, D, model).is_distorted is bends


def camera_info(**changes) -> SimpleNamespace:
    """A rectified right camera of a stereo pair: P[0, 3] = -fx * 0.2 m."""
    fields = {
        "header": SimpleNamespace(frame_id="camera_optical"),
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [-0.3, 0.1, 0.0, 0.0, 0.0],
        "k": [500, 0, 320, 0, 510, 240, 0, 0, 1],
        "p": [450, 0, 310, -90, 0, 450, 235, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**{**fields, **changes})


class TestFromCameraInfo:
    def test_rectified_images_follow_p(self):
        camera = PinholeCamera.from_camera_info(camera_info())
        assert camera.K.tolist() == [[450, 0, 310], [0, 450, 235], [0, 0, 1]]
        assert not camera.is_distorted
        assert (camera.width, camera.height, camera.frame_id) == (640, 480, "camera_optical")

    def test_the_fourth_column_of_p_is_a_shift_in_metres(self):
        assert PinholeCamera.from_camera_info(camera_info()).shift == pytest.approx([-0.2, 0, 0])

    def test_raw_images_follow_k_and_d(self):
        camera = PinholeCamera.from_camera_info(camera_info(), "raw")
        assert camera.K.tolist() == [[500, 0, 320], [0, 510, 240], [0, 0, 1]]
        assert camera.D.tolist() == [-0.3, 0.1, 0, 0, 0]
        assert camera.shift.tolist() == [0, 0, 0]

    def test_ros_1_spelling_is_read(self):
        msg = camera_info()
        old = SimpleNamespace(
            **{k: v for k, v in vars(msg).items() if k not in "dkp"}, D=msg.d, K=msg.k, P=msg.p
        )
        assert PinholeCamera.from_camera_info(old) == PinholeCamera.from_camera_info(msg)

    def test_a_region_of_interest_moves_the_principal_point(self):
        roi = SimpleNamespace(x_offset=100, y_offset=50, width=200, height=120)
        camera = PinholeCamera.from_camera_info(camera_info(roi=roi))
        assert (camera.width, camera.height) == (200, 120)
        assert camera.K.tolist() == [[450, 0, 210], [0, 450, 185], [0, 0, 1]]
        assert camera.shift == pytest.approx([-0.2, 0, 0])

    def test_binning_scales(self):
        camera = PinholeCamera.from_camera_info(camera_info(binning_x=2, binning_y=4))
        assert (camera.width, camera.height) == (320, 120)
        assert camera.K.tolist() == [[225, 0, 155], [0, 112.5, 58.75], [0, 0, 1]]

    def test_the_region_is_given_in_pixels_before_binning(self):
        roi = SimpleNamespace(x_offset=100, y_offset=50, width=200, height=120)
        camera = PinholeCamera.from_camera_info(camera_info(roi=roi, binning_x=2, binning_y=2))
        assert (camera.width, camera.height) == (100, 60)
        assert camera.K[:2, 2].tolist() == [105, 92.5]

    @pytest.mark.parametrize("name", ["none", "", "plumb_bob", "rational_polynomial"])
    def test_the_models_name_does_not_matter_without_distortion(self, name):
        msg = camera_info(d=[0.0] * 5, distortion_model=name)
        assert not PinholeCamera.from_camera_info(msg, "raw").is_distorted

    def test_an_ideal_fisheye_stays_a_fisheye(self):
        msg = camera_info(d=[0.0] * 4, distortion_model="equidistant")
        assert PinholeCamera.from_camera_info(msg, "raw").is_distorted

    @pytest.mark.parametrize(
        ("changes", "model", "message"),
        [
            ({"k": [0] * 9, "p": [0] * 12}, "rectified",
             "camera_info: found focal length 0, expected a positive one; the camera is not "
             "calibrated (run camera_calibration or set its camera_info_url)"),
            ({"k": [0] * 9}, "raw",
             "camera_info: found focal length 0, expected a positive one; the camera is not "
             "calibrated (run camera_calibration or set its camera_info_url)"),
            ({"p": [0] * 12}, "rectified",
             "camera_info: P is not set but K is; set projection_model to raw if the image is not "
             "rectified, or fill P"),
            ({"k": [1, 2]}, "rectified", "camera_info.k: found 2 numbers, expected 9"),
            ({"p": []}, "rectified", "camera_info.p: found 0 numbers, expected 12"),
            ({"d": [0.1] * 3}, "raw",
             "D: found 3 coefficients for 'plumb_bob', expected 0 or 4 or 5"),
            ({}, "fisheye", "projection_model: found 'fisheye', expected rectified or raw"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_used_is_refused(self, changes, model, message):
        with pytest.raises(CalibrationError) as caught:
            PinholeCamera.from_camera_info(camera_info(**changes), model)
        assert str(caught.value) == message


def frame(**changes) -> Frame:
    fields = {"image": IMAGE, "camera": CAMERA, "T_camera_lidar": np.eye(4), "points": POINTS}
    return Frame(**{**fields, **changes})


class TestFrame:
    def test_a_frame_with_points(self):
        made = frame(stamp=np.int64(7), points_stamp=np.int64(5), point_times=np.zeros(5))
        assert (made.stamp, type(made.stamp)) == (7, int)
        assert (made.points_stamp, type(made.points_stamp)) == (5, int)

    def test_the_cloud_has_the_images_stamp_unless_told(self):
        assert frame(stamp=9).points_stamp == 9

    def test_a_sparse_map_needs_no_extrinsics(self):
        assert frame(points=None, sparse_depth=SPARSE, T_camera_lidar=None).points is None

    def test_points_may_hold_nan_and_may_be_none(self):
        frame(points=np.full((3, 3), np.nan, np.float32))
        frame(points=np.zeros((0, 4), np.float32))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image": IMAGE.tolist()}, "image: found list, expected a numpy array"),
            ({"image": IMAGE.astype(np.float32)},
             "image: found (30, 40, 3) float32, expected (30, 40, 3) uint8"),
            ({"image": IMAGE[..., 0]}, "image: found (30, 40) uint8, expected (30, 40, 3) uint8"),
            ({"image": IMAGE[:20]},
             "image: found (20, 40, 3) uint8, expected (30, 40, 3) uint8; image and camera_info "
             "differ in size"),
            ({"points": None},
             "frame: found neither of points and sparse_depth, expected exactly one"),
            ({"sparse_depth": SPARSE},
             "frame: found both of points and sparse_depth, expected exactly one"),
            ({"points": None, "sparse_depth": SPARSE.astype(np.float64)},
             "sparse_depth: found (30, 40) float64, expected (30, 40) float32"),
            ({"points": None, "sparse_depth": SPARSE[:, :5].copy()},
             "sparse_depth: found (30, 5) float32, expected (30, 40) float32"),
            ({"points": None, "sparse_depth": NOT_A_NUMBER},
             "sparse_depth: found NaN, infinite or negative values, expected 0 for none"),
            ({"points": None, "sparse_depth": SPARSE - 1},
             "sparse_depth: found NaN, infinite or negative values, expected 0 for none"),
            ({"T_camera_lidar": None},
             "frame: points without T_camera_lidar; where does the LiDAR stand?"),
            ({"points": [[1, 2, 3]]}, "points: found list, expected a numpy array"),
            ({"points": POINTS.astype(np.float64)},
             "points: found (5, 4) float64, expected (N, 3) or (N, 4) float32"),
            ({"points": POINTS[:, :2].copy()},
             "points: found (5, 2) float32, expected (N, 3) or (N, 4) float32"),
            ({"points": POINTS[0]},
             "points: found (4,) float32, expected (N, 3) or (N, 4) float32"),
            ({"point_times": np.zeros(4)},
             "point_times: found (4,) float64, expected (5,) float64"),
            ({"point_times": np.zeros(5, np.float32)},
             "point_times: found (5,) float32, expected (5,) float64"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_used_is_refused(self, changes, message):
        with pytest.raises(InputError) as caught:
            frame(**changes)
        assert str(caught.value) == message

    def test_extrinsics_are_checked(self):
        with pytest.raises(
            CalibrationError, match=r"^T_camera_lidar: its left upper 3x3 is no rot"
        ):
            frame(T_camera_lidar=np.diag([2, 2, 2, 1.0]))


class TestCheckedTransform:
    def test_a_rigid_transform_passes_as_read_only_doubles(self):
        given = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
        found = checked_transform(given)
        assert found.tolist() == given
        assert not found.flags.writeable

    def test_four_digits_are_enough(self):
        angle = 0.7
        R = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        T = np.eye(4)
        T[:3, :3] = np.round(R, 4)
        checked_transform(T)

    @pytest.mark.parametrize(
        ("T", "message"),
        [
            (np.eye(3), "T_camera_lidar: found shape (3, 3), expected (4, 4)"),
            (np.full((4, 4), np.nan),
             "T_camera_lidar: found NaN or infinite numbers, expected finite ones"),
            ("identity", "T_camera_lidar: found 'identity', expected numbers"),
            (np.diag([1, 1, 1, 2.0]),
             "T_camera_lidar: found last row [0.0, 0.0, 0.0, 2.0], expected 0 0 0 1"),
            (np.diag([1, 1, -1, 1.0]),
             "T_camera_lidar: its rotation mirrors (determinant -1); is an axis flipped?"),
            (np.diag([1000, 1000, 1000, 1.0]),
             "T_camera_lidar: its left upper 3x3 is no rotation (R @ R.T differs from 1 by 1e+06, "
             "scale 1e+03); expected a rigid transform in metres"),
        ],
    )  # fmt: skip
    def test_everything_else_is_refused(self, T, message):
        with pytest.raises(CalibrationError) as caught:
            checked_transform(T)
        assert str(caught.value) == message

    def test_the_message_carries_the_name(self):
        with pytest.raises(CalibrationError, match=r"^T_world_lidar: found shape"):
            checked_transform(np.eye(3), "T_world_lidar")


class TestDenseDepth:
    def test_maps_of_one_size_pass(self):
        made = DenseDepth(SPARSE, SPARSE, SPARSE, SPARSE)
        assert (made.stamp, dict(made.timings)) == (0, {})

    @pytest.mark.parametrize("name", ["sigma", "confidence", "sparse"])
    def test_maps_must_line_up(self, name):
        maps = {"sigma": SPARSE, "confidence": SPARSE, "sparse": SPARSE, name: SPARSE[:9].copy()}
        with pytest.raises(InputError) as caught:
            DenseDepth(depth=SPARSE, **maps)
        assert str(caught.value) == f"{name}: found (9, 40) float32, expected (30, 40) float32"

    def test_maps_are_single_precision(self):
        with pytest.raises(InputError, match=r"^depth: found \(30, 40\) float64, expected"):
            DenseDepth(SPARSE.astype(np.float64), SPARSE, SPARSE, SPARSE)

    def test_maps_have_two_dimensions(self):
        volume = np.zeros((2, 3, 4), np.float32)
        with pytest.raises(
            InputError, match=r"^depth: found shape \(2, 3, 4\), expected \(H, W\)"
        ):
            DenseDepth(volume, volume, volume, volume)
