from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.data import Frame, PinholeCamera
from depth_completion_ros.errors import InputError
from depth_completion_ros.evaluation.hold_out import beam_height, elevations, hold_out

# LiDAR x forward, y left, z up; camera z forward, x right, y down; the LiDAR 0.5 m above it.
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.5], [1, 0, 0, 0], [0, 0, 0, 1.0]])
BEAM = np.deg2rad(1.0)


def rotating_scanner(name: str = "a") -> Frame:
    """24 beams one degree apart, from -12 to 11 degrees, on a wall 20 m ahead."""
    elevation, azimuth = np.meshgrid(
        (np.arange(24) - 12) * BEAM, np.deg2rad(np.arange(-30, 30, 0.4)), indexing="ij"
    )
    x = np.full(elevation.shape, 20.0)
    y = x * np.tan(azimuth)
    z = np.hypot(x, y) * np.tan(elevation)
    points = np.stack((x, y, z), axis=-1).reshape(-1, 3).astype(np.float32)
    K = np.array([[600, 0, 320], [0, 600, 240], [0, 0, 1.0]])
    image = np.zeros((480, 640, 3), np.uint8)
    return Frame(image, PinholeCamera(640, 480, K), T_CAMERA_LIDAR, points, name=name)


def without_points(frame: Frame, T_camera_lidar: np.ndarray | None) -> Frame:
    rest, target = hold_out(frame, "points")
    sparse = rest.sparse_depth + target
    return Frame(frame.image, frame.camera, T_camera_lidar, sparse_depth=sparse, name=frame.name)


def test_the_beams_are_found_in_the_measurements():
    frame = without_points(rotating_scanner(), T_CAMERA_LIDAR)
    azimuth, elevation = elevations(frame, frame.sparse_depth)
    assert np.rad2deg(elevation.min()) == pytest.approx(-12, abs=0.06)
    assert np.rad2deg(beam_height(azimuth, elevation, 1 / 600)) == pytest.approx(1.0, abs=0.01)


def test_stripes_take_two_beams_of_every_eight():
    frame = rotating_scanner()
    rest, target = hold_out(frame, "stripes")
    elevation = elevations(without_points(frame, T_CAMERA_LIDAR), target)[1]
    beams = np.unique(np.rint(elevation / BEAM)).astype(int) + 12
    assert len(beams) == 6
    assert (np.diff(beams) == [1, 7, 1, 7, 1]).all()
    assert beams[0] % 2 == 0
    assert rest.points is None
    assert not (rest.sparse_depth[target > 0]).any()


def test_without_extrinsics_the_camera_takes_the_lidars_place():
    frame = without_points(rotating_scanner(), None)
    azimuth, elevation = elevations(frame, frame.sparse_depth)
    # Seen from 0.5 m below, the highest beam is atan((20 tan 11 + 0.5) / 20) high ahead.
    ahead = np.abs(azimuth) < np.deg2rad(1)
    assert np.rad2deg(elevation[ahead].max()) == pytest.approx(12.37, abs=0.06)
    _, target = hold_out(frame, "stripes")
    assert 0.15 < np.count_nonzero(target) / np.count_nonzero(frame.sparse_depth) < 0.35


@pytest.mark.parametrize("kind", ["stripes", "points", "patches"])
def test_what_stays_and_what_goes_is_what_was_measured(kind):
    frame = without_points(rotating_scanner(), T_CAMERA_LIDAR)
    rest, target = hold_out(frame, kind, seed=3)
    assert np.array_equal(rest.sparse_depth + target, frame.sparse_depth)
    share = np.count_nonzero(target) / np.count_nonzero(frame.sparse_depth)
    low, high = {"stripes": (0.2, 0.3), "points": (0.5, 0.5), "patches": (0.2, 0.3)}[kind]
    assert low - 1e-3 <= share <= high + 1e-3


@pytest.mark.parametrize("kind", ["stripes", "points", "patches"])
def test_seed_and_name_decide(kind):
    def target(seed: int, name: str) -> bytes:
        return hold_out(rotating_scanner(name), kind, seed=seed)[1].tobytes()

    assert target(1, "a") == target(1, "a")
    seeds = {target(seed, "a") for seed in range(8)}
    names = {target(1, name) for name in "abcdefgh"}
    assert len(seeds) > 1
    assert len(names) > 1


def test_ground_truth_stands_in_for_measurements():
    K = np.array([[600, 0, 32], [0, 600, 24], [0, 0, 1.0]])
    empty = np.zeros((48, 64), np.float32)
    image = np.zeros((48, 64, 3), np.uint8)
    frame = Frame(image, PinholeCamera(64, 48, K), sparse_depth=empty)
    truth = np.full((48, 64), 3, np.float32)
    rest, target = hold_out(frame, "points", ground_truth=truth)
    assert np.count_nonzero(rest.sparse_depth) == 500
    assert np.array_equal(rest.sparse_depth + target, truth)
    rest, _ = hold_out(frame, "points", count=40, ground_truth=truth)
    assert np.count_nonzero(rest.sparse_depth) == 40


def test_what_cannot_be_held_out_says_so():
    frame = rotating_scanner()
    with pytest.raises(InputError, match="found 'rows', expected one of stripes, points, patches"):
        hold_out(frame, "rows")
    with pytest.raises(InputError, match="expected fewer to stay"):
        hold_out(frame, "points", count=100_000)
    empty = np.zeros((480, 640), np.float32)
    bare = Frame(frame.image, frame.camera, sparse_depth=empty)
    with pytest.raises(InputError, match="found 0 measurements, expected 20 or more"):
        hold_out(bare, "stripes", ground_truth=empty)
