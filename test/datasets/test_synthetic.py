"""Synthetic drives: layout, exactness, timing, repeatability."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.datasets.kitti_raw import KittiRawDrive
from depth_completion_ros.datasets.synthetic import (
    SyntheticRecipe,
    open_recipe,
    read_recipe,
    render_drive,
)
from depth_completion_ros.datasets.synthetic.lidar import _reflectivity, beam_elevations
from depth_completion_ros.datasets.synthetic.mesh import Material, box
from depth_completion_ros.datasets.synthetic.rays import RayCaster
from depth_completion_ros.datasets.synthetic.recipe import draw_recipe
from depth_completion_ros.datasets.synthetic.rig import build_rig
from depth_completion_ros.datasets.synthetic.scene import Mover, draw_ego_motion
from depth_completion_ros.datasets.synthetic.street import draw_street
from depth_completion_ros.datasets.synthetic.surface import Surface
from depth_completion_ros.datasets.synthetic.textures import Look
from depth_completion_ros.datasets.synthetic.trajectory import TrafficMotion
from depth_completion_ros.errors import InputError
from depth_completion_ros.geometry.motion import move_points
from depth_completion_ros.geometry.projection import project_points
from depth_completion_ros.geometry.transforms import invert_transform
from depth_completion_ros.share import find_share_file

pytest.importorskip("embreex", reason="the extra 'synthetic' is not installed")

TINY = SyntheticRecipe(
    seed=3,
    frames=3,
    width=208,
    height=64,
    beams=16,
    azimuth_step_deg=0.5,
    moving_cars=2,
    trees=0.1,
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_drive(TINY, tmp_path_factory.mktemp("drive"), workers=1)


def all_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_processes_write_the_same_bytes_as_one(drive: Path, tmp_path: Path) -> None:
    seen = []
    again = render_drive(TINY, tmp_path, workers=2, progress=lambda *done: seen.append(done))
    first, second = all_files(drive.parent), all_files(again.parent)
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2024_06_21"]


def test_layout_is_that_of_kitti_raw(drive: Path) -> None:
    assert drive.name == "2024_06_21_drive_0003_sync"
    names = set(all_files(drive.parent))
    base = drive.name
    assert {
        "calib_cam_to_cam.txt",
        "calib_velo_to_cam.txt",
        "calib_imu_to_velo.txt",
        f"{base}/image_02/data/0000000002.png",
        f"{base}/image_03/data/0000000002.png",
        f"{base}/image_02/timestamps.txt",
        f"{base}/velodyne_points/data/0000000002.bin",
        f"{base}/velodyne_points/timestamps.txt",
        f"{base}/velodyne_points/timestamps_start.txt",
        f"{base}/velodyne_points/timestamps_end.txt",
        f"{base}/oxts/data/0000000002.txt",
        f"{base}/oxts/timestamps.txt",
        f"{base}/depth_gt/image_02/0000000002.png",
        f"{base}/depth_gt/image_03/0000000002.png",
    } <= names
    assert len((drive / "oxts/data/0000000000.txt").read_text().split()) == 30
    stamps = (drive / "velodyne_points/timestamps_start.txt").read_text().splitlines()
    assert stamps[1] == "2024-06-21 10:00:00.050000000"


def test_raw_reader_opens_both_cameras(drive: Path) -> None:
    left, right = (KittiRawDrive(drive, camera=name) for name in ("image_02", "image_03"))
    assert len(left) == len(right) == 3
    assert left.calibration.camera.K[0, 0] == pytest.approx(120.91, abs=0.01)
    # The fourth columns of P_rect put camera 3 half a metre to the right of camera 2.
    shift = [
        dataset[0].T_camera_lidar[:3, 3] + dataset[0].camera.shift for dataset in (left, right)
    ]
    np.testing.assert_allclose(shift[0] - shift[1], (0.54, 0, 0), atol=1e-6)


def motion_compensated(dataset: KittiRawDrive, index: int) -> np.ndarray:
    frame = dataset[index]
    T_next = invert_transform(dataset.T_world_lidar(index)) @ dataset.T_world_lidar(index + 1)
    return move_points(frame.points, frame.point_times, T_next, 0.1)


@pytest.mark.parametrize("camera", ["image_02", "image_03"])
def test_scan_agrees_with_exact_depth(tmp_path: Path, camera: str) -> None:
    recipe = dataclasses.replace(TINY, range_noise=0.0, cameras=camera, frames=2, moving_cars=0)
    dataset = KittiRawDrive(render_drive(recipe, tmp_path, workers=1), camera=camera)
    frame, truth = dataset[0], dataset.ground_truth(0)
    points = motion_compensated(dataset, 0)
    sparse = project_points(points, frame.camera, frame.T_camera_lidar)
    both = (sparse > 0) & (truth > 0)
    assert both.sum() > 700
    assert np.mean(sparse[both] > 1.1 * truth[both]) < 0.08
    # Between pixel centres the inverse depth of a plane is linear, so points can be checked
    # where they really fall.
    p = points[:, :3] @ frame.T_camera_lidar[:3, :3].T + frame.T_camera_lidar[:3, 3]
    p = p[p[:, 2] > 1] + frame.camera.shift
    u, v = (p @ frame.camera.K.T)[:, :2].T / p[:, 2]
    inside = (u > 0) & (u < 206) & (v > 0) & (v < 62)
    u, v, z = u[inside], v[inside], p[inside, 2]
    x, y = u.astype(int), v.astype(int)
    corners = np.stack([truth[y + j, x + i] for j in (0, 1) for i in (0, 1)])
    # The four pixels around a point see one surface, and the point lies on it.
    smooth = (corners.min(axis=0) > 0) & (np.ptp(corners, axis=0) < 0.05 * z)
    smooth &= np.abs(corners.mean(axis=0) - z) < 0.1 * z
    a, b = u - x, v - y
    share = np.stack(((1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b))[:, smooth]
    error = 1 / (share / corners[:, smooth]).sum(axis=0) - z[smooth]
    assert smooth.sum() > 300
    assert np.median(np.abs(error)) < 0.004  # the depth map is rounded to 1 / 256 m


def test_both_cameras_see_the_same_world(drive: Path) -> None:
    left, right = (KittiRawDrive(drive, camera=name) for name in ("image_02", "image_03"))
    truth, other = left.ground_truth(1), right.ground_truth(1)
    v, u = np.nonzero(truth)
    z = truth[v, u]
    # From the right everything is seen f * b / z = 120.91 * 0.54 / z pixels to the left.
    column = np.rint(u - 120.91 * 0.54 / z).astype(int)
    inside = column >= 0
    seen = other[v[inside], column[inside]]
    assert np.mean(np.abs(seen - z[inside]) < 0.03 * z[inside]) > 0.85


def test_a_moving_car_is_hit_where_it_is_at_each_rays_own_time() -> None:
    rng = np.random.default_rng(0)
    street = draw_street(rng, -50.0, 150.0)
    motion = TrafficMotion(street, 30.0, -10.0, 0.0)
    cube = box((-1, -1, 0), (1, 1, 2), Material.METAL, (1, 1, 1))
    floor = box((-500, -500, -99), (500, 500, -98), Material.GRASS, (1, 1, 1))
    caster = RayCaster(floor, (Mover(cube, motion),))
    times = np.array((0.0, 1.0))
    poses = motion.poses(times)
    target = poses.position + poses.R @ np.array((0.0, 0, 1))
    origins = np.tile((0.0, 0, 1), (2, 1))
    hits = caster.cast(origins, target - origins, times)
    assert hits.mover.tolist() == [0, 0]
    # The car's front is one metre before its middle, 30 m and then 20 m away.
    distance = hits.distance * np.linalg.norm(target - origins, axis=1)
    np.testing.assert_allclose(distance, (29, 19), atol=0.3)
    swapped = caster.cast(origins, target - origins, times[::-1].copy())
    assert np.abs(swapped.distance - hits.distance).min() > 0.2


def test_glass_returns_less_than_plaster() -> None:
    def surface(glass: float) -> Surface:
        ones = np.ones(2, np.float32)
        look = Look(np.full((2, 3), 0.5, np.float32), 0 * ones, glass * ones, 0 * ones)
        kind = np.full(2, Material.FACADE, np.uint8)
        vectors = np.tile(np.array((1, 0, 0), np.float32), (2, 1))
        return Surface(np.zeros((2, 3)), vectors, vectors, vectors, ones, ones, kind, look)

    np.testing.assert_allclose(_reflectivity(surface(0.0)), 0.5)
    np.testing.assert_allclose(_reflectivity(surface(1.0)), 0.002, rtol=1e-5)


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        render_drive(TINY, tmp_path / "file", workers=1)


def test_a_failing_process_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(InputError, match="a rendering process failed"):
        render_drive(TINY, tmp_path, workers=2)
    assert list(tmp_path.iterdir()) == []


def test_range_noise_is_what_was_asked_for(tmp_path: Path) -> None:
    quiet, noisy = (
        render_drive(
            dataclasses.replace(
                TINY, range_noise=noise, dropout=0.0, frames=1, cameras="image_02"
            ),
            tmp_path / str(noise),
            workers=1,
        )
        for noise in (0.0, 0.05)
    )
    ranges = [
        np.linalg.norm(KittiRawDrive(drive)[0].points[:, :3].astype(np.float64), axis=1)
        for drive in (quiet, noisy)
    ]
    assert len(ranges[0]) == len(ranges[1])
    assert np.std(ranges[1] - ranges[0]) == pytest.approx(0.05, rel=0.05)


def test_scan_turns_clockwise_and_faces_forward_at_its_stamp(drive: Path) -> None:
    dataset = KittiRawDrive(drive)
    frame = dataset[1]
    points, times = frame.points, frame.point_times
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    # Written in the order of measurement: from behind over the left and the front to the right.
    assert azimuth[0] > 175
    assert azimuth[-1] < -175
    assert np.all(np.diff(azimuth) < 0.01)
    assert np.all(np.diff(times) > -1e-5)
    assert frame.points_stamp == frame.stamp
    assert times[np.argmin(np.abs(azimuth))] == pytest.approx(0, abs=1e-4)


def test_oxts_gives_back_the_exact_poses(drive: Path) -> None:
    dataset = KittiRawDrive(drive)
    recipe = TINY
    T_world_base = draw_ego_motion(recipe).poses(np.arange(3) / 10).matrices()
    T_world_lidar = T_world_base @ build_rig(recipe).T_base_lidar
    for index in (1, 2):
        exact = invert_transform(T_world_lidar[0]) @ T_world_lidar[index]
        read = invert_transform(dataset.T_world_lidar(0)) @ dataset.T_world_lidar(index)
        np.testing.assert_allclose(read, exact, atol=1e-5)
    assert np.linalg.norm(exact[:3, 3]) == pytest.approx(1.6, rel=0.3)


def test_a_drive_that_is_there_is_not_rendered_again(drive: Path) -> None:
    before = (drive / "recipe.json").stat().st_mtime_ns
    assert render_drive(TINY, drive.parents[1], workers=1) == drive
    assert (drive / "recipe.json").stat().st_mtime_ns == before


def test_another_drive_of_the_same_name_is_refused(drive: Path) -> None:
    other = dataclasses.replace(TINY, frames=2)
    with pytest.raises(InputError, match="found another drive"):
        render_drive(other, drive.parents[1], workers=1)


def test_another_calibration_in_the_same_folder_is_refused(drive: Path) -> None:
    other = dataclasses.replace(TINY, seed=4, frames=1, lidar_above=0.5)
    with pytest.raises(InputError, match="another calibration"):
        render_drive(other, drive.parents[1], workers=1)
    assert [path.name for path in drive.parents[1].iterdir()] == ["2024_06_21"]


def test_recipe_is_rendered_into_the_cache_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "synthetic:\n  frames: 1\n  width: 104\n  height: 32\n  beams: 8\n  azimuth_step_deg: 1\n"
        "  cameras: image_02\n  trees: 0.0\n"
    )
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        dataset = open_recipe(path, cache=tmp_path / "cache", progress=lambda *n: calls.append(n))
        assert dataset[0].image.shape == (32, 104, 3)
    assert calls == [(1, 1)]


def test_shipped_recipes_can_be_read() -> None:
    folder = find_share_file("config/synthetic")
    recipes = {path.stem: read_recipe(path) for path in folder.glob("*.yaml")}
    assert recipes["street"].frames == 50
    assert recipes["street"].camera_names == ("image_02", "image_03")
    assert recipes["street_small"].camera_names == ("image_02",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synthetic: [", "cannot be read as YAML"),
        ("frames: 3", "no top-level key 'synthetic'"),
        ("synthetic: 3", "found 3 under 'synthetic'"),
        ("synthetic: {beam: 3}", "unknown setting 'beam'"),
        ("synthetic: {beams: 0}", "expected a value from 1 to 256"),
        ("synthetic: {lidar_top_deg: -30}", "swap them"),
    ],
)
def test_bad_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_randomise_follows_the_seed_and_keeps_what_was_asked_for() -> None:
    recipes = [SyntheticRecipe(seed=seed, randomise=True, frames=7) for seed in range(40)]
    drawn = [draw_recipe(recipe) for recipe in recipes]
    assert drawn == [draw_recipe(recipe) for recipe in recipes]
    assert all(not d.randomise and d.frames == 7 for d in drawn)
    assert all(d.width * d.height <= 1242 * 375 for d in drawn)
    assert {d.beams for d in drawn} == {8, 16, 32, 40, 64, 128}
    assert {d.weather for d in drawn} == {"clear", "overcast", "rain", "fog"}


def test_64_beams_are_spread_like_an_hdl_64e() -> None:
    degrees = np.degrees(beam_elevations(SyntheticRecipe()))
    assert len(degrees) == 64
    assert degrees[0] == pytest.approx(2.0)
    assert degrees[-1] == pytest.approx(-24.8)
    assert -np.diff(degrees[:32]).mean() == pytest.approx(1 / 3, abs=0.01)
    assert -np.diff(degrees[32:]).mean() == pytest.approx(1 / 2, abs=0.02)


@pytest.mark.parametrize("weather", ["overcast", "rain", "fog", "night"])
def test_every_weather_renders_a_different_picture(
    drive: Path, tmp_path: Path, weather: str
) -> None:
    change = {"night": True} if weather == "night" else {"weather": weather}
    recipe = dataclasses.replace(TINY, cameras="image_02", **change)
    dataset = KittiRawDrive(render_drive(recipe, tmp_path, workers=1))
    clear = KittiRawDrive(drive)
    assert np.abs(dataset[0].image.astype(int) - clear[0].image).mean() > 5
    np.testing.assert_array_equal(dataset.ground_truth(0), clear.ground_truth(0))
