from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros import open_source

RECIPE = """\
synthetic:
  seed: 3
  frames: 3
  cameras: image_02
  width: 160
  height: 64
  azimuth_step_deg: 1.0
"""


@pytest.fixture
def scans(source: Path) -> Path:
    """The tiny source with scans instead of sparse maps."""
    for path in source.glob("*_sparse.png"):
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 40), np.linspace(-0.3, 0.3, 30))
        scan = np.zeros((1200, 4), np.float32)
        scan[:, 0], scan[:, 1], scan[:, 2] = 12, -12 * u.ravel(), -12 * v.ravel()
        scan.tofile(str(path).replace("_sparse.png", "_points.bin"))
        path.unlink()
    return source


@pytest.mark.parametrize(
    ("out", "arguments", "suffix"),
    [
        ("bag", [], ".mcap"),
        ("bag", ["--to", "sqlite3"], ".db3"),
        ("bag.mcap", ["--compressed"], ".mcap"),
        ("bag.db3", [], ".db3"),
    ],
)
def test_a_bag_holds_the_same_frames(run, scans, tmp_path, out, arguments, suffix):
    bag = tmp_path / out
    done = run("convert", scans, bag, *arguments)
    assert done.status == 0
    assert f"{bag}: 3 frames written as" in done.out
    assert [p.suffix for p in bag.iterdir() if p.name != "metadata.yaml"] == [suffix]
    before, after = open_source(scans), open_source(bag)
    assert len(after) == 3
    for i in range(3):
        assert np.array_equal(after[i].image, before[i].image)
        assert np.array_equal(after[i].points, before[i].points)
        np.testing.assert_allclose(after[i].T_camera_lidar, before[i].T_camera_lidar, atol=1e-9)


def test_topics_of_a_bag_can_be_chosen(run, scans, tmp_path):
    bag = tmp_path / "bag"
    topics = ("image=/kitti/camera_color_left/image_raw", "points=/kitti/velo/pointcloud")
    assert run("convert", scans, bag, "--bag-topics", *topics).status == 0
    text = (bag / "metadata.yaml").read_text()
    assert "/kitti/camera_color_left/image_raw" in text
    assert "/kitti/velo/pointcloud" in text


def test_a_folder_of_frames_keeps_measurements_and_truth(run, source, tmp_path):
    out = tmp_path / "folder"
    done = run("convert", source, out, "--to", "folder", "--json")
    assert done.json["completed"] == 3
    before, after = open_source(source), open_source(out)
    assert list(after.names) == list(before.names)
    for i in range(3):
        assert np.array_equal(after[i].image, before[i].image)
        assert np.array_equal(after[i].sparse_depth, before[i].sparse_depth)
        assert np.array_equal(after.ground_truth(i), before.ground_truth(i))
        assert np.array_equal(after[i].camera.K, before[i].camera.K)


def test_a_folder_holds_sparse_maps_or_whole_scans(run, scans, tmp_path):
    assert run("convert", scans, tmp_path / "maps", "--to", "folder").status == 0
    assert open_source(tmp_path / "maps")[0].sparse_depth.max() == pytest.approx(11.7, abs=0.01)
    assert run("convert", scans, tmp_path / "scans", "--to", "folder", "--points").status == 0
    assert np.array_equal(open_source(tmp_path / "scans")[1].points, open_source(scans)[1].points)


def test_a_folder_goes_on_where_it_stopped(run, source, tmp_path):
    out = tmp_path / "folder"
    run("convert", source, out, "--to", "folder")
    (out / "street_02_image.png").unlink()
    done = run("convert", source, out, "--to", "folder", "--resume", "--json")
    assert (done.json["completed"], done.json["done_before"]) == (1, 2)


@pytest.mark.parametrize("form", ["mcap", "folder"])
def test_a_damaged_frame_is_left_out(run, scans, tmp_path, form):
    (scans / "street_02_points.bin").write_bytes(b"12345")
    done = run("convert", scans, tmp_path / "out", "--to", form)
    assert done.status == 1
    assert "2 frames written" in done.out
    assert "failed: street_02: " in done.err


@pytest.mark.slow
def test_a_recipe_becomes_a_drive(run, tmp_path):
    pytest.importorskip("trimesh", reason="no ray tracer: the extra 'synthetic' is not installed")
    recipe = tmp_path / "street.yaml"
    recipe.write_text(RECIPE)
    done = run("convert", recipe, tmp_path / "drives", "--json")
    assert done.status == 0
    assert (done.json["format"], done.json["completed"]) == ("kitti", 3)
    drive = open_source(done.json["out"])
    assert (drive.kind, len(drive)) == ("kitti_raw", 3)
    assert drive.ground_truth(0).shape == (64, 160)
    again = run("convert", recipe, tmp_path / "drives", "--json")
    assert (again.json["completed"], again.json["done_before"]) == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{source}", "bag"], "has no points, only sparse depth"),
        (["{source}", "bag.mcap", "--to", "sqlite3"], "choose one of them"),
        (["{source}", "out", "--to", "kitti"], "found no recipe (.yaml)"),
        (["{source}", "out", "--to", "folder", "--compressed"], "--compressed: means nothing"),
        (["{source}", "bag", "--points"], "--points: means nothing for mcap"),
        (["{source}", "bag", "--resume"], "--resume: means nothing for mcap"),
        (["{source}", "{source}"], "exists already"),
        (["{source}", "{source}/street_01_image.png/bag"], "cannot be written"),
        (["{source}", "{source}/street_01_image.png/f", "--to", "folder"], "cannot be written"),
        (["{source}", "bag", "--bag-topics", "lidar=/points"], "--bag-topics: found"),
        (["nowhere", "bag"], "nowhere: no such file or folder"),
        (["nowhere.yaml", "drives"], "nowhere.yaml"),
    ],
)
def test_bad_usage_is_one_line(run, source, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))
    message = run("convert", *(argument.format(source=source) for argument in arguments)).refused()
    assert words in message
    assert sorted(p for p in tmp_path.rglob("*")) == before


@pytest.mark.dataset
@pytest.mark.slow
def test_a_drive_survives_the_way_through_a_bag(run, kitti, tmp_path):
    drive = open_source(kitti / "drive_0009")
    bag = tmp_path / "bag"
    assert run("convert", kitti / "drive_0009", bag).status == 0
    copy = open_source(bag)
    assert len(copy) == len(drive) == 30
    before, after = drive[11], copy[11]
    assert np.array_equal(after.image, before.image)
    assert np.array_equal(after.points, before.points)
    np.testing.assert_allclose(after.point_times, before.point_times, atol=1e-6)
    assert (after.stamp, after.points_stamp) == (before.stamp, before.points_stamp)
    shutil.rmtree(bag)
