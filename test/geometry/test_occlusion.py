"""What is seen past an edge goes, what lies on a slope stays; on drawn scenes and on real ones."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.geometry.camera import scale_camera
from depth_completion_ros.geometry.occlusion import filter_sparse, see_through_mask
from depth_completion_ros.geometry.projection import project_points
from depth_completion_ros.settings import OcclusionFilterSettings

CAMERA = PinholeCamera(400, 200, [[400, 0, 200], [0, 400, 100], [0, 0, 1]])


def lidar_at(x=0.0, y=0.0, z=0.0) -> np.ndarray:
    """LiDAR at a place in the camera's frame, with the camera's axes."""
    T = np.eye(4)
    T[:3, 3] = (x, y, z)
    return T


def scan(distance, T, step=0.004, beams=0.008) -> np.ndarray:
    """Measure a scene from the LiDAR's place; distance(x, y) is z along the ray (x, y, 1)."""
    x, y = np.meshgrid(np.arange(-0.6, 0.6, step), np.arange(-0.3, 0.3, beams))
    z = distance(x, y, T[:3, 3])
    points = np.stack((x * z, y * z, z), axis=-1).reshape(-1, 3)
    return points[np.isfinite(points).all(axis=1)].astype(np.float32)


def box_before_wall(x, y, origin) -> np.ndarray:
    """A plate 2 m wide and high at 5 m from the camera, before a wall at 20 m."""
    near, far = 5 - origin[2], 20 - origin[2]
    hit_x, hit_y = x * near + origin[0], y * near + origin[1]
    return np.where((np.abs(hit_x) < 1) & (np.abs(hit_y) < 1), near, far)


def behind_plate(sparse) -> np.ndarray:
    """Measurements of the wall on pixels where the camera sees the plate."""
    v, u = np.mgrid[:200, :400]
    on_plate = (np.abs(u - 200) < 79) & (np.abs(v - 100) < 79)
    return on_plate & (sparse > 10)


@pytest.mark.parametrize(
    "T",
    [
        lidar_at(y=-0.3, z=-0.2),
        lidar_at(x=0.25),
        lidar_at(x=-0.2, y=-0.2),
        lidar_at(y=0.3),
    ],
    ids=["above and behind", "right", "above and left", "below"],
)
def test_the_wall_seen_past_a_plate_is_found(T):
    sparse = project_points(scan(box_before_wall, T), CAMERA, T)
    wrong = behind_plate(sparse)
    found = see_through_mask(sparse, CAMERA, T_camera_lidar=T)
    assert wrong.sum() > 30
    assert (found & wrong).sum() >= 0.6 * wrong.sum()
    v, u = np.mgrid[:200, :400]
    at_edge = (np.abs(u - 200) < 85) & (np.abs(v - 100) < 85)
    assert not (found & ~at_edge).any()
    assert (sparse[found] > 10).all()


def test_a_scan_from_the_cameras_own_place_loses_nothing():
    T = lidar_at()
    sparse = project_points(scan(box_before_wall, T), CAMERA, T)
    assert not see_through_mask(sparse, CAMERA, T_camera_lidar=T).any()


@pytest.mark.parametrize("beams", [0.003, 0.005, 0.008, 0.02])
@pytest.mark.parametrize(("height", "above"), [(1.65, 0.3), (0.5, 0.2), (0.3, 0.2), (0.2, 0.1)])
def test_a_road_stays_however_low_the_sensors_are(height, above, beams):
    T = lidar_at(y=-above, z=-0.1)

    def road(x, y, origin):
        with np.errstate(divide="ignore"):
            return np.where(y > 0.005, (height - origin[1]) / y, np.nan)

    sparse = project_points(scan(road, T, beams=beams), CAMERA, T)
    assert (sparse > 0).sum() > 1000
    assert not see_through_mask(sparse, CAMERA, T_camera_lidar=T).any()


def test_a_wall_along_the_street_stays():
    T = lidar_at(x=0.2, y=-0.3, z=-0.3)

    def wall(x, y, origin):
        return np.where(x > 0.02, (2 - origin[0]) / x, np.nan)

    sparse = project_points(scan(wall, T, step=0.003), CAMERA, T)
    assert (sparse > 0).sum() > 1000
    assert not see_through_mask(sparse, CAMERA, T_camera_lidar=T).any()


def test_one_row_of_known_points():
    # Parallax of 10 m behind 2 m: 0.4 * 400 * (1 / 2 - 1 / 10) = 64 px, so both are in reach.
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 199], sparse[100, 200], sparse[100, 201] = 2, 10, 2
    sparse[50, 199], sparse[50, 200] = 2, 10  # nearer on one side only: an edge
    sparse[150, 199], sparse[150, 200], sparse[150, 201] = 2, 2.05, 2  # 2.5 %: one surface
    # 10.6 m behind 10 m: 0.4 * 400 * (1 / 10 - 1 / 10.6) = 0.9 px, so none can have crossed.
    sparse[30, 199], sparse[30, 200], sparse[30, 201] = 10, 10.6, 10
    assert np.argwhere(see_through_mask(sparse, CAMERA)).tolist() == [[100, 200]]


def test_above_and_below_count_as_well():
    sparse = np.zeros((200, 400), np.float32)
    sparse[99, 200], sparse[100, 200], sparse[101, 200] = 2, 10, 2
    assert np.argwhere(see_through_mask(sparse, CAMERA)).tolist() == [[100, 200]]


