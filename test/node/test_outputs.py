from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.data import DenseDepth, PinholeCamera
from depth_completion_ros.node.outputs import OutputFields, shape_outputs
from depth_completion_ros.settings import OutputSettings

CAMERA = PinholeCamera(4, 2, np.array([[2, 0, 1.5], [0, 2, 0.5], [0, 0, 1]], np.float64))
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def dense() -> DenseDepth:
    depth = np.array([[1, 2, 3, 4], [5, 6, 7, 0]], np.float32)
    confidence = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0]], np.float32)
    sigma = np.array([[1, 1, 1, 1], [1, 1, 1, np.inf]], np.float32)
    sparse = np.array([[0, 2, 0, 4], [5, 0, 0, 0]], np.float32)
    return DenseDepth(depth, sigma, confidence, sparse)


def test_the_defaults_change_nothing():
    given = dense()
    maps = shape_outputs(given, IMAGE, CAMERA, OutputSettings())
    assert maps.depth is given.depth
    assert maps.confidence is given.confidence
    assert maps.camera == CAMERA


def test_what_is_removed_has_no_confidence_and_no_sigma():
    settings = OutputSettings(confidence_threshold=0.5, min_depth=2.0, max_depth=4.5)
    maps = shape_outputs(dense(), IMAGE, CAMERA, settings)
    np.testing.assert_array_equal(maps.depth, [[0, 2, 3, 4], [0, 0, 0, 0]])
    np.testing.assert_array_equal(maps.confidence > 0, maps.depth > 0)
    np.testing.assert_array_equal(np.isfinite(maps.sigma), maps.depth > 0)


def test_half_the_size_keeps_real_values_and_the_nearest_measurement():
    maps = shape_outputs(dense(), IMAGE, CAMERA, OutputSettings(scale=0.5))
    np.testing.assert_array_equal(maps.depth, [[6, 0]])
    np.testing.assert_array_equal(maps.sparse, [[2, 4]])
    assert maps.image.shape == (1, 2, 3)
    assert (maps.camera.width, maps.camera.height) == (2, 1)
    # The outer edges of both images coincide: (1.5 + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(maps.camera.K[0], (1, 0, 0.5))


def test_cloud_points_below_the_confidence_are_nan():
    settings = OutputSettings(points_confidence=0.75)
    maps = shape_outputs(dense(), IMAGE, CAMERA, settings)
    fields = OutputFields().make("depth/points", maps, settings)
    cloud = fields["data"].view(np.float32).reshape(2, 4, 5)
    np.testing.assert_array_equal(
        np.isfinite(cloud[..., 2]), [[True, True, False, False], [False] * 4]
    )
    # Pixel (1, 0) at 2 m: x = (1 - 1.5) / 2 * 2.
    np.testing.assert_allclose(cloud[0, 1, :3], (-0.5, -0.5, 2))


def test_depth_is_nan_on_the_wire_where_there_is_none_and_millimetres_if_asked_for():
    maps = shape_outputs(dense(), IMAGE, CAMERA, OutputSettings())
    metres = OutputFields().make("depth/image", maps, OutputSettings())
    assert metres["encoding"] == "32FC1"
    assert np.isnan(metres["data"].view(np.float32)[-1])
    settings = OutputSettings(encoding="16UC1")
    millimetres = OutputFields().make("depth/image", maps, settings)["data"].view(np.uint16)
    assert millimetres.tolist() == [1000, 2000, 3000, 4000, 5000, 6000, 7000, 0]


def test_the_colour_scale_goes_from_red_near_to_blue_far_and_black():
    maps = shape_outputs(dense(), IMAGE, CAMERA, OutputSettings())
    fields = OutputFields().make("depth/color", maps, OutputSettings(color_range=(1.0, 7.0)))
    painted = fields["data"].reshape(2, 4, 3).astype(int)
    assert painted[0, 0, 0] > painted[0, 0, 2]
    assert painted[1, 2, 2] > painted[1, 2, 0]
    assert painted[1, 3].tolist() == [0, 0, 0]


def test_an_output_that_the_contract_does_not_know_is_a_mistake():
    maps = shape_outputs(dense(), IMAGE, CAMERA, OutputSettings())
    with pytest.raises(KeyError):
        OutputFields().make("depth/smell", maps, OutputSettings())
