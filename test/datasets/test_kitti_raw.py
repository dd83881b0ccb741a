from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros.data import Float64Array, Frame
from depth_completion_ros.datasets.depth_png import write_depth_png
from depth_completion_ros.datasets.kitti_layout import find_drives, read_stamps
from depth_completion_ros.datasets.kitti_raw import KittiRawDrive, point_times_from_azimuth
from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.geometry import projection
from depth_completion_ros.geometry.motion import move_points

MakeDrive = Callable[..., Path]
SECOND = 1_000_000_000
# 2011-09-26 13:02:00 as seconds since 1970, the clock taken for UTC.
START = 1317042120 * SECOND


def test_a_frame_holds_image_points_and_stamps(make_drive: MakeDrive) -> None:
    frame = KittiRawDrive(make_drive())[1]
    assert frame.name == "0000000001"
    assert frame.image[0, 0].tolist() == [200, 50, 1]
    assert frame.points is not None
    assert frame.points[1].tolist() == pytest.approx([4, 1, 0, 0.2])
    assert frame.stamp == START + 110_000_000
    assert frame.points_stamp == START + 150_000_000
    assert frame.camera.frame_id == "camera_color_left"
    assert frame.camera.K.tolist() == [[10, 0, 4], [0, 10, 3], [0, 0, 1]]


def test_point_times_follow_the_clockwise_beam(make_drive: MakeDrive) -> None:
    drive = KittiRawDrive(make_drive())
    assert drive.revolution(0) == pytest.approx(0.1)
    times = drive[0].point_times
    assert times is not None
    quarter = np.degrees(np.arctan2(1, 4)) / 360 * 0.1
    # Straight ahead now, the left before, the right after, behind half a turn away.
    assert times.tolist() == pytest.approx([0, -quarter, quarter, -0.05])


def test_points_without_direction_get_time_zero() -> None:
    points = np.array([[np.nan, 1, 0], [0, 0, 1], [0, -2, 0]], np.float32)
    assert point_times_from_azimuth(points, 0.1).tolist() == pytest.approx([0, 0, 0.025])


def test_stamps_keep_their_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "timestamps.txt"
    path.write_text("2011-09-26 13:02:25.967930881\n2011-09-26 13:02:26\n2011-09-26 13:02:27.5\n")
    files = {f"{i:010d}": path for i in range(3)}
    assert list(read_stamps(path, files).values()) == [
        START + 25_967_930_881,
        START + 26 * SECOND,
        START + 27_500_000_000,
    ]


def test_lines_count_by_file_number_where_a_scan_is_missing_but_its_line_is_not(
    make_drive: MakeDrive,
) -> None:
    path = make_drive((0, 1, 2, 3))
    (path / "velodyne_points" / "data" / "0000000001.bin").unlink()
    drive = KittiRawDrive(path)
    assert list(drive.names) == ["0000000000", "0000000002", "0000000003"]
    assert dict(drive.skipped) == {"0000000001": "no scan of this number"}
    assert drive[1].points_stamp == START + 250_000_000
    assert drive[1].stamp == START + 210_000_000


def test_lines_count_by_order_where_the_line_of_a_missing_scan_is_missing_too(
    make_drive: MakeDrive,
) -> None:
    path = make_drive((0, 1, 2, 3))
    (path / "velodyne_points" / "data" / "0000000001.bin").unlink()
    for stamps in (path / "velodyne_points").glob("timestamps*.txt"):
        lines = stamps.read_text().splitlines(keepends=True)
        stamps.write_text("".join(lines[:1] + lines[2:]))
    drive = KittiRawDrive(path)
    assert drive[1].name == "0000000002"
    assert drive[1].points_stamp == START + 250_000_000


def test_a_drive_may_start_in_the_middle(make_drive: MakeDrive) -> None:
    drive = KittiRawDrive(make_drive((7, 8, 9)))
    assert list(drive.names) == ["0000000007", "0000000008", "0000000009"]
    assert drive[2].stamp == START + 210_000_000


def test_stamps_that_fit_no_way_are_refused(make_drive: MakeDrive) -> None:
    path = make_drive((0, 1, 2, 3))
    (path / "image_02" / "timestamps.txt").write_text("2011-09-26 13:02:25.5\n" * 2)
    with pytest.raises(InputError, match=r"timestamps\.txt: found 2 stamps for 4 files"):
        KittiRawDrive(path)


@pytest.mark.parametrize("line", ["1.5", "2011-13-26 13:02:25.5", "2011-09-26 13:02:25,5"])
def test_a_line_that_is_no_time_is_refused(make_drive: MakeDrive, line: str) -> None:
    path = make_drive()
    (path / "image_02" / "timestamps.txt").write_text(f"2011-09-26 13:02:25.5\n{line}\n{line}\n")
    with pytest.raises(InputError, match=rf"line 2: found '{line}', expected YYYY"):
        KittiRawDrive(path)


