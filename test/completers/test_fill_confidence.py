from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.completers.fill import fill_depth
from depth_completion_ros.completers.fill_confidence import (
    FAR_SPACINGS,
    confidence_features,
    estimate_confidence,
    tolerance,
)


def confidence_of(sparse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return estimate_confidence(fill_depth(sparse))


def wall_map(depth: float = 10.0) -> np.ndarray:
    """A wall with points every five pixels, below row 100 of 200."""
    sparse = np.zeros((200, 300), np.float32)
    sparse[100::5, 2::5] = depth
    return sparse


def test_a_measured_wall_is_trusted():
    confidence, sigma = confidence_of(wall_map())
    assert confidence[110:190, 10:-10].min() > 0.9
    assert sigma[110:190, 10:-10].max() < 0.5


def test_above_the_topmost_measurement_at_most_a_fifth():
    confidence, _ = confidence_of(wall_map())
    assert confidence[:94].max() <= np.float32(0.2)


def test_below_the_lowest_measurement_at_most_a_fifth():
    confidence, _ = confidence_of(wall_map()[::-1].copy())
    assert confidence[106:].max() <= np.float32(0.2)


def test_the_sky_beside_a_tower_is_not_trusted_either():
    sparse = wall_map()
    sparse[20:100:5, 152:172:5] = 10.0
    confidence, _ = confidence_of(sparse)
    assert confidence[30:90, 157:166].min() > 0.9
    assert confidence[:90, :135].max() <= np.float32(0.2)
    assert confidence[:90, 190:].max() <= np.float32(0.2)


def test_far_from_any_measurement_at_most_a_fifth():
    sparse = np.zeros((200, 300), np.float32)
    sparse[2::5, 2::5] = 10.0
    sparse[40:160, 80:220] = 0
    confidence, _ = confidence_of(sparse)
    reach = int(FAR_SPACINGS * 6)
    assert confidence[40 + reach : 160 - reach, 80 + reach : 220 - reach].max() <= 0.2


def test_confidence_falls_with_the_distance():
    # A hedge: ten percent of noise, and a hole of a hundred by sixty pixels.
    random = np.random.default_rng(0)
    sparse = wall_map() * random.uniform(0.9, 1.1, (200, 300)).astype(np.float32)
    sparse[120:180, 100:200] = 0
    confidence, sigma = confidence_of(sparse)
    means = [confidence[140:160, c : c + 10].mean() for c in (60, 104, 114, 124)]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1] + 0.2
    assert sigma[150, 130] > sigma[150, 60]


def test_confidence_falls_with_disagreement():
    steady = wall_map()
    random = np.random.default_rng(0)
    noisy = steady * random.uniform(0.7, 1.3, steady.shape).astype(np.float32)
    calm, _ = confidence_of(steady)
    doubtful, _ = confidence_of(noisy)
    assert doubtful[110:190, 10:-10].mean() < calm[110:190, 10:-10].mean() - 0.15


def test_sigma_falls_where_confidence_rises():
    sparse = wall_map()
    sparse[120:180, 100:200] = 0
    confidence, sigma = confidence_of(sparse)
    inside = np.s_[110:190, 10:-10]
    order = np.argsort(confidence[inside].ravel())
    relative = sigma[inside].ravel()[order]
    assert np.all(np.diff(relative) < 0.05)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 30), (97, 131)])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_values_are_sane_for_any_size_and_number_of_points(shape, count):
    random = np.random.default_rng(0)
    sparse = np.zeros(shape, np.float32)
    pixels = random.choice(sparse.size, min(count, sparse.size), replace=False)
    sparse.ravel()[pixels] = random.uniform(1, 80, len(pixels))
    confidence, sigma = confidence_of(sparse)
    assert confidence.shape == sigma.shape == shape
    assert confidence.dtype == sigma.dtype == np.float32
    assert np.all((confidence >= 0) & (confidence <= 1))
    assert np.all(np.isfinite(sigma) & (sigma > 0))


def test_the_tolerance_is_thirty_centimetres_or_a_twentieth():
    depth = np.array([2.0, 6.0, 40.0], np.float32)
    np.testing.assert_allclose(tolerance(depth), [0.3, 0.3, 2.0])


def test_distance_is_in_spacings_whatever_the_scale():
    fine = np.zeros((120, 120), np.float32)
    coarse = np.zeros((480, 480), np.float32)
    fine[4::8, 4::8] = 10.0
    coarse[12::24, 12::24] = 10.0
    middle = [np.median(confidence_features(fill_depth(sparse))[0]) for sparse in (fine, coarse)]
    # Not exactly: the cells of the averages have 4 pixels for both.
    assert middle[0] == pytest.approx(middle[1], abs=0.4)
