from __future__ import annotations

import numpy as np

from depth_completion_ros.evaluation.pictures import (
    colorize_confidence,
    colorize_depth,
    colorize_error,
    draw_sparse,
    stack_panels,
)


def test_near_is_red_far_is_blue_and_none_is_black():
    depth = np.array([[1.0, 79.0, 0.0, np.nan]], np.float32)
    near, far, none, nan = colorize_depth(depth, 0.0, 80.0)[0]
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert none.tolist() == nan.tolist() == [0, 0, 0]


def test_confidence_grows_brighter():
    dark, bright, none = colorize_confidence(np.array([[0.1, 0.9, 0.0]], np.float32))[0]
    assert int(bright.sum()) > int(dark.sum()) > 0
    assert none.tolist() == [0, 0, 0]


def test_error_without_truth_is_black_and_a_missing_estimate_is_painted():
    truth = np.zeros((9, 9), np.float32)
    truth[4, 4] = 10
    picture = colorize_error(np.zeros((9, 9), np.float32), truth)
    assert picture[4, 4].any()
    assert not picture[0, 0].any()


def test_near_points_stay_on_top_of_far_ones():
    image = np.zeros((5, 5, 3), np.uint8)
    sparse = np.zeros((5, 5), np.float32)
    sparse[2, 2], sparse[2, 3] = 5, 70
    near = colorize_depth(np.full((1, 1), 5, np.float32))[0, 0]
    assert draw_sparse(image, sparse)[2, 3].tolist() == near.tolist()


def test_panels_fill_the_last_row_with_black():
    picture = np.full((4, 6, 3), 200, np.uint8)
    sheet = stack_panels([("a", picture)] * 3, columns=2)
    assert sheet.shape == (2 * (4 + 22), 12, 3)
    assert not sheet[-4:, 6:].any()
