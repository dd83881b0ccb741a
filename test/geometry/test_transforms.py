"""Rigid transforms: known values and round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_completion_ros.errors import CalibrationError
from depth_completion_ros.geometry.transforms import (
    invert_transform,
    quaternion_from_rotation,
    rotation_from_vector,
    rotation_vector,
    transform_from_quaternion,
)

HALF = np.sqrt(0.5)
coordinate = st.floats(-3, 3, allow_subnormal=False)
vectors = st.tuples(coordinate, coordinate, coordinate)


def test_a_quarter_turn_about_z_takes_x_to_y():
    T = transform_from_quaternion((1, 2, 3), (0, 0, HALF, HALF))
    np.testing.assert_allclose(T @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-12)


def test_a_quaternion_need_not_be_normalised():
    np.testing.assert_allclose(
        transform_from_quaternion((0, 0, 0), (0, 0, 5, 5)),
        transform_from_quaternion((0, 0, 0), (0, 0, HALF, HALF)),
        atol=1e-15,
    )


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (0, 0, np.nan, 1), (0, 0, 1)])
def test_what_is_no_quaternion_is_refused(quaternion):
    with pytest.raises(CalibrationError, match=r"^quaternion: found \[.*\], expected x y z w of"):
        transform_from_quaternion((0, 0, 0), quaternion)


@pytest.mark.parametrize(
    ("axis", "quaternion"),
    [((0, 0, 0), (0, 0, 0, 1)), ((np.pi, 0, 0), (1, 0, 0, 0)), ((0, np.pi, 0), (0, 1, 0, 0)),
     ((0, 0, np.pi), (0, 0, 1, 0)), ((0, 0, np.pi / 2), (0, 0, HALF, HALF))],
)  # fmt: skip
def test_known_rotations_as_quaternions(axis, quaternion):
    found = quaternion_from_rotation(rotation_from_vector(axis))
    np.testing.assert_allclose(np.abs(found), quaternion, atol=1e-12)
    assert found[3] >= 0


@given(vectors, vectors)
def test_quaternions_lead_back_to_their_rotation(vector, translation):
    T = np.eye(4)
    T[:3, :3] = rotation_from_vector(vector)
    T[:3, 3] = translation
    again = transform_from_quaternion(translation, quaternion_from_rotation(T[:3, :3]))
    np.testing.assert_allclose(again, T, atol=1e-9)


@given(vectors)
def test_rotation_vectors_lead_back_to_their_rotation(vector):
    R = rotation_from_vector(vector)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    found = rotation_vector(R)
    assert np.linalg.norm(found) <= np.pi + 1e-9
    np.testing.assert_allclose(rotation_from_vector(found), R, atol=1e-9)


def test_tiny_rotations_keep_their_digits():
    vector = np.array([1e-9, -2e-9, 3e-9])
    np.testing.assert_allclose(rotation_vector(rotation_from_vector(vector)), vector, rtol=1e-6)


def test_many_rotations_at_once():
    R = rotation_from_vector([[0, 0, 0], [0, 0, np.pi / 2]])
    assert R.shape == (2, 3, 3)
    np.testing.assert_allclose(R[1], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)


@given(vectors, vectors)
def test_the_inverse_undoes_a_transform(vector, translation):
    T = np.eye(4)
    T[:3, :3] = rotation_from_vector(vector)
    T[:3, 3] = translation
    np.testing.assert_allclose(invert_transform(T) @ T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(invert_transform(T), np.linalg.inv(T), atol=1e-9)
