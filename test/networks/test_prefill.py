from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_completion_ros.networks.prefill import (
    fill_nearest,
    on_host,
    prefill,
    remove_outliers,
)


@pytest.mark.parametrize("name", ["hole", "far"])
def test_stored_cases_are_the_published_ones(golden, name):
    case = golden("prefill")
    sparse = (case[f"{name}_depth_u16"].numpy() / 256).astype(np.float32)
    cleared = remove_outliers(torch.from_numpy(sparse)[None, None])
    assert torch.equal(cleared[0, 0], case[f"{name}_clear"])
    np.testing.assert_allclose(prefill(sparse), case[f"{name}_ip"][0].numpy(), atol=1e-5)


def test_small_map_is_the_published_one(golden, recipe_inputs):
    case, sparse = golden("prefill"), recipe_inputs(64, 128).sparse
    assert torch.equal(remove_outliers(sparse), case["dep_clear"])
    torch.testing.assert_close(on_host(prefill, sparse), case["ip"], atol=1e-5, rtol=0)


def test_full_map_is_the_published_one(golden, recipe_inputs):
    case, sparse = golden("prefill"), recipe_inputs(352, 1216).sparse
    cleared, filled = remove_outliers(sparse), on_host(prefill, sparse)
    assert int((sparse > 0).sum()) == case["full_dep_positive"]
    assert int((cleared > 0).sum()) == case["full_dep_clear_positive"]
    assert torch.equal(cleared[:, :, 4::8, 8::16], case["full_dep_clear_sub"])
    torch.testing.assert_close(filled[:, :, 4::8, 8::16], case["full_ip_sub"], atol=1e-5, rtol=0)


def test_a_measurement_far_behind_its_neighbours_is_an_outlier():
    sparse = torch.zeros(1, 1, 21, 21)
    sparse[0, 0, 8:13, 8:13] = 10.0
    sparse[0, 0, 10, 10] = 14.0
    cleared = remove_outliers(sparse)
    assert cleared[0, 0, 10, 10] <= 0
    cleared[0, 0, 10, 10] = 14.0
    assert torch.equal(cleared, sparse)


def test_an_empty_map_stays_empty():
    nothing = np.zeros((20, 30), np.float32)
    for fill in (prefill, fill_nearest):
        np.testing.assert_array_equal(fill(nothing), nothing)
    assert not remove_outliers(torch.zeros(1, 1, 20, 30)).any()


def test_one_measurement_fills_everything():
    sparse = np.zeros((40, 50), np.float32)
    sparse[30, 20] = 12.0
    np.testing.assert_allclose(prefill(sparse), 12.0, atol=1e-5)
    np.testing.assert_array_equal(fill_nearest(sparse), np.full((40, 50), 12.0, np.float32))


def test_the_nearest_measurement_wins():
    random = np.random.default_rng(2)
    measured = random.random((40, 60)) < 0.05
    sparse = np.where(measured, random.uniform(2, 80, (40, 60)), 0).astype(np.float32)
    v, u = np.nonzero(measured)
    rows, columns = np.mgrid[:40, :60]
    distance = np.hypot(rows[..., None] - v, columns[..., None] - u)
    depth = fill_nearest(sparse)
    chosen = np.where(depth[..., None] == sparse[v, u], distance, np.inf).min(-1)
    # OpenCV's 5x5 distances are within 2 % of the exact ones.
    assert np.all(chosen <= 1.05 * distance.min(-1) + 1e-6)


def test_each_map_of_a_batch_is_prepared_on_its_own(street):
    sparse = street(24, 36, batch=2).sparse
    sparse[1] *= 0.5
    both = on_host(prefill, sparse)
    assert torch.equal(both[1:], on_host(prefill, sparse[1:]))
    assert not torch.equal(both[0], both[1])
