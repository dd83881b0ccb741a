from __future__ import annotations

import json

import cv2
import numpy as np
import pytest


def test_measurements_are_drawn_over_the_image(run, source, tmp_path):
    out = tmp_path / "overlay.png"
    done = run("overlay", source, out, "--projection.occlusion_filter.enabled", "false")
    assert done.status == 0
    assert "frame street_01, 768 measured pixels in the image (12.5 % of the pixels)" in done.out
    picture = cv2.imread(str(out))
    assert picture.shape[1] == 96
    assert picture.shape[0] > 64
    # Measured rows are coloured, the rows between them keep the grey of the image.
    assert np.ptp(picture[60].astype(int), axis=1).min() > 50
    assert np.ptp(picture[8].astype(int), axis=1).max() == 0


@pytest.mark.parametrize("frame", ["street_02", "1", "-2"])
def test_a_frame_is_found_by_name_or_index(run, source, tmp_path, frame):
    done = run("overlay", source, tmp_path / "o.jpg", "--frame", frame, "--json")
    assert done.json["frame"] == "street_02"
    assert (tmp_path / "o.jpg").read_bytes().startswith(b"\xff\xd8")


def test_inverted_extrinsics_are_doubted(run, source, tmp_path):
    """A scan in the folder, and T_lidar_camera where T_camera_lidar belongs."""
    (source / "street_01_sparse.png").unlink()
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 20), np.linspace(-0.3, 0.3, 20))
    scan = np.zeros((400, 4), np.float32)
    scan[:, 0], scan[:, 1], scan[:, 2] = 10, -10 * u.ravel(), -10 * v.ravel()
    scan.tofile(source / "street_01_points.bin")
    done = run("overlay", source, tmp_path / "o.png", "--json")
    assert done.json["points"] == 400
    assert done.json["doubt"] is None
    path = source / "street_01_calib.json"
    calibration = json.loads(path.read_text())
    calibration["T_camera_lidar"] = np.linalg.inv(calibration["T_camera_lidar"]).tolist()
    path.write_text(json.dumps(calibration))
    done = run("overlay", source, tmp_path / "o.png")
    assert done.status == 0
    assert "did you mean the inverse?" in done.out

    right = "0 -1 0 0  0 0 -1 -0.1  1 0 0 -0.3  0 0 0 1"
    done = run("overlay", source, tmp_path / "o.png", "--calibration.T_camera_lidar", right)
    assert "doubt" not in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{source}", "o.png", "--calibration.T_camera_lidar", "1 2"], "found 2 numbers"),
        (["{source}", "o.png", "--calibration.T_camera_lidar", "2 " * 16], "expected 0 0 0 1"),
        (["{source}", "o.tiff"], "found suffix '.tiff', expected .png or .jpg"),
        (["{source}", "o.png", "--frame", "7"], "expected an index below 3"),
        (["{source}", "o.png", "--frame", "nix"], "a name such as street_01"),
        (["nowhere", "o.png"], "no such file or folder"),
        (["{source}", "{source}/street_01_gt.png/o.png"], "cannot be written"),
    ],
)
def test_bad_usage_is_one_line(run, source, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    message = run("overlay", *(argument.format(source=source) for argument in arguments)).refused()
    assert words in message
    assert not list(tmp_path.glob("o.*"))


@pytest.mark.dataset
def test_a_raw_drive_is_drawn(run, kitti, tmp_path):
    out = tmp_path / "overlay.png"
    done = run("overlay", kitti / "drive_0009", out, "--frame", "0000000011", "--json")
    assert done.status == 0
    assert done.json["doubt"] is None
    assert done.json["pixels"] > 15_000
    assert cv2.imread(str(out)).shape[1] == 1242
