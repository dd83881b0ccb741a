from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.evaluation.accumulation import Scan, accumulate_depth
from depth_completion_ros.geometry.projection import project_points

CAMERA = PinholeCamera(400, 200, np.array([[300, 0, 199.5], [0, 300, 99.5], [0, 0, 1.0]]))
# The camera 0.3 m in front of the LiDAR, which has x forward, y left, z up.
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.3], [0, 0, 0, 1.0]])
STEP = 0.5
HEIGHT = 1.7


def scan_street(i: int, car: float | None = None) -> Scan:
    """Scan a road with walls 6 m to both sides and one 40 m ahead, from i * 0.5 m along it.

    Args:
        i: number of the scan.
        car: where a car's flat back stands at this moment, metres ahead of the origin.
    """
    elevation, azimuth = np.meshgrid(
        np.deg2rad(np.arange(-24, 4, 0.8) + 0.13 * i),
        np.deg2rad(np.arange(-40, 40, 0.5) + 0.07 * i),
        indexing="ij",
    )
    ray = np.stack(
        (
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ),
        axis=-1,
    ).reshape(-1, 3)
    x = i * STEP
    with np.errstate(divide="ignore"):
        distance = np.minimum((40 - x) / ray[:, 0], 6 / np.abs(ray[:, 1]))
        distance = np.minimum(distance, np.where(ray[:, 2] < 0, -HEIGHT / ray[:, 2], np.inf))
    if car is not None:
        to_car = (car - x) / ray[:, 0]
        hit = ray * to_car[:, None]
        on_car = (np.abs(hit[:, 1]) < 1) & (hit[:, 2] < 0.2) & (hit[:, 2] > -HEIGHT) & (to_car > 0)
        distance = np.where(on_car & (to_car < distance), to_car, distance)
    pose = np.eye(4)
    pose[0, 3] = x
    return Scan((ray * distance[:, None]).astype(np.float32), pose)


def true_depth() -> np.ndarray:
    """Depth of the empty street at the origin: the camera sees along z."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    x, y = (u - 199.5) / 300, (v - 99.5) / 300
    with np.errstate(divide="ignore"):
        road = np.where(y > 0, HEIGHT / y, np.inf)
        walls = 6 / np.abs(x)
    return np.minimum(np.minimum(road, walls), 40 - 0.3)


def test_a_static_street_becomes_denser_and_stays_true():
    scans = {i: scan_street(i) for i in range(-5, 6)}
    centre = scans.pop(0)
    depth = accumulate_depth(centre, list(scans.values()), CAMERA, T_CAMERA_LIDAR)
    own = project_points(centre.points, CAMERA, T_CAMERA_LIDAR)
    assert np.count_nonzero(depth) > 4 * np.count_nonzero(own)
    known = depth > 0
    error = np.abs(depth - true_depth())[known]
    # Rounding to pixels moves a point on the road by up to half a row.
    assert np.median(error / depth[known]) < 0.01
    assert np.percentile(error / depth[known], 99) < 0.05


def test_the_centre_scan_alone_gives_its_own_points():
    centre = scan_street(0)
    depth = accumulate_depth(centre, [], CAMERA, T_CAMERA_LIDAR)
    own = project_points(centre.points, CAMERA, T_CAMERA_LIDAR, max_depth=85)
    known = depth > 0
    assert np.count_nonzero(known) > 0.8 * np.count_nonzero(own)
    assert np.array_equal(depth[known], own[known])


def test_a_moving_car_leaves_no_trail_and_no_background_on_it():
    """The car drives ahead at twice our speed: 12 m ahead now, at 7 to 17 m in the other scans."""
    scans = {i: scan_street(i, car=12 + 2 * i * STEP) for i in range(-5, 6)}
    centre = scans.pop(0)
    depth = accumulate_depth(centre, list(scans.values()), CAMERA, T_CAMERA_LIDAR)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    z = 12 - 0.3
    x, y = (u - 199.5) / 300 * z, (v - 99.5) / 300 * z
    on_car = (np.abs(x) < 0.95) & (y > -0.15) & (y < HEIGHT - 0.1)
    known = on_car & (depth > 0)
    assert np.count_nonzero(known) > 50
    assert np.abs(depth - z)[known].max() < 0.1
    # Where the car was or will be, the road and the walls are what they are now.
    static = (depth > 0) & ((np.abs(x) > 1.2) | (y > HEIGHT + 0.1))
    error = np.abs(depth - true_depth())[static]
    assert np.percentile(error / depth[static], 99) < 0.06


def test_points_beyond_the_limit_are_dropped():
    scans = [scan_street(i) for i in (-1, 1)]
    depth = accumulate_depth(scan_street(0), scans, CAMERA, T_CAMERA_LIDAR, max_depth=20)
    assert 0 < depth.max() <= 20


def test_an_empty_centre_scan_confirms_nothing_alone():
    empty = Scan(np.zeros((0, 3), np.float32), np.eye(4))
    depth = accumulate_depth(empty, [scan_street(1)], CAMERA, T_CAMERA_LIDAR)
    assert depth.shape == (200, 400)
    assert not depth.any()


@pytest.mark.parametrize("count", [2, 4])
def test_what_the_centre_scan_has_not_seen_needs_three_other_witnesses(count):
    """The centre scan has no returns left of the middle: dark paint."""
    centre = scan_street(0)
    dark = Scan(centre.points[centre.points[:, 1] < 0], centre.T_world_lidar)
    depth = accumulate_depth(
        dark, [scan_street(i) for i in range(1, count + 1)], CAMERA, T_CAMERA_LIDAR
    )
    seen = np.count_nonzero(depth[:, :180])
    assert (seen > 0) == (count > 3)