def test_without_timestamps_frames_come_at_ten_hertz(make_drive: MakeDrive) -> None:
    path = make_drive()
    for stamps in path.rglob("timestamps*.txt"):
        stamps.unlink()
    drive = KittiRawDrive(path)
    assert not drive.has_times
    assert [frame.stamp for frame in drive] == [SECOND, 1_100_000_000, 1_200_000_000]
    assert drive[2].points_stamp == 1_200_000_000
    assert drive.T_world_lidar(1) is not None


def test_jpeg_images_are_read_as_well(make_drive: MakeDrive) -> None:
    path = make_drive()
    for png in (path / "image_02" / "data").iterdir():
        cv2.imwrite(str(png.with_suffix(".jpg")), cv2.imread(str(png)))
        png.unlink()
    assert np.abs(KittiRawDrive(path)[0].image[0, 0].astype(int) - (200, 50, 0)).max() < 6


def test_grey_cameras_give_three_equal_channels(make_drive: MakeDrive) -> None:
    path = make_drive((0,))
    (path / "image_00" / "data").mkdir(parents=True)
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    cv2.imwrite(str(path / "image_00" / "data" / "0000000000.png"), grey)
    frame = KittiRawDrive(path, camera="image_00")[0]
    for channel in range(3):
        assert np.array_equal(frame.image[..., channel], grey)


def test_camera_3_has_its_own_place(make_drive: MakeDrive) -> None:
    path = make_drive()
    left = KittiRawDrive(path)[0].T_camera_lidar
    right = KittiRawDrive(path, camera="image_03")[0].T_camera_lidar
    assert left is not None
    assert right is not None
    assert left[:3, 3].tolist() == pytest.approx([0.06, 0, -0.25])
    assert right[:3, 3].tolist() == pytest.approx([-0.48, 0, -0.25])


def test_exact_depth_of_a_rendered_drive_is_its_ground_truth(make_drive: MakeDrive) -> None:
    path = make_drive()
    assert KittiRawDrive(path).ground_truth(0) is None
    depth = np.full((6, 8), 7.5, np.float32)
    write_depth_png(path / "depth_gt" / "image_02" / "0000000001.png", depth)
    drive = KittiRawDrive(path)
    assert drive.has_ground_truth
    assert drive.ground_truth(0) is None
    truth = drive.ground_truth(1)
    assert truth is not None
    assert np.all(truth == 7.5)


def test_poses_are_those_of_the_scanner_at_its_own_stamp(make_drive: MakeDrive) -> None:
    path = make_drive()
    first, second = (KittiRawDrive(path).T_world_lidar(i) for i in (0, 1))
    assert first is not None
    assert second is not None
    step = np.cos(np.radians(49)) * 6378137.0 * np.radians(1e-5)
    assert (second - first)[:3, 3].tolist() == pytest.approx([step, 0, 0])
    # The scanner stands where the inertial unit is not.
    assert first[:3, 3].tolist() == pytest.approx([0.8, -0.3, 0.8])
    # Half a step later than the records: the pose moves on with them.
    (path / "oxts" / "timestamps.txt").write_text(
        "2011-09-26 13:02:00.00\n2011-09-26 13:02:00.10\n2011-09-26 13:02:00.20\n"
    )
    later = KittiRawDrive(path).T_world_lidar(0)
    assert later is not None
    assert (later - first)[:3, 3].tolist() == pytest.approx([step / 2, 0, 0])


def test_a_drive_without_oxts_has_no_poses(make_drive: MakeDrive) -> None:
    path = make_drive()
    shutil.rmtree(path / "oxts")
    drive = KittiRawDrive(path)
    assert not drive.has_poses
    assert drive.T_world_lidar(0) is None


def test_one_bad_frame_leaves_the_others_alone(make_drive: MakeDrive) -> None:
    path = make_drive((0, 1, 2, 3))
    scan = path / "velodyne_points" / "data" / "0000000001.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    image = path / "image_02" / "data" / "0000000002.png"
    image.write_bytes(image.read_bytes()[:-30])
    drive = KittiRawDrive(path)
    assert drive[0].name == "0000000000"
    assert drive[3].name == "0000000003"
    with pytest.raises(InputError, match=r"0000000001\.bin: found 61 bytes, expected a multiple"):
        drive[1]
    with pytest.raises(InputError, match=r"0000000002\.png: found a truncated PNG"):
        drive[2]


def test_an_image_of_another_size_is_refused(make_drive: MakeDrive) -> None:
    path = make_drive()
    bad = path / "image_02" / "data" / "0000000001.png"
    cv2.imwrite(str(bad), np.zeros((5, 8, 3), np.uint8))
    drive = KittiRawDrive(path)
    with pytest.raises(CalibrationError, match="found the calibration of a 8x6 image"):
        drive[1]