def test_points_farther_than_the_gap_say_nothing():
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 190], sparse[100, 200], sparse[100, 210] = 2, 10, 2  # 10 px = 0.025 rad
    assert not see_through_mask(sparse, CAMERA).any()
    wide = OcclusionFilterSettings(gap=0.036)
    assert np.argwhere(see_through_mask(sparse, CAMERA, wide)).tolist() == [[100, 200]]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_result_follows_the_angle_not_the_pixels(factor):
    T = lidar_at(x=0.25)
    camera = scale_camera(CAMERA, 400 * factor, 200 * factor)
    sparse = project_points(scan(box_before_wall, T), camera, T)
    v, u = np.mgrid[: 200 * factor, : 400 * factor]
    half = 79 * factor
    wrong = (np.abs(u - 200 * factor) < half) & (np.abs(v - 100 * factor) < half) & (sparse > 10)
    found = see_through_mask(sparse, camera, T_camera_lidar=T)
    assert wrong.sum() > 200
    assert (found & wrong).sum() > 0.95 * wrong.sum()


def test_a_stereo_shift_counts_as_distance():
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 199], sparse[100, 200], sparse[100, 201] = 2, 10, 2
    assert not see_through_mask(sparse, CAMERA, T_camera_lidar=np.eye(4)).any()
    shifted = PinholeCamera(400, 200, CAMERA.K, shift=[0.5, 0, 0])
    assert see_through_mask(sparse, shifted, T_camera_lidar=np.eye(4)).any()


def test_the_filter_clears_what_the_mask_marks_and_leaves_its_input():
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 199], sparse[100, 200], sparse[100, 201] = 2, 10, 2
    before = sparse.copy()
    kept = filter_sparse(sparse, CAMERA)
    np.testing.assert_array_equal(sparse, before)
    assert kept.dtype == np.float32
    assert kept[100, 199:202].tolist() == [2, 0, 2]


def test_disabled_it_copies():
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 199], sparse[100, 200], sparse[100, 201] = 2, 10, 2
    kept = filter_sparse(sparse, CAMERA, OcclusionFilterSettings(enabled=False))
    np.testing.assert_array_equal(kept, sparse)
    assert kept is not sparse


@pytest.mark.parametrize("count", [0, 1])
def test_empty_maps_stay_empty(count):
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 200] = 7 * count
    np.testing.assert_array_equal(filter_sparse(sparse, CAMERA), sparse)


def test_a_map_that_is_not_contiguous_is_read_right():
    sparse = np.zeros((400, 200), np.float32)
    sparse[199, 100], sparse[200, 100], sparse[201, 100] = 2, 10, 2
    assert filter_sparse(sparse.T, CAMERA)[100, 199:202].tolist() == [2, 0, 2]


def test_points_at_the_image_border_are_judged_without_wrapping_around():
    sparse = np.zeros((200, 400), np.float32)
    sparse[100, 399], sparse[100, 398], sparse[101, 0], sparse[100, 0] = 10, 2, 2, 10
    sparse[199, 200], sparse[198, 200], sparse[0, 200] = 10, 2, 2
    assert not see_through_mask(sparse, CAMERA).any()


def read_depth(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 256


def frames_of(folder: Path, pattern: str):
    for path in sorted(folder.glob(f"{pattern}_sparse.png")):
        stem = str(path)[: -len("_sparse.png")]
        content = json.loads(Path(f"{stem}_calib.json").read_text())
        camera = PinholeCamera(*content["image_size"], content["K"])
        truth = Path(f"{stem}_gt.png")
        yield (
            read_depth(path),
            read_depth(truth) if truth.is_file() else None,
            camera,
            np.array(content["T_camera_lidar"]),
        )


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("pattern", "mae_ratio", "precision", "recall"),
    [
        ("raw0009_00000000[14]5", 0.55, 0.93, 0.42),
        ("raw0013_00000000[59]7", 0.50, 0.80, 0.40),
        ("sfnd_00000000[24]0", 0.45, 0.75, 0.65),
    ],
)
def test_real_measurements_get_better(kitti, pattern, mae_ratio, precision, recall):
    before, after, removed, right, wrong = 0.0, 0.0, 0, 0, 0
    frames = list(frames_of(kitti / "completion", pattern))
    assert len(frames) == 2
    for sparse, truth, camera, T in frames:
        both = (sparse > 0) & (truth > 0)
        error = sparse - truth
        is_wrong = both & (error > np.maximum(1.0, 0.05 * truth))
        mask = see_through_mask(sparse, camera, T_camera_lidar=T)
        before += np.abs(error[both]).mean()
        after += np.abs(error[both & ~mask]).mean()
        removed += (mask & both).sum()
        right += (mask & is_wrong).sum()
        wrong += is_wrong.sum()
    assert after < mae_ratio * before
    assert right / removed > precision
    assert right / wrong > recall


@pytest.mark.dataset
@pytest.mark.parametrize("pattern", ["nusc2_*", "acfr_vlp_*", "acfr_os1_*"])
def test_sparse_and_indoor_scans_lose_next_to_nothing(rigs, pattern):
    shares = [
        see_through_mask(sparse, camera, T_camera_lidar=T).sum() / (sparse > 0).sum()
        for sparse, _, camera, T in frames_of(rigs, pattern)
    ]
    assert len(shares) >= 2
    assert np.mean(shares) < 0.01


@pytest.mark.dataset
def test_random_points_of_a_dense_map_lose_nothing(scenes):
    rng = np.random.default_rng(0)
    paths = sorted(scenes.glob("*_gt.png"))[::5]
    assert len(paths) >= 4
    for path in paths:
        depth = read_depth(path)
        calibration = json.loads(Path(str(path).replace("_gt.png", "_calib.json")).read_text())
        camera = PinholeCamera(*calibration["image_size"], calibration["K"])
        chosen = rng.choice(np.flatnonzero(depth), 500, replace=False)
        sparse = np.zeros_like(depth)
        sparse.ravel()[chosen] = depth.ravel()[chosen]
        assert see_through_mask(sparse, camera).sum() <= 2
