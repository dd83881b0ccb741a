from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from depth_completion_ros import open_source
from depth_completion_ros.datasets.depth_png import read_depth_png

DATE = "2011_09_26"
DRIVE = f"{DATE}/{DATE}_drive_0009_sync"
FRAMES = 12


@pytest.fixture(scope="module")
def drive(kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first twelve frames of the shipped drive."""
    copy = tmp_path_factory.mktemp("raw")
    source = kitti / "drive_0009"
    (copy / DRIVE).mkdir(parents=True)
    for file in (source / DATE).glob("*.txt"):
        shutil.copy(file, copy / DATE / file.name)
    for sensor in ("image_02", "velodyne_points", "oxts"):
        (copy / DRIVE / sensor / "data").mkdir(parents=True)
        for file in sorted((source / DRIVE / sensor / "data").iterdir())[:FRAMES]:
            (copy / DRIVE / sensor / "data" / file.name).symlink_to(file)
        for file in (source / DRIVE / sensor).glob("*.txt"):
            lines = file.read_text().splitlines()
            count = FRAMES if "timestamps" in file.name else len(lines)
            (copy / DRIVE / sensor / file.name).write_text("\n".join(lines[:count]) + "\n")
    return copy


@pytest.mark.dataset
@pytest.mark.slow
def test_it_agrees_with_the_shipped_ground_truth(run, drive, kitti, tmp_path):
    poses = kitti / "drive_0009" / "poses_icp.json"
    short = tmp_path / "poses.json"
    steps = json.loads(poses.read_text())["next_in_this"][: FRAMES - 1]
    short.write_text(json.dumps({"next_in_this": steps}))
    out = tmp_path / "out"
    done = run(
        *("groundtruth", drive, out, "--poses", short, "--json"),
        *("--compare", f"{kitti}/completion/raw0009_"),
    )
    assert done.status == 0
    found = done.json["comparison"]
    assert found["frames"] == 4
    assert found["median_relative_difference"] < 0.002
    assert found["percentile_95_m"] < 0.2
    assert found["mae_mm"] < 50
    # Frames 7 to 11 lack the scans after the twelfth.
    assert 0.7 < found["coverage"] / found["coverage_there"] < 1.1
    assert found["share_of_theirs_covered"] > 0.5
    assert read_depth_png(out / "0000000005_gt.png").max() <= 85


@pytest.mark.dataset
@pytest.mark.slow
def test_a_bad_scan_fails_alone_and_resume_does_the_rest(run, drive, tmp_path):
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(drive, copy, symlinks=True)
    scan = copy / DRIVE / "velodyne_points" / "data" / "0000000004.bin"
    whole = scan.resolve()
    scan.unlink()
    scan.write_bytes(b"short")
    done = run("groundtruth", copy, out, "--window", "2", "--json")
    assert done.status == 1
    assert list(done.json["failed"]) == ["0000000004"]
    assert done.json["completed"] == FRAMES - 1
    assert done.json["poses"] == "poses of the source (kitti_raw)"
    before = (out / "0000000001_gt.png").stat().st_mtime_ns
    scan.unlink()
    scan.symlink_to(whole)
    done = run("groundtruth", copy, out, "--window", "2", "--resume", "--json")
    assert done.status == 0
    assert (done.json["completed"], done.json["done_before"]) == (1, FRAMES - 1)
    assert (out / "0000000001_gt.png").stat().st_mtime_ns == before
    message = run("groundtruth", copy, out, "--window", "3", "--resume").refused()
    assert "was made with window 2, found 3 now" in message


@pytest.mark.dataset
@pytest.mark.slow
def test_with_frames_the_output_is_a_source(run, drive, tmp_path):
    out = tmp_path / "out"
    assert run("groundtruth", drive, out, "--window", "1", "--frames").status == 0
    source = open_source(out)
    assert (source.kind, len(source)) == ("folder", FRAMES)
    assert source.has_ground_truth
    frame = source[3]
    assert frame.T_camera_lidar is not None
    measured = read_depth_png(out / "0000000003_sparse.png")
    assert (frame.sparse_depth == measured).all()
    assert source.ground_truth(3).astype(bool).sum() > measured.astype(bool).sum()


def test_a_source_without_scans_is_refused(run, source, tmp_path):
    poses = tmp_path / "poses.txt"
    poses.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 3)
    message = run("groundtruth", source, tmp_path / "out", "--poses", poses).refused()
    assert "found sparse depth, expected a scan" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--poses", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--poses", "source"], "found no poses in it; --poses odometry"),
        (["--compare", "nowhere"], "--compare: found no nowhere*_gt.png"),
        (["--window", "0"], "expected a whole number from 1 on"),
        (["--min-range", "near"], "--min-range"),
        (["--min-range", "-1"], "expected metres from 0 on"),
    ],
)
def test_bad_usage_is_one_line(run, source, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in run("groundtruth", source, "out", *arguments).refused()
