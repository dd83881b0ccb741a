from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.evaluation.baselines import (
    complete_baselines,
    fill_linear,
    fill_nearest,
)


def test_the_nearest_measurement_wins():
    sparse = np.zeros((1, 7), np.float32)
    sparse[0, 1], sparse[0, 5] = 10, 20
    assert fill_nearest(sparse)[0, [0, 1, 2, 4, 5, 6]].tolist() == [10, 10, 10, 20, 20, 20]


def test_linear_is_exact_on_a_plane_and_nearest_outside_the_hull():
    pytest.importorskip("scipy", reason="no scipy: linear interpolation is an extra")
    rows, columns = np.mgrid[:9, :9]
    plane = (2 + rows + 0.5 * columns).astype(np.float32)
    sparse = np.zeros((9, 9), np.float32)
    sparse[1, 1], sparse[1, 7], sparse[7, 1], sparse[7, 7] = plane[[1, 1, 7, 7], [1, 7, 1, 7]]
    linear = fill_linear(sparse)
    np.testing.assert_allclose(linear[1:8, 1:8], plane[1:8, 1:8], atol=1e-5)
    assert linear[0, 0] == plane[1, 1]


def test_points_on_a_line_have_no_triangles():
    sparse = np.zeros((5, 5), np.float32)
    sparse[2, 1], sparse[2, 3] = 4, 5
    assert fill_linear(sparse) is None
    assert set(complete_baselines(sparse)) == {"ip_basic", "nearest"}


def test_without_measurements_there_is_nothing_to_compare_with():
    assert complete_baselines(np.zeros((5, 5), np.float32)) == {}
