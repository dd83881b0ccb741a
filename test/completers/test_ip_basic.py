from __future__ import annotations

import numpy as np

from depth_completion_ros.completers.ip_basic import fill_ip_basic


def test_a_point_reaches_as_far_as_the_kernels_do():
    sparse = np.zeros((120, 120), np.float32)
    sparse[60, 60] = 20.0
    filled = fill_ip_basic(sparse)
    assert filled[60, 60] == 20.0
    assert filled[50, 60] == 20.0
    assert filled[80, 110] == 0.0


def test_the_nearer_of_two_neighbours_wins_between_them():
    sparse = np.zeros((64, 64), np.float32)
    sparse[2::4, 2:32:4] = 10.0
    sparse[2::4, 34::4] = 40.0
    row = fill_ip_basic(sparse)[30]
    np.testing.assert_allclose(row[4:30], 10.0)
    np.testing.assert_allclose(row[40:60], 40.0)
    assert row[31] < 20


def test_columns_are_continued_to_the_top():
    sparse = np.zeros((64, 64), np.float32)
    sparse[40::4, 2::4] = 10.0
    np.testing.assert_allclose(fill_ip_basic(sparse)[0], 10.0)


def test_an_empty_map_stays_empty():
    assert not fill_ip_basic(np.zeros((20, 30), np.float32)).any()
