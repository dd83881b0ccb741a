from __future__ import annotations

import dataclasses
from collections import Counter

import cv2
import numpy as np
import pytest

from depth_completion_ros.data import Frame, PinholeCamera
from depth_completion_ros.errors import InputError
from depth_completion_ros.geometry.projection import project_points
from depth_completion_ros.training.recipe import SourceChoice
from depth_completion_ros.training.sources import FramePool, rectified


def names(pool: FramePool) -> list[str]:
    return [pool.sources[p.source].names[p.number] for p in pool.places]


def test_patterns_choose_frames(folder):
    choices = [
        SourceChoice(path="frames", include=("a_*", "b_*"), exclude=("*_2",)),
        SourceChoice(path="frames", include=("lidar_only",)),
    ]
    pool = FramePool(choices, folder.parent)
    assert names(pool) == ["a_1", "b_1", "lidar_only"]
    assert pool.read(pool.places[0]).truth is not None
    assert pool.read(pool.places[2]).truth is None


def test_hold_out_hides_the_ground_truth(folder):
    pool = FramePool([SourceChoice(path=str(folder), truth="hold_out")], folder)
    assert pool.read(pool.places[0]).truth is None


def test_every_nth_frame(folder):
    assert names(FramePool([SourceChoice(path=str(folder), every=3)], folder)) == [
        "a_1",
        "lidar_only",
    ]


def test_weights_decide_how_often_a_source_is_drawn(folder):
    choices = [
        SourceChoice(path=str(folder), include=("a_*",), weight=3.0),
        SourceChoice(path=str(folder), include=("b_*",), weight=1.0),
    ]
    pool = FramePool(choices, folder)
    drawn = Counter(pool.draw(1, number).source for number in range(2000))
    # Two frames of weight 3 against one of weight 1.
    assert drawn[0] / 2000 == pytest.approx(6 / 7, abs=0.03)
    assert [pool.draw(1, 5)] * 2 == [pool.draw(1, 5), pool.draw(1, 5)]


def test_the_cache_keeps_to_its_room(folder):
    one_frame = 96 * 64 * (3 + 8)
    pool = FramePool([SourceChoice(path=str(folder))], folder, cache_bytes=2 * one_frame)
    read = [pool.read(place) for place in pool.places[:3]]
    assert pool.read(pool.places[2]) is read[2]
    assert pool.read(pool.places[0]) is not read[0]


def test_a_source_without_a_chosen_frame_is_refused(folder):
    with pytest.raises(InputError, match="no frame is left of 4"):
        FramePool([SourceChoice(path=str(folder), include=("c_*",))], folder)


def test_a_lens_is_undone_for_picture_and_measurements():
    K = np.array([[80.0, 0, 47.5], [0, 80, 31.5], [0, 0, 1]])
    bent = PinholeCamera(96, 64, K, np.array([-0.2, 0.02, 0, 0, 0]), "plumb_bob")
    T = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    points = np.array([[10, 5, 3], [10, -5, -3], [10, 0, 0]], np.float32)
    # A picture that is bright exactly where the bent camera sees the points.
    sparse = project_points(points, bent, T)
    image = np.repeat(
        cv2.dilate((sparse > 0).astype(np.uint8) * 255, np.ones((3, 3)))[..., None], 3, 2
    )
    frame = Frame(image, bent, T, points)
    for given in (frame, dataclasses.replace(frame, points=None, sparse_depth=sparse)):
        straight, _ = rectified(given, None)
        assert not straight.camera.is_distorted
        measured = straight.sparse_depth > 0
        assert measured.sum() == 3
        assert straight.image[measured].min() > 100
    np.testing.assert_array_equal(
        rectified(frame, None)[0].sparse_depth, project_points(points, straight.camera, T)
    )
