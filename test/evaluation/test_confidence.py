from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.evaluation.confidence import reliability, sigma_coverage, sparsify


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


TRUTH = row(10, 10, 10, 10)
DEPTH = row(10, 11, 12, 14)  # errors 0, 1, 2, 4 m


def test_the_order_of_the_true_error_has_no_sparsification_error():
    found = sparsify(DEPTH, TRUTH, row(0.9, 0.8, 0.5, 0.1), steps=4)
    assert found.rmse_mm == pytest.approx([2291.2878, 1290.9944, 707.1068, 0.0], abs=1e-3)
    assert found.oracle_mm == pytest.approx(found.rmse_mm)
    assert (found.ause_mm, found.ause_relative) == (0.0, 0.0)


def test_equal_trust_is_a_random_order():
    found = sparsify(DEPTH, TRUTH, row(0.5, 0.5, 0.5, 0.5), steps=4)
    assert found.rmse_mm == pytest.approx([2291.2878] * 4, abs=1e-3)
    assert found.ause_relative == pytest.approx(1.0)


def test_the_wrong_order_is_worse_than_random():
    found = sparsify(DEPTH, TRUTH, row(0.1, 0.5, 0.8, 0.9), steps=4)
    assert found.rmse_mm[-1] == pytest.approx(4000.0)
    assert found.ause_relative > 1


def test_pixels_without_estimate_or_truth_do_not_count():
    found = sparsify(row(10, 11, 0, 14), row(10, 10, 10, 0), row(0.9, 0.8, 0, 0.1), steps=2)
    assert found.rmse_mm == pytest.approx([707.1068, 0.0], abs=1e-3)
    assert sparsify(row(0), row(5), row(0)) is None


def test_reliability_counts_by_confidence():
    # Right are the first and the second (4.9 % off at 10 m).
    depth, truth = row(10, 10.49, 12, 14, 0), row(10, 10, 10, 10, 10)
    table = reliability(depth, truth, row(1.0, 0.95, 0.92, 0.05, 0), bins=10)
    assert table.pixels.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert table.right.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert table.confidence[9] == pytest.approx(2.87)
    assert table.expected_calibration_error == pytest.approx((0.05 + 0.87) / 4, abs=1e-6)
    assert table.plus(table).pixels[9] == 6


def test_coverage_of_one_and_two_sigma():
    coverage = sigma_coverage(DEPTH, TRUTH, row(0.5, 1.0, 1.5, 1.0))
    assert coverage == (4, 2, 3)
    assert coverage.plus(coverage) == (8, 4, 6)
