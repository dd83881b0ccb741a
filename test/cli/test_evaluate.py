from __future__ import annotations

import numpy as np
import pytest

from depth_completion_ros.cli.output import format_table
from depth_completion_ros.datasets.depth_png import (
    read_depth_png,
    write_confidence_png,
    write_depth_png,
    write_sigma_png,
)


@pytest.fixture
def predictions(source, tmp_path):
    """Predictions that are 0.5 m too far in two frames and right in one, all trusted alike."""
    folder = tmp_path / "predictions"
    for name, error in (("street_01", 0.5), ("street_02", 0.5), ("street_03", 0.0)):
        truth = read_depth_png(source / f"{name}_gt.png")
        write_depth_png(folder / "depth" / f"{name}.png", truth + np.float32(error))
        write_confidence_png(folder / "confidence" / f"{name}.png", np.full_like(truth, 0.6))
        write_sigma_png(folder / "sigma" / f"{name}.png", np.full_like(truth, 0.3))
    return folder


def test_predictions_are_scored_frame_by_frame(run, source, predictions):
    done = run("evaluate", source, predictions, "--json")
    assert done.status == 0
    frames = {frame["name"]: frame for frame in done.json["frames"]}
    assert frames["street_01"]["rmse_mm"] == pytest.approx(500)
    assert frames["street_01"]["signed_mm"] == pytest.approx(500)
    assert frames["street_03"]["mae_mm"] == 0
    mean = done.json["mean"]
    assert mean["rmse_mm"] == pytest.approx(1000 / 3)
    assert mean["within_one_sigma"] == pytest.approx(1 / 3)
    assert mean["within_two_sigma"] == 1.0
    assert mean["ause_by_confidence_relative"] == pytest.approx(0)
    assert sum(band["pixels"] for band in done.json["bands"]) == mean["pixels"] == 3 * 64 * 96
    assert sum(done.json["reliability"]["pixels"]) == 3 * 64 * 96


def test_the_table_is_for_people(run, source, predictions):
    text = run("evaluate", source, predictions).out
    assert "street_02" in text
    assert "iRMSE 1/km" in text
    assert "mean (3)" in text
    assert "10 to 20 m" in text
    assert "expected calibration error" in text
    assert "3 frames against ground truth" in text


def test_without_predictions_it_completes_by_itself(run, source, tmp_path):
    run("complete", source, tmp_path / "out", "--sigma")
    written = run("evaluate", source, tmp_path / "out", "--json").json["mean"]
    direct = run("evaluate", source, "--json").json["mean"]
    assert direct["rmse_mm"] == pytest.approx(written["rmse_mm"], rel=1e-3)
    assert direct["irmse_per_km"] == pytest.approx(written["irmse_per_km"], rel=1e-2)


def test_missing_and_damaged_predictions_are_listed(run, source, predictions):
    (predictions / "depth" / "street_01.png").unlink()
    (predictions / "depth" / "street_03.png").write_bytes(b"")
    done = run("evaluate", source, predictions, "--json")
    assert done.status == 1
    assert list(done.json["failed"]) == ["street_01", "street_03"]
    assert done.json["mean"]["frames"] == 1


def test_predictions_of_another_size_are_listed(run, source, predictions):
    write_depth_png(predictions / "depth" / "street_01.png", np.ones((5, 5), np.float32))
    done = run("evaluate", source, predictions)
    assert done.status == 1
    assert "failed: street_01: ground truth: found 96x64, expected the size" in done.err


def test_frames_without_ground_truth_are_counted(run, source, predictions):
    (source / "street_02_gt.png").unlink()
    done = run("evaluate", source, predictions)
    assert done.status == 0
    assert "1 without ground truth left out" in done.out


def test_groups_are_averaged_by_prefix(run, source):
    for part in ("image", "sparse", "gt"):
        (source / f"street_03_{part}.png").rename(source / f"yard_03_{part}.png")
    (source / "street_03_calib.json").rename(source / "yard_03_calib.json")
    done = run("evaluate", source, "--json")
    groups = done.json["groups"]
    assert {name: group["frames"] for name, group in groups.items()} == {"street": 2, "yard": 1}