def test_a_missing_calibration_file_is_named(make_drive: MakeDrive) -> None:
    path = make_drive()
    (path.parent / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(InputError, match=r"calib_velo_to_cam\.txt: cannot be read \(No such"):
        KittiRawDrive(path)


def test_a_missing_camera_is_reported_with_those_there_are(make_drive: MakeDrive) -> None:
    with pytest.raises(InputError, match=r"no image_01/data/\*\.png .*found image_02, image_03"):
        KittiRawDrive(make_drive(), camera="image_01")
    with pytest.raises(InputError, match="found 'left', expected one of image_00"):
        KittiRawDrive(make_drive(), camera="left")


def test_a_drive_without_scans_is_refused(make_drive: MakeDrive) -> None:
    path = make_drive()
    shutil.rmtree(path / "velodyne_points")
    with pytest.raises(InputError, match=r"no velodyne_points/data/\*\.bin"):
        KittiRawDrive(path)


def test_drives_are_found_from_each_level(make_drive: MakeDrive, tmp_path: Path) -> None:
    first = make_drive()
    second = make_drive(name="2011_09_28_drive_0002_sync")
    assert find_drives(first) == [first]
    assert find_drives(first.parent) == [first]
    assert find_drives(tmp_path) == [first, second]


def _rendered(frame: Frame, points: Float64Array) -> Float64Array:
    """Project like `project_points`, but keep the depth in float64."""
    assert frame.T_camera_lidar is not None
    u, v, z = projection._pixels(points, frame.camera, frame.T_camera_lidar)
    keep = (z > 0) & (u >= 0) & (u < frame.camera.width) & (v >= 0) & (v < frame.camera.height)
    depth = np.full((frame.camera.height, frame.camera.width), np.inf)
    np.minimum.at(depth, (v[keep].astype(int), u[keep].astype(int)), z[keep])
    depth[np.isinf(depth)] = 0
    return depth


@pytest.mark.dataset
@pytest.mark.parametrize("index", [5, 11, 23])
def test_moved_scans_equal_the_shipped_sparse_maps(kitti: Path, index: int) -> None:
    drive = KittiRawDrive(kitti / "drive_0009" / "2011_09_26" / "2011_09_26_drive_0009_sync")
    motion = json.loads((kitti / "drive_0009" / "poses_icp.json").read_text())["motion"][index]
    frame = drive[index]
    assert frame.points is not None
    assert frame.point_times is not None
    shipped = kitti / "completion" / f"raw0009_{frame.name}_sparse.png"
    expected = cv2.imread(str(shipped), cv2.IMREAD_UNCHANGED)
    # The shipped maps were computed in float64 from the scan to the rounding.
    moved = move_points(
        frame.points.astype(np.float64),  # type: ignore[arg-type]
        frame.point_times,
        np.array(motion),
        drive.revolution(index),
    )
    assert np.array_equal(np.rint(_rendered(frame, moved) * 256).astype(np.uint16), expected)
    # In float32 a few depths fall on the other side of half a step, none elsewhere.
    depth = projection.project_points(
        moved.astype(np.float64), frame.camera, frame.T_camera_lidar, min_depth=0.1
    )
    difference = np.rint(depth.astype(np.float64) * 256) - expected
    assert np.array_equal(depth > 0, expected > 0)
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= 7


@pytest.mark.dataset
def test_the_shipped_drive_is_read_whole(kitti: Path) -> None:
    drive = KittiRawDrive(kitti / "drive_0009" / "2011_09_26" / "2011_09_26_drive_0009_sync")
    assert len(drive) == 30
    assert drive.has_poses
    assert not drive.skipped
    frame = drive[0]
    assert frame.image.shape == (375, 1242, 3)
    assert frame.stamp == 1317042504_967930880
    assert frame.points_stamp == 1317042504_957314930
    assert np.all(np.diff(drive.times) > 100_000_000)


@pytest.mark.dataset
def test_oxts_agrees_with_registered_scans(kitti: Path) -> None:
    drive = KittiRawDrive(kitti / "drive_0009" / "2011_09_26" / "2011_09_26_drive_0009_sync")
    steps = json.loads((kitti / "drive_0009" / "poses_icp.json").read_text())["next_in_this"]
    errors = []
    for i, step in enumerate(steps[: len(drive) - 1]):
        here, there = drive.T_world_lidar(i), drive.T_world_lidar(i + 1)
        assert here is not None
        assert there is not None
        between = np.linalg.inv(here) @ there
        errors.append(np.linalg.norm(between[:3, 3] - np.array(step)[:3, 3]))
    # Steps are 1.1 m long; read at the wrong stamps they would differ by 0.1 m.
    assert np.median(errors) < 0.03
    assert np.max(errors) < 0.08
