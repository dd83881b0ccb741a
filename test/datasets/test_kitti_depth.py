from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros.datasets.opening import open_source
from depth_completion_ros.errors import InputError

MakeDrive = Callable[..., Path]
DRIVE = "2011_09_26_drive_0001_sync"


def _depth(path: Path, metres: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.zeros((6, 8), np.uint16)
    depth[2, 3] = int(metres * 256)
    assert cv2.imwrite(str(path), depth)


@pytest.fixture
def root(tmp_path: Path, make_drive: MakeDrive) -> Path:
    """The official downloads side by side: raw, sparse maps and ground truth."""
    make_drive((0, 1, 2), root=tmp_path / "raw")
    for number in (1, 2):
        for camera in ("image_02", "image_03"):
            file = f"{camera}/{number:010d}.png"
            sparse = tmp_path / "data_depth_velodyne" / "train" / DRIVE / "proj_depth"
            truth = tmp_path / "data_depth_annotated" / "train" / DRIVE / "proj_depth"
            _depth(sparse / "velodyne_raw" / file, 5)
            _depth(truth / "groundtruth" / file, 6)
    return tmp_path


@pytest.mark.parametrize(
    "opened",
    [
        "",
        "data_depth_velodyne",
        "data_depth_velodyne/train",
        f"data_depth_velodyne/train/{DRIVE}",
        "data_depth_annotated",
    ],
)
def test_the_three_downloads_find_each_other(root: Path, opened: str) -> None:
    dataset = open_source(root / opened)
    assert dataset.kind == "kitti_depth"
    assert list(dataset.names) == ["0000000001", "0000000002"]
    frame = dataset[1]
    assert frame.sparse_depth is not None
    assert frame.sparse_depth[2, 3] == 5
    assert frame.image[0, 0].tolist() == [200, 50, 2]
    assert frame.T_camera_lidar is not None
    assert frame.T_camera_lidar[0, 3] == pytest.approx(0.06)
    truth = dataset.ground_truth(1)
    assert truth is not None
    assert truth[2, 3] == 6


def test_everything_may_lie_in_one_tree(root: Path) -> None:
    drive = root / "all" / "train" / DRIVE
    for name in ("data_depth_velodyne", "data_depth_annotated"):
        shutil.copytree(root / name / "train" / DRIVE, drive, dirs_exist_ok=True)
    shutil.copytree(root / "raw" / DRIVE[:10] / DRIVE / "image_02", drive / "image_02")
    for file in (root / "raw" / DRIVE[:10]).glob("*.txt"):
        shutil.copy(file, drive.parent)
    for name in ("raw", "data_depth_velodyne", "data_depth_annotated"):
        shutil.rmtree(root / name)
    dataset = open_source(root / "all")
    assert dataset.kind == "kitti_depth"
    assert len([frame for frame in dataset]) == 2


def test_a_raw_drive_with_the_maps_unpacked_into_it_stays_a_raw_drive(root: Path) -> None:
    raw = root / "raw" / DRIVE[:10] / DRIVE
    shutil.copytree(root / "data_depth_annotated" / "train" / DRIVE, raw, dirs_exist_ok=True)
    dataset = open_source(raw)
    assert dataset.kind == "kitti_raw"
    assert dataset.ground_truth(0) is None
    truth = dataset.ground_truth(1)
    assert truth is not None
    assert truth[2, 3] == 6


def test_the_other_camera_has_its_own_maps_and_place(root: Path) -> None:
    frame = open_source(root, camera="image_03")[0]
    assert frame.T_camera_lidar is not None
    assert frame.T_camera_lidar[0, 3] == pytest.approx(-0.48)
    with pytest.raises(InputError, match="no proj_depth/velodyne_raw/image_00"):
        open_source(root, camera="image_00")


def test_drives_of_both_splits_are_joined(root: Path, make_drive: MakeDrive) -> None:
    other = "2011_09_26_drive_0002_sync"
    make_drive((0,), name=other, root=root / "raw")
    below = Path(other) / "proj_depth" / "velodyne_raw" / "image_02" / "0000000000.png"
    _depth(root / "data_depth_velodyne" / "val" / below, 7)
    dataset = open_source(root)
    assert list(dataset.names) == [
        f"{DRIVE}_0000000001",
        f"{DRIVE}_0000000002",
        f"{other}_0000000000",
    ]
    assert dataset[2].name == f"{other}_0000000000"
    assert dataset.has_ground_truth
    assert dataset.ground_truth(2) is None


def test_missing_raw_images_are_reported_with_where_they_belong(root: Path) -> None:
    shutil.rmtree(root / "raw")
    expected = f"expected 2011_09_26/{DRIVE}/image_02/data"
    with pytest.raises(InputError, match=expected):
        open_source(root)


def test_a_missing_date_calibration_is_named(root: Path) -> None:
    (root / "raw" / "2011_09_26" / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(InputError, match=r"no 2011_09_26/calib_cam_to_cam\.txt"):
        open_source(root)


INTRINSICS = "10 0 3.5 0 10 2.5 0 0 1\n"


def _selection(folder: Path, image: str, sparse: str, truth: str | None) -> Path:
    _depth(folder / "velodyne_raw" / f"{sparse}.png", 5)
    if truth:
        _depth(folder / "groundtruth_depth" / f"{truth}.png", 6)
    for kind in ("image", "intrinsics"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / "image" / f"{image}.png"), np.zeros((6, 8, 3), np.uint8))
    (folder / "intrinsics" / f"{image}.txt").write_text(INTRINSICS)
    return folder


def test_the_validation_selection_names_the_kind_within_the_name(tmp_path: Path) -> None:
    start, end = f"{DRIVE[:-5]}_sync", "0000000005_image_02"
    folder = _selection(
        tmp_path / "val_selection_cropped",
        f"{start}_image_{end}",
        f"{start}_velodyne_raw_{end}",
        f"{start}_groundtruth_depth_{end}",
    )
    dataset = open_source(folder)
    assert dataset.kind == "kitti_depth"
    frame = dataset[0]
    assert frame.name == f"{start}_image_{end}"
    # The crop moved the principal point: each image has its own.
    assert frame.camera.K.tolist() == [[10, 0, 3.5], [0, 10, 2.5], [0, 0, 1]]
    assert frame.sparse_depth is not None
    assert frame.sparse_depth[2, 3] == 5
    assert frame.T_camera_lidar is None
    truth = dataset.ground_truth(0)
    assert truth is not None
    assert truth[2, 3] == 6


def test_the_anonymous_test_set_has_no_ground_truth(tmp_path: Path) -> None:
    folder = _selection(tmp_path / "test", "0000000000", "0000000000", None)
    dataset = open_source(folder)
    assert not dataset.has_ground_truth
    assert dataset.ground_truth(0) is None
    assert dataset[0].name == "0000000000"


def test_of_two_selections_one_has_to_be_chosen(tmp_path: Path) -> None:
    for name in ("val_selection_cropped", "test_depth_completion_anonymous"):
        _selection(tmp_path / name, "0000000000", "0000000000", None)
    with pytest.raises(
        InputError, match="found test_depth_completion_anonymous and val_selection"
    ):
        open_source(tmp_path)


def test_a_missing_sparse_map_fails_its_frame_alone(tmp_path: Path) -> None:
    folder = _selection(tmp_path, "0000000000", "0000000000", None)
    _selection(tmp_path, "0000000001", "0000000001", None)
    (folder / "velodyne_raw" / "0000000000.png").unlink()
    dataset = open_source(folder)
    with pytest.raises(InputError, match=r"velodyne_raw/0000000000\.png: cannot be read"):
        dataset[0]
    assert dataset[1].name == "0000000001"