@pytest.mark.parametrize("kind", ["stripes", "points", "patches"])
def test_a_source_without_ground_truth_is_scored_on_its_own_measurements(run, source, kind):
    for path in source.glob("*_gt.png"):
        path.unlink()
    done = run("evaluate", source, "--hold-out", kind, "--json", "--baselines")
    assert done.status == 0
    assert done.json["hold_out"] == kind
    assert 0 < done.json["mean"]["pixels"] < 3 * 8 * 96
    assert set(done.json["mean"]["baselines"]) >= {"ip_basic", "nearest"}
    again = run("evaluate", source, "--hold-out", kind, "--json").json
    assert again["frames"][0]["rmse_mm"] == done.json["frames"][0]["rmse_mm"]


def test_ground_truth_alone_is_completed_from_points_of_it(run, source):
    for path in source.glob("*_sparse.png"):
        path.unlink()
    done = run("evaluate", source, "--hold-out", "points", "--json")
    assert done.status == 0
    assert done.json["frames"][0]["pixels"] == 64 * 96 - 500
    message = run("evaluate", source).refused()
    assert "--hold-out points" in message


def test_baselines_stand_beside_the_completion(run, source):
    done = run("evaluate", source, "--baselines")
    assert "other methods on the same pixels" in done.out
    assert "\nip_basic " in done.out
    assert "\nnearest " in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["{source}"], "found neither depth/*.png nor *.png"),
        (["{predictions}", "--hold-out", "points"], "completes by itself"),
        (["--count", "10"], "--count without --hold-out points"),
        (["--hold-out", "points", "--count", "0"], "expected a whole number from 1 on"),
        (["--hold-out", "rows"], "invalid choice: 'rows'"),
        (["--hold-out", "points", "--count", "100000"], "all 3 frames failed"),
    ],
)
def test_bad_usage_is_one_line(run, source, predictions, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    places = {"source": tmp_path, "predictions": predictions}
    assert words in run("evaluate", source, *(a.format(**places) for a in arguments)).refused()


def test_a_source_without_any_truth_points_to_held_out_measurements(run, source):
    for path in source.glob("*_gt.png"):
        path.unlink()
    assert "--hold-out stripes scores on" in run("evaluate", source).refused()


def test_tables_align():
    table = format_table(("name", "mm"), [("a", "1.0"), ("long", "100.0")])
    assert table == "name     mm\na       1.0\nlong  100.0"


@pytest.mark.dataset
@pytest.mark.slow
def test_the_yardsticks_read_as_published_for_the_validation_drive(run, kitti):
    """Baselines of the data's README: IP-Basic 660 / 186 / 2.60 / 1.10, nearest 1264 / 287."""
    done = run("evaluate", kitti / "validation", "--baselines", "--json")
    baselines = done.json["mean"]["baselines"]
    found = [baselines["ip_basic"][key] for key in ("rmse_mm", "mae_mm")]
    assert found == pytest.approx([660, 186], abs=1)
    found = [baselines["ip_basic"][key] for key in ("irmse_per_km", "imae_per_km")]
    assert found == pytest.approx([2.60, 1.10], abs=0.01)
    assert baselines["nearest"]["mae_mm"] == pytest.approx(287, abs=1)
    assert done.json["mean"]["frames"] == 14


def test_indoor_files_are_scored_with_the_indoor_metrics(run, tmp_path):
    h5py = pytest.importorskip("h5py", reason="no h5py: the extra 'nyuv2' is not installed")
    random = np.random.default_rng(0)
    rows = np.linspace(1, 6, 480, dtype=np.float32)
    with h5py.File(tmp_path / "00001.h5", "w") as file:
        file["rgb"] = random.integers(0, 256, (3, 480, 640), np.uint8)
        file["depth"] = np.repeat(rows[:, None], 640, axis=1)
    done = run("evaluate", tmp_path, "--json")
    assert done.status == 0
    nyu = done.json["mean"]["nyu"]
    assert 0 < nyu["rmse_m"] < 0.3
    assert nyu["delta_1_25"] > 0.9
    assert "NYUv2\n" in run("evaluate", tmp_path).out


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3"])
def test_a_damaged_bag_is_one_line(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89MCAP0\r\nbroken")
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert str(tmp_path) in run("evaluate", tmp_path, "--hold-out", "points").refused()
