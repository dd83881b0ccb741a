"""Points in, pixels out, against a plain double loop and numbers a reader can check by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.errors import CalibrationError
from depth_completion_ros.geometry.projection import (
    count_visible,
    project_points,
    question_extrinsics,
    unproject_depth,
)
from depth_completion_ros.geometry.transforms import invert_transform, rotation_from_vector

# 4 x 3 pixels, focal length 2: at depth 2 a pixel is a metre wide.
SMALL = PinholeCamera(4, 3, [[2, 0, 1], [0, 2, 1], [0, 0, 1]])
NOWHERE = np.eye(4)

# LiDAR axes (x forward, y left, z up) to the optical frame (x right, y down, z forward).
FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def points_of(*rows) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, len(rows[0]) if rows else 3)


def project_by_loops(points, camera, T, min_depth=0.5, max_depth=250.0) -> np.ndarray:
    """One point after the other, in double precision, as the docstring defines it."""
    depth = np.zeros((camera.height, camera.width), np.float32)
    for point in points[:, :3].astype(np.float64):
        if not all(math.isfinite(value) for value in point):
            continue
        x, y, z = T[:3, :3] @ point + T[:3, 3] + camera.shift
        if z <= 0 or z < min_depth or z > max_depth:
            continue
        u = math.floor(camera.K[0, 0] * (x / z) + camera.K[0, 1] * (y / z) + camera.K[0, 2] + 0.5)
        v = math.floor(camera.K[1, 1] * (y / z) + camera.K[1, 2] + 0.5)
        if 0 <= u < camera.width and 0 <= v < camera.height:
            old = depth[v, u]
            if old == 0 or np.float32(z) < old:
                depth[v, u] = z
    return depth


def test_a_point_on_the_axis_falls_on_the_principal_point():
    depth = project_points(points_of((0, 0, 2)), SMALL, NOWHERE)
    assert depth.dtype == np.float32
    assert depth.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]]


def test_pixels_count_to_the_right_and_down():
    depth = project_points(points_of((1, 0, 2), (0, 1, 4), (2, -1, 2)), SMALL, NOWHERE)
    assert depth.tolist() == [[0, 0, 0, 2], [0, 0, 2, 0], [0, 4, 0, 0]]


def test_exactly_between_two_pixels_the_right_and_lower_one_takes_the_point():
    # u = 2 * 0.5 / 2 + 1 = 1.5 and v = 2 * -0.5 / 2 + 1 = 0.5
    depth = project_points(points_of((0.5, -0.5, 2)), SMALL, NOWHERE)
    assert np.argwhere(depth).tolist() == [[1, 2]]


def test_the_image_ends_half_a_pixel_outside_its_outer_pixels():
    # u = -0.5 belongs to column 0; u = 3.5 would be column 4, which does not exist.
    depth = project_points(points_of((-1.5, 0, 2), (2.5, 0, 2)), SMALL, NOWHERE)
    assert np.argwhere(depth).tolist() == [[1, 0]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_nearest_return_wins_a_pixel(order):
    points = points_of((0, 0, 9), (0, 0, 3), (0, 0, 5))[list(order)]
    assert project_points(points, SMALL, NOWHERE)[1, 1] == 3


def test_points_that_are_no_numbers_are_skipped():
    bad = [
        (math.nan, 0, 2),
        (0, math.inf, 2),
        (0, 0, math.inf),
        (-math.inf, 0, 2),
        (0, 0, math.nan),
    ]
    depth = project_points(points_of(*bad, (1, 0, 2)), SMALL, NOWHERE)
    assert np.argwhere(depth).tolist() == [[1, 2]]


def test_points_behind_the_camera_and_in_its_plane_are_skipped():
    points = points_of((0, 0, -2), (0, 0, 0), (1, 0, 0), (0, 0, -1e-30))
    assert not project_points(points, SMALL, NOWHERE, min_depth=0.0).any()


def test_depth_limits_are_inclusive():
    points = points_of((0, 0, 1), (1, 0, 2), (2, 0, 4))
    depth = project_points(points, SMALL, NOWHERE, min_depth=1.0, max_depth=2.0)
    assert depth.tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]


def test_no_points_give_an_empty_map():
    assert not project_points(np.zeros((0, 4), np.float32), SMALL, NOWHERE).any()


def test_intensity_changes_nothing():
    points = points_of((1, 0, 2, 0.3), (0, 0, 3, math.nan))
    np.testing.assert_array_equal(
        project_points(points, SMALL, NOWHERE), project_points(points[:, :3], SMALL, NOWHERE)
    )


def test_the_transform_takes_points_from_the_lidar_to_the_camera():
    T = FORWARD.copy()
    T[:3, 3] = (0, 0, -1)  # the camera stands a metre before the LiDAR
    depth = project_points(points_of((3, 0, 0), (3, -1, 0)), SMALL, T)
    assert depth.tolist() == [[0, 0, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0]]


def test_a_stereo_shift_moves_the_points():
    shifted = PinholeCamera(4, 3, SMALL.K, shift=[1, 0, 0])
    depth = project_points(points_of((0, 0, 2)), shifted, NOWHERE)
    assert np.argwhere(depth).tolist() == [[1, 2]]


def test_skew_is_applied():
    camera = PinholeCamera(4, 3, [[2, 1, 1], [0, 2, 1], [0, 0, 1]])
    depth = project_points(points_of((0, 1, 2)), camera, NOWHERE)
    assert np.argwhere(depth).tolist() == [[2, 2]]


def test_frames_in_map_coordinates_keep_their_precision():
    T = np.eye(4)
    T[:3, 3] = (0, 0, -500_000.0)
    points = points_of((0, 0, 500_002.0))
    assert project_points(points, SMALL, T)[1, 1] == 2


def test_scaled_extrinsics_are_refused():
    with pytest.raises(
        CalibrationError, match=r"T_camera_lidar: .*, scale 1e\+03\); expected a rigid"
    ):
        project_points(points_of((0, 0, 2)), SMALL, np.diag([1000, 1000, 1000, 1.0]))


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_double_loop(seed):
    rng = np.random.default_rng(seed)
    camera = PinholeCamera(
        64,
        48,
        [[50, rng.uniform(-2, 2), 30], [0, 55, 22], [0, 0, 1]],
        shift=rng.normal(size=3) * 0.1,
    )
    T = FORWARD.copy()
    T[:3, :3] = rotation_from_vector(rng.normal(size=3) * 0.1) @ T[:3, :3]
    T[:3, 3] = rng.normal(size=3) * 0.3
    points = rng.normal(size=(4000, 4)).astype(np.float32) * (20, 10, 5, 1)
    points = points.astype(np.float32)
    points[::50, 1] = np.nan
    points[::71, 0] = np.inf
    expected = project_by_loops(points, camera, T)
    assert (expected > 0).sum() > 500
    np.testing.assert_array_equal(project_points(points, camera, T), expected)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_double_loop_on_ties(seed):
    # Quarter pixels and few depths: many points share a pixel, many lie exactly between two.
    rng = np.random.default_rng(seed)
    camera = PinholeCamera(16, 12, [[4, 0, 8], [0, 4, 6], [0, 0, 1]])
    z = 2.0 ** rng.integers(0, 4, 3000)
    points = np.column_stack((rng.integers(-40, 40, (3000, 2)) / 16 * z[:, None], z))
    points = points.astype(np.float32)
    expected = project_by_loops(points, camera, NOWHERE)
    np.testing.assert_array_equal(project_points(points, camera, NOWHERE), expected)


@given(st.randoms(use_true_random=False))
def test_order_does_not_matter(random):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 3)).astype(np.float32) * 3
    order = list(range(200))
    random.shuffle(order)
    np.testing.assert_array_equal(
        project_points(points[order], SMALL, NOWHERE), project_points(points, SMALL, NOWHERE)
    )


@pytest.mark.parametrize(
    ("model", "D"),
    [
        ("", ()),
        ("plumb_bob", (-0.3, 0.1, 0.001, -0.002, 0.0)),
        ("equidistant", (0.02, -0.01, 0.001, 0.0)),
    ],
)
def test_unprojected_depth_projects_to_itself(model, D):
    camera = PinholeCamera(
        60, 40, [[45, 0, 29.3], [0, 44, 20.1], [0, 0, 1]], D, model, shift=[0.1, 0, 0]
    )
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 80, (40, 60)).astype(np.float32)
    depth[rng.random((40, 60)) < 0.3] = 0
    points = unproject_depth(depth, camera)
    assert points.shape == (40, 60, 3)
    np.testing.assert_array_equal(np.isnan(points[..., 2]), depth == 0)
    again = project_points(points.reshape(-1, 3), camera, np.eye(4))
    np.testing.assert_allclose(again, depth, rtol=1e-6)


def test_unprojection_of_known_pixels():
    depth = np.zeros((3, 4), np.float32)
    depth[1, 1], depth[0, 3] = 5, 2
    points = unproject_depth(depth, SMALL)
    assert points[1, 1].tolist() == [0, 0, 5]
    assert points[0, 3].tolist() == [2, -1, 2]


def test_points_beside_a_distorted_camera_do_not_fold_into_the_image():
    # The polynomial of this common lens turns back at 50 degrees: r = 1.5 would read 0.57.
    camera = PinholeCamera(
        1242, 375, [[721, 0, 609], [0, 721, 173], [0, 0, 1]], (-0.3728, 0.2037, 0.002, 0, -0.0723),
        "plumb_bob",
    )  # fmt: skip
    aside = points_of((1.5, 0, 1), (-3, 0, 2))
    assert not project_points(aside, camera, NOWHERE).any()
    assert project_points(points_of((0.5, 0, 1)), camera, NOWHERE).any()


def test_visible_points_are_counted():
    points = points_of((0, 0, 2), (0, 0, 9), (9, 0, 2), (0, 0, -2), (math.nan, 0, 2))
    assert count_visible(points, SMALL, NOWHERE) == 2


class TestQuestionExtrinsics:
    camera = PinholeCamera(100, 50, [[50, 0, 50], [0, 50, 25], [0, 0, 1]])

    def scan(self) -> np.ndarray:
        # All around, and so low that an upside-down camera would look into an empty sky.
        azimuth = np.linspace(-np.pi, np.pi, 400, endpoint=False)
        ring = [(10 * np.cos(azimuth), 10 * np.sin(azimuth), 0 * azimuth - h) for h in (0, 1, 2)]
        return np.concatenate(ring, axis=1).T.astype(np.float32)

    def test_right_ones_raise_no_question(self):
        assert question_extrinsics(self.scan(), self.camera, FORWARD) is None

    def test_the_inverse_is_asked_about(self):
        points = self.scan()
        points = points[points[:, 0] > 5]  # a scan cut to the camera's view
        question = question_extrinsics(points, self.camera, invert_transform(FORWARD))
        assert question is not None
        assert question.startswith("T_camera_lidar: only ")
        assert question.endswith("did you mean the inverse?")

    def test_a_camera_that_looks_elsewhere_is_asked_about(self):
        points = self.scan()
        points = points[points[:, 0] > 5]
        backward = FORWARD.copy()
        backward[:3, :3] = np.diag([-1, 1, -1.0]) @ FORWARD[:3, :3]
        question = question_extrinsics(points, self.camera, backward)
        assert question is not None
        assert "is camera_frame an optical frame (z forward)?" in question

    def test_too_few_points_raise_no_question(self):
        assert question_extrinsics(points_of((0, 0, -1)), self.camera, FORWARD) is None
        nans = np.full((100, 3), np.nan, np.float32)
        assert question_extrinsics(nans, self.camera, FORWARD) is None


def _calibration(path: Path) -> tuple[PinholeCamera, np.ndarray]:
    content = json.loads(path.read_text())
    return PinholeCamera(*content["image_size"], content["K"]), np.array(content["T_camera_lidar"])


def _scan(kitti: Path, frame: int) -> np.ndarray:
    path = next((kitti / "drive_0009").rglob(f"velodyne_points/data/{frame:010d}.bin"))
    return np.fromfile(path, np.float32).reshape(-1, 4)


@pytest.mark.dataset
def test_real_extrinsics_are_silent_and_their_inverse_is_not(kitti):
    camera, T = _calibration(kitti / "completion" / "raw0009_0000000005_calib.json")
    points = _scan(kitti, 5)
    assert question_extrinsics(points, camera, T) is None
    question = question_extrinsics(points, camera, invert_transform(T))
    assert question is not None
    assert "did you mean the inverse?" in question


@pytest.mark.dataset
def test_a_real_scan_equals_the_double_loop(kitti):
    camera, T = _calibration(kitti / "completion" / "raw0009_0000000005_calib.json")
    points = _scan(kitti, 5)[::4]
    expected = project_by_loops(points, camera, T)
    assert (expected > 0).sum() > 4000
    np.testing.assert_array_equal(project_points(points, camera, T), expected)
