from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.geometry.camera import normalised_pixels
from depth_completion_ros.training.augmentation import (
    PixelPoints,
    View,
    displace_past_edges,
    misalign,
    outside_regions,
    render,
)


def seen(view: View, p_lidar: np.ndarray) -> np.ndarray:
    """Project a point of the (transformed) LiDAR frame with the view's own geometry."""
    p = (view.T_camera_lidar @ [*p_lidar, 1])[:3]
    return view.camera.K @ (p / p[2])


def whole(example) -> View:
    return View.whole(example.frame.camera, example.frame.T_camera_lidar)


VIEWS = {
    "crop": lambda v: v.cropped(10, 5, 40, 30),
    "zoom": lambda v: v.zoomed(144, 96),
    "rotation": lambda v: v.rotated(0.1),
    "all": lambda v: v.zoomed(120, 80).rotated(-0.05).cropped(7, 9, 64, 48),
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_camera_of_a_view_sees_points_where_the_picture_shows_them(example, name):
    view = VIEWS[name](whole(example))
    before, after = seen(whole(example), (10, 1, -0.5)), seen(view, (10, 1, -0.5))
    np.testing.assert_allclose(view.matrix @ before, after[:2], atol=1e-9)


def test_mirroring_moves_the_principal_point_and_the_rig(example):
    view = whole(example).flipped()
    assert view.camera.K[0, 2] == 95 - 45
    assert np.linalg.det(view.T_camera_lidar[:3, :3]) == pytest.approx(1)
    # What was on the left of the LiDAR is on its right, at the mirrored pixel.
    left, right = seen(whole(example), (10, 1, -0.5)), seen(view, (10, -1, -0.5))
    assert right[0] == pytest.approx(95 - left[0])
    assert right[1] == pytest.approx(left[1])


def test_a_larger_world_looks_the_same(example):
    view = whole(example).scaled(2.0)
    near, far = seen(whole(example), (10, 1, -0.5)), seen(view, (20, 2, -1))
    np.testing.assert_allclose(near, far, atol=1e-9)
    points = view.of_points(PixelPoints(np.array([[3.0, 4.0]]), np.array([5.0], np.float32)))
    assert points.z.tolist() == [10]


def test_picture_points_and_map_stay_together(example):
    view = whole(example).flipped().cropped(8, 4, 64, 48)
    image = view.of_image(example.frame.image)
    # The picture's red is its old column, the green its old row.
    assert image[10, 20].tolist() == [95 - 28, 14, 0]
    dense = view.of_map(example.truth)
    points = view.of_points(PixelPoints.from_map(example.truth)).to_map((48, 64))
    np.testing.assert_array_equal(points, dense)
    assert dense[10, 20] == example.truth[14, 95 - 28]


def test_a_shrunk_picture_is_averaged(example):
    view = whole(example).zoomed(24, 16)
    image = view.of_image(example.frame.image)
    assert image.shape == (16, 24, 3)
    # Four columns each: 40, 41, 42, 43.
    assert image[8, 10, 0] in (41, 42)
    rays = normalised_pixels(view.camera)
    assert rays[0, 0, 0] == pytest.approx((1.5 - 45) / 80)  # the middle of columns 0 to 3


def test_rotation_keeps_rays_true(example):
    view = whole(example).rotated(np.pi / 2)
    np.testing.assert_allclose(view.matrix @ (45, 31.5, 1), (45, 31.5), atol=1e-9)
    np.testing.assert_allclose(view.matrix @ (55, 31.5, 1), (45, 41.5), atol=1e-9)


def test_the_nearest_wins_a_pixel():
    depth = render(
        np.array([[1.0, 0.0], [1.4, 0.2], [9.0, 0.0]]), np.array([7, 3, 1], np.float32), (1, 3)
    )
    np.testing.assert_array_equal(depth, [[0, 3, 0]])


def test_displaced_background_lands_elsewhere_and_foreground_stays(example):
    near = PixelPoints(np.array([[50.0, 30.0]]), np.array([4.0], np.float32))
    far = PixelPoints(np.array([[50.0, 30.0]]), np.array([60.0], np.float32))
    moved = [
        displace_past_edges(p, 1.0, example.frame.camera, np.random.default_rng(0))
        for p in (near, far)
    ]
    np.testing.assert_array_equal(moved[0].uv, near.uv)
    assert 0.5 < np.linalg.norm(moved[1].uv - far.uv) < 4
    assert moved[1].z == 60


def test_misalignment_moves_near_and_far_alike(example):
    points = PixelPoints(np.array([[45.0, 31.5], [45.0, 31.5]]), np.array([5, 50], np.float32))
    moved = misalign(points, example.frame.camera, 1.0, np.random.default_rng(1))
    np.testing.assert_allclose(moved.uv[0], moved.uv[1])
    # One degree is 1.4 px at this focal length.
    assert 0.1 < np.linalg.norm(moved.uv[0] - points.uv[0]) < 6


def test_regions_leave_some_points_and_take_some(example):
    points = PixelPoints.from_map(example.truth)
    shares = [
        outside_regions(points, example.frame.camera, np.random.default_rng(seed)).mean()
        for seed in range(30)
    ]
    assert min(shares) > 0
    assert np.mean(shares) < 0.9
