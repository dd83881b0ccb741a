from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.evaluation.scores import Scores, score_frame


def score(name: str, error: float, **maps: np.ndarray):
    truth = np.full((2, 3), 10, np.float32)
    return score_frame(name, truth + np.float32(error), truth, **maps)


def test_every_frame_counts_the_same():
    scores = Scores([score("a_1", 1.0), score("a_2", 3.0)])
    assert scores.mean().rmse_mm == pytest.approx(2000)
    assert scores.mean().pixels == 12


def test_bands_pool_the_pixels_of_all_frames_and_leave_empty_ones_out():
    scores = Scores([score("a_1", 1.0), score("a_2", 3.0)])
    (band,) = scores.bands()
    assert (band["from_m"], band["to_m"], band["pixels"]) == (10, 20, 12)
    assert band["rmse_mm"] == pytest.approx(1e3 * np.sqrt(5))
    assert band["mae_mm"] == pytest.approx(2000)


def test_groups_are_named_up_to_the_last_underscore():
    scores = Scores([score("one_drive_1", 0), score("one_drive_2", 2), score("other_1", 4)])
    groups = scores.groups()
    assert list(groups) == ["one_drive", "other"]
    assert groups["one_drive"].mean().mae_mm == pytest.approx(1000)
    assert Scores([score("1", 0), score("2", 0)]).groups() == {}
    assert Scores([score("a_1", 0), score("b_1", 0)]).groups() == {}


def test_maps_that_are_missing_are_not_scored():
    frame = score("a_1", 1.0)
    assert frame.by_confidence is None
    assert frame.reliability is None
    assert frame.coverage is None
    assert Scores([frame]).mean_ause("by_confidence") is None
    assert "reliability" not in Scores([frame]).as_dict()


def test_confidence_and_sigma_are_scored_and_added_up():
    maps = {
        "confidence": np.full((2, 3), 0.9, np.float32),
        "sigma": np.full((2, 3), 0.6, np.float32),
    }
    scores = Scores([score("a_1", 0.2, **maps), score("a_2", 1.0, **maps)])
    assert scores.coverage() == (12, 6, 12)
    table = scores.reliability()
    assert table.pixels.sum() == 12
    assert table.expected_calibration_error == pytest.approx(0.4)
    assert scores.mean_ause("by_confidence") == (0.0, 0.0)


def test_indoor_frames_have_the_indoor_metrics():
    scores = Scores([score("a", 0.1, is_indoor=True)])
    assert scores.mean_nyu().rmse_m == pytest.approx(0.1, abs=1e-6)
    assert scores.as_dict()["mean"]["nyu"]["delta_1_02"] == 1.0
