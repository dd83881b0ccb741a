"""The benchmark's own layout, as it comes from the download, is trained on by one command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from depth_completion_ros.cli.main import main
from depth_completion_ros.networks.checkpoint import open_network

DRIVE = "2011_09_26_drive_0001_sync"
CROP_WIDTH, CROP_HEIGHT = 1216, 352


def write_depth(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (depth * 256).astype(np.uint16))


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def ground(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Dense ground, and the rows of it that are measured."""
    rows = np.arange(height)[:, None] * np.ones((1, width))
    depth = np.where(rows > 190, 1200 / np.maximum(rows - 175, 1), 0)
    return depth, np.where(rows % 6 == 0, depth, 0)


def write_benchmark(root: Path) -> None:
    """Two frames of both cameras of one drive, and the selection, as the archives unpack."""
    raw = root / "2011_09_26"
    calibration = "calib_time: 01-Jan-2012 00:00:00\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
    for camera, offset in (("02", 44.8), ("03", -339.5)):
        calibration += f"S_rect_{camera}: 1242 375\n"
        calibration += f"P_rect_{camera}: 721.5 0 609.6 {offset} 0 721.5 172.9 0.2 0 0 1 0.003\n"
    raw.mkdir(parents=True)
    (raw / "calib_cam_to_cam.txt").write_text(calibration)
    (raw / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n")
    truth, sparse = ground(1242, 375)
    for camera in ("image_02", "image_03"):
        for number in ("0000000005", "0000000006"):
            write_image(raw / DRIVE / camera / "data" / f"{number}.png", 1242, 375)
            maps = root / "train" / DRIVE / "proj_depth"
            write_depth(maps / "groundtruth" / camera / f"{number}.png", truth)
            write_depth(maps / "velodyne_raw" / camera / f"{number}.png", sparse)
    truth, sparse = ground(CROP_WIDTH, CROP_HEIGHT)
    selection = root / "depth_selection" / "val_selection_cropped"
    stem = f"{DRIVE.replace('0001', '0002')}_%s_0000000008_image_02"
    image = stem % "image"
    write_image(selection / "image" / f"{image}.png", CROP_WIDTH, CROP_HEIGHT)
    (selection / "intrinsics").mkdir()
    (selection / "intrinsics" / f"{image}.txt").write_text("721.5 0 596.6 0 721.5 149.9 0 0 1\n")
    write_depth(selection / "groundtruth_depth" / f"{stem % 'groundtruth_depth'}.png", truth)
    write_depth(selection / "velodyne_raw" / f"{stem % 'velodyne_raw'}.png", sparse)


def test_the_published_recipe_trains_on_a_miniature_of_the_download(tmp_path, capsys):
    write_benchmark(tmp_path / "kitti")
    # The recipe as it is, but a network, a crop and a time that suit a test.
    small = [
        "network.settings.width=0.03125",
        "augmentation.crop=[32, 64]",
        "stages.0.epochs=0.5",
        "run.workers=0",
        "run.device=cpu",
        "run.batch=2",
    ]
    changes = [word for change in small for word in ("--set", change)]
    out = tmp_path / "out"
    command = ["train", "redc", "--data", str(tmp_path / "kitti"), "--out", str(out), *changes]
    assert main([*command, "--check", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["frames"] == {"left": 2, "right": 2}
    assert plan["steps"] == 1
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["selection"]["val_selection_cropped"]["frames"] == 1
    network, _ = open_network(Path(report["model"]))
    assert network.settings.geometry == "camera"
