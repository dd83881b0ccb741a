from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.datasets.folder import FrameFolder
from depth_completion_ros.errors import CalibrationError, InputError

MakeFolder = Callable[..., Path]


def test_a_frame_holds_what_lies_beside_its_image(make_folder: MakeFolder) -> None:
    folder = FrameFolder(make_folder("b_2", "a_1"))
    assert list(folder.names) == ["a_1", "b_2"]
    frame = folder[0]
    assert frame.name == "a_1"
    assert frame.image[0, 0].tolist() == [200, 50, 0]
    assert frame.sparse_depth is not None
    assert frame.sparse_depth[2, 3] == 5
    assert np.count_nonzero(frame.sparse_depth) == 1
    assert frame.T_camera_lidar is not None
    truth = folder.ground_truth(0)
    assert truth is not None
    assert truth[2, 3] == 6


def test_points_are_read_from_bin_and_npy(make_folder: MakeFolder) -> None:
    path = make_folder("a", "b", endings=("calib",))
    np.array([[5, 0, 0, 0.5]], "<f4").tofile(path / "a_points.bin")
    np.save(path / "b_points.npy", np.array([[5.0, 1.0, 0.0]]))
    folder = FrameFolder(path)
    assert folder.has_measurements
    assert not folder.has_ground_truth
    first, second = folder[0].points, folder[1].points
    assert first is not None
    assert second is not None
    assert first.tolist() == [[5, 0, 0, 0.5]]
    assert second.tolist() == [[5, 1, 0]]
    assert second.dtype == np.float32
    assert folder.ground_truth(0) is None


def test_one_calib_json_serves_all_frames(make_folder: MakeFolder) -> None:
    path = make_folder("a", "b")
    (path / "a_calib.json").rename(path / "calib.json")
    (path / "b_calib.json").unlink()
    assert [frame.camera.K[0, 0] for frame in FrameFolder(path)] == [10, 10]


def test_ground_truth_alone_is_readable_and_says_so(make_folder: MakeFolder) -> None:
    folder = FrameFolder(make_folder("a", endings=("gt", "calib")))
    assert not folder.has_measurements
    assert folder.has_ground_truth
    sparse = folder[0].sparse_depth
    assert sparse is not None
    assert not sparse.any()


def test_a_frame_without_measurements_among_others_fails_alone(make_folder: MakeFolder) -> None:
    path = make_folder("a", "b")
    (path / "a_sparse.png").unlink()
    folder = FrameFolder(path)
    with pytest.raises(InputError, match=r"a_image\.png: found nothing measured beside it"):
        folder[0]
    assert folder[1].name == "b"


def test_a_missing_calibration_is_named(make_folder: MakeFolder) -> None:
    folder = FrameFolder(make_folder("a", endings=("sparse",)))
    with pytest.raises(InputError, match=r"a_calib\.json: not found, and no calib\.json either"):
        folder[0]


def test_points_without_extrinsics_are_refused(make_folder: MakeFolder) -> None:
    path = make_folder("a", endings=("calib",))
    np.zeros((1, 4), "<f4").tofile(path / "a_points.bin")
    tree = json.loads((path / "a_calib.json").read_text())
    tree["T_camera_lidar"] = None
    (path / "a_calib.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"a_calib\.json: found no T_camera_lidar"):
        FrameFolder(path)[0]


def test_uncalibrated_intrinsics_are_refused(make_folder: MakeFolder) -> None:
    path = make_folder("a")
    tree = json.loads((path / "a_calib.json").read_text())
    tree["K"] = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    (path / "a_calib.json").write_text(json.dumps(tree))
    with pytest.raises(CalibrationError, match=r"a_calib\.json: K: found focal lengths 0 and 0"):
        FrameFolder(path)[0]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a_points.bin", b"123", "found 3 bytes, expected a multiple of 16"),
        ("a_points.npy", b"123", "found no whole npy file"),
        ("a_points.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', ", "found no whole npy file"),
        ("a_points.npy", None, r"found \(4, 5\) float64, expected"),
    ],
)
def test_damaged_scans_are_refused_with_their_path(
    make_folder: MakeFolder, name: str, data: bytes | None, message: str
) -> None:
    path = make_folder("a", endings=("calib",)) / name
    if data is None:
        np.save(path, np.zeros((4, 5)))
    else:
        path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        FrameFolder(path.parent)[0]


def test_a_sparse_map_of_another_size_is_refused_with_the_path(make_folder: MakeFolder) -> None:
    import cv2

    path = make_folder("a")
    cv2.imwrite(str(path / "a_sparse.png"), np.zeros((5, 8), np.uint16))
    with pytest.raises(InputError, match=r"frames: frame a: sparse_depth: found \(5, 8\)"):
        FrameFolder(path)[0]


def test_images_alone_are_no_source(make_folder: MakeFolder) -> None:
    with pytest.raises(InputError, match=r"found 1 images, but no NAME_sparse\.png"):
        FrameFolder(make_folder("a", endings=("calib",)))


@pytest.mark.dataset
@pytest.mark.parametrize(("name", "count"), [("completion", 79), ("validation", 14)])
def test_the_shipped_sets_are_read(kitti: Path, name: str, count: int) -> None:
    folder = FrameFolder(kitti / name)
    assert len(folder) == count
    assert folder.has_ground_truth
    frame = folder[0]
    assert frame.sparse_depth is not None
    assert 10_000 < np.count_nonzero(frame.sparse_depth) < 25_000


@pytest.mark.dataset
def test_the_shipped_scenes_need_held_out_points(scenes: Path) -> None:
    folder = FrameFolder(scenes)
    assert not folder.has_measurements
    assert folder[0].T_camera_lidar is None
