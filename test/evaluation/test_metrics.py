from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.errors import InputError
from depth_completion_ros.evaluation.metrics import (
    band_sums,
    is_right,
    kitti_metrics,
    nyu_metrics,
)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_kitti_metrics_in_the_units_of_the_benchmark():
    # Errors 3 m and -4 m; inverse errors 1/23 - 1/20 and 1/6 - 1/10; the last has no truth.
    found = kitti_metrics(row(23, 6, 50), row(20, 10, 0))
    assert found.rmse_mm == pytest.approx(3535.5339, abs=1e-3)
    assert found.mae_mm == pytest.approx(3500.0)
    assert found.irmse_per_km == pytest.approx(47.365481, abs=1e-4)
    assert found.imae_per_km == pytest.approx(36.594203, abs=1e-5)
    assert found.signed_mm == pytest.approx(-500.0)
    assert (found.estimated_share, found.pixels) == (1.0, 2)


def test_no_estimate_counts_with_its_full_depth_and_as_infinitely_far():
    found = kitti_metrics(row(0, 10), row(20, 10))
    assert found.rmse_mm == pytest.approx(14142.1356, abs=1e-3)
    assert found.mae_mm == pytest.approx(10000.0)
    assert found.imae_per_km == pytest.approx(25.0)
    assert found.irmse_per_km == pytest.approx(35.355339, abs=1e-5)
    assert found.signed_mm == 0.0
    assert found.estimated_share == 0.5


def test_a_perfect_estimate_has_no_error():
    found = kitti_metrics(row(5, 80), row(5, 80))
    assert found[:5] == (0, 0, 0, 0, 0)


def test_different_sizes_and_empty_ground_truth_are_refused():
    with pytest.raises(InputError, match="found 2x1, expected the size of the estimate, 3x1"):
        kitti_metrics(row(1, 2, 3), row(1, 2))
    with pytest.raises(InputError, match="no pixel has a value"):
        kitti_metrics(row(1, 2), row(0, 0))


def test_bands_hold_their_lower_limit_and_sum_up():
    sums = band_sums(row(9, 11, 0, 81, 100), row(8, 10, 39, 80, 90))
    assert sums.pixels.tolist() == [1, 1, 1, 0, 2]
    assert sums.estimated.tolist() == [1, 1, 0, 0, 2]
    assert sums.absolute.tolist() == [1, 1, 39, 0, 11]
    assert sums.squared.tolist() == [1, 1, 1521, 0, 101]
    assert sums.signed.tolist() == [1, 1, 0, 0, 11]
    assert sums.plus(sums).absolute.tolist() == [2, 2, 78, 0, 22]


def test_right_means_within_thirty_centimetres_or_five_percent():
    truth = row(2, 2, 20, 20)
    assert is_right(row(2.25, 2.35, 20.95, 21.05), truth).tolist() == [[True, False, True, False]]


def test_nyu_metrics_of_four_pixels():
    found = nyu_metrics(row(1.01, 2.2, 3.0, 0), row(1, 2, 2, 4))
    assert found.rmse_m == pytest.approx(np.sqrt((0.0001 + 0.04 + 1 + 16) / 4), abs=1e-6)
    assert found.rel == pytest.approx((0.01 + 0.1 + 0.5 + 1) / 4, abs=1e-6)
    assert found.log10 == pytest.approx((0.00432137 + 0.04139269 + 0.17609126) / 3, abs=1e-6)
    # Ratios 1.01, 1.1, 1.5 and none.
    assert found[3:] == (0.25, 0.25, 0.25, 0.5, 0.75, 0.75)
