"""Lenses against OpenCV, and cameras of resized and cropped images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.geometry.camera import (
    crop_camera,
    distort_normalised,
    normalised_pixels,
    scale_camera,
    undistort_normalised,
)
from depth_completion_ros.geometry.projection import project_points

K = [[420, 0, 318], [0, 425, 243], [0, 0, 1]]

LENSES = {
    "plumb_bob 4": ("plumb_bob", (-0.28, 0.08, 0.001, -0.0007)),
    "plumb_bob 5": ("plumb_bob", (0.12, -0.25, -0.0005, 0.001, 0.11)),
    "rational 8": ("rational_polynomial", (0.4, -0.1, 1e-3, 5e-4, 0.02, 0.75, -0.07, 0.01)),
    "rational 12": (
        "rational_polynomial",
        (0.4, -0.1, 1e-3, 5e-4, 0.02, 0.75, -0.07, 0.01, 2e-3, -1e-3, 1e-3, 5e-4),
    ),
    "rational 14": (
        "rational_polynomial",
        (0.4, -0.1, 1e-3, 5e-4, 0.02, 0.75, -0.07, 0.01, 2e-3, -1e-3, 1e-3, 5e-4, 0.02, -0.03),
    ),
    "equidistant": ("equidistant", (-0.02, 0.01, -0.004, 0.0005)),
    "equidistant, ideal": ("equidistant", (0.0, 0.0, 0.0, 0.0)),
}


@pytest.fixture(params=LENSES)
def camera(request) -> PinholeCamera:
    model, D = LENSES[request.param]
    return PinholeCamera(640, 480, K, D, model)


def project_by_opencv(points: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    if camera.distortion_model == "equidistant":
        project = cv2.fisheye.projectPoints
    else:
        project = cv2.projectPoints
    pixels, _ = project(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera.K, camera.D)
    return pixels.reshape(-1, 2)


def pixels_of(bent: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    return bent * (camera.K[0, 0], camera.K[1, 1]) + (camera.K[0, 2], camera.K[1, 2])


def test_every_lens_bends_as_in_opencv(camera):
    rng = np.random.default_rng(0)
    z = rng.uniform(1, 50, 1000)
    xy = rng.uniform(-0.7, 0.7, (1000, 2))
    points = np.column_stack((xy * z[:, None], z))
    ours = pixels_of(distort_normalised(xy, camera), camera)
    np.testing.assert_allclose(ours, project_by_opencv(points, camera), atol=1e-6)


def test_projection_of_points_uses_the_lens(camera):
    rng = np.random.default_rng(1)
    xy = rng.uniform(-0.5, 0.5, (300, 2))
    points = np.column_stack((xy * 10, np.full(300, 10))).astype(np.float32)
    expected = np.zeros((480, 640), np.float32)
    u, v = np.floor(project_by_opencv(points.astype(np.float64), camera) + 0.5).astype(int).T
    inside = (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    expected[v[inside], u[inside]] = 10
    np.testing.assert_array_equal(project_points(points, camera, np.eye(4)), expected)


def test_rays_lead_back_to_their_pixels_within_a_hundredth(camera):
    rays = normalised_pixels(camera)
    assert rays.shape == (480, 640, 2)
    assert rays.dtype == np.float32
    has_ray = np.isfinite(rays[..., 0])
    assert has_ray.mean() > 0.99
    points = np.column_stack((rays[has_ray], np.ones(has_ray.sum()))).astype(np.float64)
    v, u = np.nonzero(has_ray)
    error = project_by_opencv(points, camera) - np.column_stack((u, v))
    assert np.abs(error).max() < 0.01


def test_undistorting_undoes_distorting(camera):
    rng = np.random.default_rng(2)
    xy = rng.uniform(-0.7, 0.7, (1000, 2))
    again = undistort_normalised(distort_normalised(xy, camera), camera)
    np.testing.assert_allclose(again, xy, atol=1e-7)


def test_no_distortion_changes_nothing():
    xy = np.array([[0.3, -2.0], [5.0, 7.0]])
    camera = PinholeCamera(640, 480, K, np.zeros(5), "plumb_bob")
    assert distort_normalised(xy, camera) is xy
    assert undistort_normalised(xy, camera) is xy


def test_rays_of_known_pixels():
    rays = normalised_pixels(PinholeCamera(4, 3, [[2, 0, 1], [0, 4, 1], [0, 0, 1]]))
    assert rays[1, 1].tolist() == [0, 0]
    assert rays[0, 3].tolist() == [1, -0.25]


def test_rays_respect_skew():
    rays = normalised_pixels(PinholeCamera(4, 3, [[2, 1, 1], [0, 2, 1], [0, 0, 1]]))
    # v = 2 gives y = 0.5; u = 2x + y + 1 = 2 gives x = 0.25
    assert rays[2, 2].tolist() == [0.25, 0.5]


def test_rays_are_kept_for_an_equal_camera_and_cannot_be_changed():
    camera = PinholeCamera(64, 48, K, LENSES["plumb_bob 4"][1], "plumb_bob")
    again = PinholeCamera(64, 48, K, LENSES["plumb_bob 4"][1], "plumb_bob")
    assert normalised_pixels(camera) is normalised_pixels(again)
    with pytest.raises(ValueError, match="read-only"):
        normalised_pixels(camera)[0, 0] = 1


def test_pixels_that_no_ray_reaches_are_nan():
    # An ideal fisheye of focal length 100 sees 90 degrees at 157 px; the corner is at 283 px.
    K = [[100, 0, 200], [0, 100, 200], [0, 0, 1]]
    camera = PinholeCamera(401, 401, K, [0, 0, 0, 0], "equidistant")
    rays = normalised_pixels(camera)
    assert np.isnan(rays[0, 0]).all()
    assert rays[200, 278, 0] == pytest.approx(np.tan(0.78), rel=1e-5)


def test_a_lens_is_not_believed_where_it_turns_back():
    camera = PinholeCamera(640, 480, K, (-0.3728, 0.2037, 0, 0, -0.0723), "plumb_bob")
    bent = distort_normalised(np.array([[1.0, 0], [1.5, 0], [3.0, 0]]), camera)
    assert np.isfinite(bent[0]).all()
    assert np.isnan(bent[1:]).all()


def test_a_scaled_camera_keeps_the_outer_edges():
    camera = PinholeCamera(4, 2, [[2, 0, 1.5], [0, 2, 0.5], [0, 0, 1]])
    half = scale_camera(camera, 8, 4)
    assert (half.width, half.height) == (8, 4)
    np.testing.assert_allclose(half.K, [[4, 0, 3.5], [0, 4, 1.5], [0, 0, 1]])


def test_scaling_there_and_back_changes_nothing():
    camera = PinholeCamera(1242, 375, [[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])
    again = scale_camera(scale_camera(camera, 414, 125), 1242, 375)
    np.testing.assert_allclose(again.K, camera.K)


def test_a_cropped_camera_sees_the_same_with_moved_pixels():
    camera = PinholeCamera(8, 6, [[4, 0, 3], [0, 4, 2], [0, 0, 1]])
    points = np.array([[0, 0, 2], [1, 0.5, 2], [-0.5, 1, 2]], np.float32)
    whole = project_points(points, camera, np.eye(4))
    part = project_points(points, crop_camera(camera, 2, 1, 4, 5), np.eye(4))
    np.testing.assert_array_equal(part, whole[1:6, 2:6])


def test_padding_is_a_crop_with_negative_corners():
    camera = PinholeCamera(4, 3, [[2, 0, 1], [0, 2, 1], [0, 0, 1]])
    padded = crop_camera(camera, -2, -1, 8, 5)
    assert padded.K[:2, 2].tolist() == [3, 2]
