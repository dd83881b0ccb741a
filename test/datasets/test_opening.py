from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from depth_completion_ros.datasets.opening import open_source
from depth_completion_ros.errors import CalibrationError, InputError

MakeDrive = Callable[..., Path]
MakeFolder = Callable[..., Path]


def test_a_drive_is_opened_from_each_level(make_drive: MakeDrive) -> None:
    drive = make_drive()
    for path in (drive, drive.parent, drive.parent.parent):
        source = open_source(path)
        assert source.kind == "kitti_raw"
        assert list(source.names) == ["0000000000", "0000000001", "0000000002"]


def test_several_drives_are_opened_together(make_drive: MakeDrive) -> None:
    root = make_drive((0, 1)).parent.parent
    make_drive((0,), name="2011_09_28_drive_0002_sync")
    source = open_source(root)
    assert list(source.names) == [
        "2011_09_26_drive_0001_sync_0000000000",
        "2011_09_26_drive_0001_sync_0000000001",
        "2011_09_28_drive_0002_sync_0000000000",
    ]
    assert [frame.name for frame in source] == list(source.names)
    assert source.has_times
    assert source.T_world_lidar(0) is None


def test_the_camera_is_passed_on(make_drive: MakeDrive) -> None:
    frame = open_source(make_drive(), camera="image_03")[0]
    assert frame.camera.frame_id == "camera_color_right"


def test_another_calibration_may_be_given(make_drive: MakeDrive, tmp_path: Path) -> None:
    drive = make_drive()
    (drive.parent / "calib_cam_to_cam.txt").unlink()
    other = tmp_path / "calib.yaml"
    other.write_text(
        "camera: {K: [20, 0, 4, 0, 20, 3, 0, 0, 1]}\n"
        "T_camera_lidar: [0, -1, 0, 1, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, 0, 1]\n"
    )
    frame = open_source(drive, calibration=other)[0]
    assert frame.camera.K[0, 0] == 20
    assert frame.T_camera_lidar is not None
    assert frame.T_camera_lidar[0, 3] == 1


def test_a_folder_of_frames_is_opened(make_folder: MakeFolder) -> None:
    assert open_source(str(make_folder("a"))).kind == "folder"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such file or folder; expected a KITTI raw"):
        open_source(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "text.txt", "table.yaml", "image.png"])
def test_what_is_no_source_is_refused_with_what_was_looked_for(tmp_path: Path, name: str) -> None:
    if name:
        (tmp_path / name).write_text("a: 1\n")
    with pytest.raises(
        InputError, match="found no frames in it; looked for a KITTI raw"
    ) as caught:
        open_source(tmp_path / name)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / name))
    assert "\n" not in text
    for word in ("NAME_image.jpg", "rosbag2", "NYUv2", "synthetic", "benchmark"):
        assert word in text


def test_a_wrong_calibration_is_refused_at_once(make_drive: MakeDrive, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("T_camera_lidar: [1, 2]\n")
    with pytest.raises(CalibrationError, match=r"bad\.yaml: T_camera_lidar"):
        open_source(make_drive(), calibration=bad)


def test_importing_the_readers_loads_nothing_heavy() -> None:
    heavy = ("cv2", "rosbags", "h5py", "yaml", "torch", "scipy", "trimesh")
    code = (
        "import sys, depth_completion_ros.datasets as d; d.Dataset, d.open_source; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_three_lines_are_enough(make_folder: MakeFolder) -> None:
    import depth_completion_ros

    with depth_completion_ros.open_source(make_folder("a", "b")) as source:
        assert [frame.name for frame in source] == ["a", "b"]
