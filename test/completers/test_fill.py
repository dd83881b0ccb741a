from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.completers.fill import enlarge_grid, fill_depth, resize_grid


def fill(sparse: np.ndarray) -> np.ndarray:
    filled = fill_depth(sparse)
    assert filled is not None
    return filled.depth


def grid_map(shape: tuple[int, int], step: int, depth: float) -> np.ndarray:
    sparse = np.zeros(shape, np.float32)
    sparse[step // 2 :: step, step // 2 :: step] = depth
    return sparse


def road_map(shape: tuple[int, int], count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A road seen from 1.6 m above: a plane, sampled at random pixels."""
    v = np.mgrid[: shape[0], : shape[1]][0]
    depth = (700 * 1.6 / (v + 20)).astype(np.float32)
    taken = np.random.default_rng(seed).choice(depth.size, count, replace=False)
    sparse = np.zeros(shape, np.float32)
    sparse.ravel()[taken] = depth.ravel()[taken]
    return sparse, depth


def test_nothing_comes_from_nothing():
    assert fill_depth(np.zeros((20, 30), np.float32)) is None


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 40), (41, 3), (64, 64), (375, 1242)])
def test_one_point_fills_an_image_of_any_size_with_its_depth(shape):
    sparse = np.zeros(shape, np.float32)
    sparse[shape[0] // 2, shape[1] // 2] = 12.5
    depth = fill(sparse)
    assert depth.shape == shape
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, 12.5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 7), (33, 31), (120, 161)])
@pytest.mark.parametrize("count", [2, 5, 30])
def test_nothing_is_nearer_or_farther_than_all_that_was_measured(shape, count):
    random = np.random.default_rng(count)
    sparse = np.zeros(shape, np.float32)
    pixels = random.choice(sparse.size, count, replace=False)
    sparse.ravel()[pixels] = random.uniform(1, 80, count)
    depth = fill(sparse)
    assert np.all(np.isfinite(depth))
    measured = sparse[sparse > 0]
    assert measured.min() * (1 - 1e-5) <= depth.min() <= depth.max() <= measured.max() * (1 + 1e-5)


def test_a_plane_is_continued_between_the_points():
    sparse, truth = road_map((200, 300), 600)
    error = np.abs(fill(sparse) - truth) / truth
    inside = error[20:-20, 20:-20]
    assert np.median(inside) < 0.005
    assert np.quantile(inside, 0.99) < 0.04


def test_measurements_on_a_plane_stay_as_they_are():
    sparse, _ = road_map((200, 300), 600)
    measured = sparse > 0
    np.testing.assert_allclose(fill(sparse)[measured], sparse[measured], rtol=1e-6)


def test_a_dense_map_stays_as_it_is():
    _, dense = road_map((60, 80), 1)
    np.testing.assert_allclose(fill(dense), dense, rtol=1e-6)


def test_a_point_seen_through_a_near_surface_is_dropped():
    sparse = grid_map((64, 1200), 4, 10.0)
    sparse[32, 200] = 40.0
    filled = fill_depth(sparse)
    assert len(filled.points.pixel) == 16 * 300
    np.testing.assert_allclose(filled.depth, 10.0, rtol=1e-5)


def test_a_near_surface_reaches_half_a_gap_beyond_its_points():
    sparse = grid_map((64, 1200), 4, 10.0)
    sparse[:, 200:] *= 4
    # The last near points stand in column 198, the first far ones in 202.
    row = fill(sparse)[30]
    np.testing.assert_allclose(row[:199], 10.0, rtol=0.03)
    assert row[200] < 20
    np.testing.assert_allclose(row[206:], 40.0, rtol=0.05)


def test_two_surfaces_far_apart_keep_their_depths():
    sparse = grid_map((80, 200), 4, 10.0)
    sparse[:, 100:] *= 3
    depth = fill(sparse)
    np.testing.assert_allclose(depth[:, :95], 10.0, rtol=0.01)
    np.testing.assert_allclose(depth[:, 110:], 30.0, rtol=0.01)


def test_the_reach_follows_the_gap_between_scan_lines():
    # Lines 40 px apart on a wall that leans: IP-Basic's kernels would leave holes.
    v = np.mgrid[:400, :500][0]
    truth = (1 / (0.05 + 1e-4 * v)).astype(np.float32)
    sparse = np.zeros_like(truth)
    sparse[20::40, ::8] = truth[20::40, ::8]
    error = np.abs(fill(sparse) - truth) / truth
    assert error[20:381].max() < 0.03


def test_twice_the_depth_gives_twice_the_depth():
    sparse, _ = road_map((90, 120), 200)
    np.testing.assert_allclose(fill(sparse * 2), fill(sparse) * 2, rtol=1e-3)


def test_equal_input_gives_equal_output_and_stays_unchanged():
    sparse, _ = road_map((90, 120), 200)
    before = sparse.copy()
    np.testing.assert_array_equal(fill(sparse), fill(sparse))
    np.testing.assert_array_equal(sparse, before)


def test_spacing_is_that_of_a_square_grid_however_empty_the_rest():
    sparse = np.zeros((400, 600), np.float32)
    sparse[200::6, ::6] = 10.0
    assert fill_depth(sparse).points.spacing == pytest.approx(6, rel=0.15)


def test_enlarging_keeps_cell_centres_in_place():
    # Cells of two pixels have their centres at 0.5, 2.5, 4.5.
    ramp = np.array([[0.5, 2.5, 4.5]], np.float32)
    np.testing.assert_allclose(enlarge_grid(ramp, (2, 2), (1, 5)), [[0.5, 1, 2, 3, 4]])


def test_a_grid_of_fractional_cells_is_resized_to_within_a_pixel():
    ramp = (np.arange(40, dtype=np.float32)[None] + 0.5) * 2.6 - 0.5
    resized = resize_grid(np.repeat(ramp, 3, 0), (2.6, 2.6), (7, 103))
    assert resized.shape == (7, 103)
    np.testing.assert_allclose(resized[3, 2:-2], np.arange(2, 101), atol=1)
