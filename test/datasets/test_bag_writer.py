from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from depth_completion_ros.data import Frame
from depth_completion_ros.datasets.bag_writer import BagNames, write_bag
from depth_completion_ros.datasets.base import Dataset
from depth_completion_ros.datasets.opening import open_source
from depth_completion_ros.errors import InputError

MakeDrive = Callable[..., Path]
FullDisk = Callable[[int], AbstractContextManager[None]]


def _same(first: Frame, second: Frame) -> None:
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.points, second.points)
    assert first.point_times is not None
    assert second.point_times is not None
    # `time` is float32, which is 4 ns at half a revolution.
    np.testing.assert_allclose(first.point_times, second.point_times, atol=4e-9)
    assert first.T_camera_lidar is not None
    np.testing.assert_allclose(first.T_camera_lidar, second.T_camera_lidar, atol=1e-7)
    assert first.camera == second.camera
    assert (first.stamp, first.points_stamp) == (second.stamp, second.points_stamp)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bag_gives_back_the_frames_it_was_written_from(
    make_drive: MakeDrive, tmp_path: Path, storage: str, compressed: bool
) -> None:
    drive = open_source(make_drive())
    path = tmp_path / "bag"
    assert write_bag(drive, path, storage=storage, compressed=compressed) == 3
    suffix = "mcap" if storage == "mcap" else "db3"
    assert sorted(p.name for p in path.iterdir()) == [f"bag.{suffix}", "metadata.yaml"]
    with open_source(path) as bag:
        assert bag.kind == "rosbag2"
        assert list(bag.names) == ["0000000000", "0000000001", "0000000002"]
        assert bag.lidar_frame == "velo_link"
        np.testing.assert_array_equal(bag.times, drive.times)
        # In any order: each frame is found by itself.
        for index in (2, 0, 1):
            _same(drive[index], bag[index])


@pytest.mark.dataset
def test_the_shipped_drive_survives_a_bag(kitti: Path, tmp_path: Path) -> None:
    drive = open_source(kitti / "drive_0009")
    write_bag(_Part(drive, 3), tmp_path / "bag")
    with open_source(tmp_path / "bag") as bag:
        for index in range(3):
            _same(drive[index], bag[index])


class _Part(Dataset):
    """The first frames of another source."""

    def __init__(self, whole: Dataset, count: int) -> None:
        super().__init__(whole.path, whole.names[:count])
        self._whole = whole
        self.lidar_frame = whole.lidar_frame

    def _read_frame(self, index: int) -> Frame:
        return self._whole[index]


def test_topics_and_frames_can_be_chosen(make_drive: MakeDrive, tmp_path: Path) -> None:
    names = BagNames("/cam/image_rect", "/cam/camera_info", "/ouster/points", "cam", "os_lidar")
    write_bag(open_source(make_drive()), tmp_path / "bag", names=names)
    with open_source(tmp_path / "bag") as bag:
        assert bag.lidar_frame == "os_lidar"
        assert bag[0].camera.frame_id == "cam"


def test_tf_static_is_kept_for_those_who_come_late(make_drive: MakeDrive, tmp_path: Path) -> None:
    from rosbags.interfaces import QosDurability
    from rosbags.rosbag2 import Reader

    write_bag(open_source(make_drive()), tmp_path / "bag")
    with Reader(tmp_path / "bag") as reader:
        (connection,) = (c for c in reader.connections if c.topic == "/tf_static")
        assert connection.ext.offered_qos_profiles[0].durability is QosDurability.TRANSIENT_LOCAL
        assert connection.msgcount == 1


def test_an_interrupted_bag_leaves_nothing(make_drive: MakeDrive, tmp_path: Path) -> None:
    def interrupt(index: int, error: Exception | None) -> None:
        if index == 1:
            raise KeyboardInterrupt

    drive = open_source(make_drive())
    with pytest.raises(KeyboardInterrupt):
        write_bag(drive, tmp_path / "new" / "bag", on_frame=interrupt)
    assert list((tmp_path / "new").iterdir()) == []


def test_an_existing_folder_is_not_touched(make_drive: MakeDrive, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "mine").write_text("")
    with pytest.raises(InputError, match="bag: exists already"):
        write_bag(open_source(make_drive()), tmp_path / "bag")
    assert [p.name for p in (tmp_path / "bag").iterdir()] == ["mine"]


def test_an_unwritable_place_is_reported(make_drive: MakeDrive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_bag(open_source(make_drive()), tmp_path / "file" / "bag")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_leaves_nothing(
    make_drive: MakeDrive, tmp_path: Path, full_disk: FullDisk, storage: str
) -> None:
    drive = open_source(make_drive())
    with full_disk(3000), pytest.raises(InputError, match="bag: cannot be written") as caught:
        write_bag(drive, tmp_path / "new" / "bag", storage=storage)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_bad_frame_is_left_out_and_told(make_drive: MakeDrive, tmp_path: Path) -> None:
    path = make_drive()
    (path / "velodyne_points" / "data" / "0000000001.bin").write_bytes(b"123")
    drive = open_source(path)
    told: list[tuple[int, str]] = []
    count = write_bag(drive, tmp_path / "bag", on_frame=lambda i, e: told.append((i, str(e))))
    assert count == 2
    assert [index for index, _ in told] == [0, 1, 2]
    assert "0000000001.bin: found 3 bytes" in told[1][1]
    with pytest.raises(InputError, match=r"0000000001\.bin"):
        write_bag(drive, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_sparse_depth_alone_makes_no_bag(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frame a has no points, only sparse depth"):
        write_bag(open_source(make_folder("a")), tmp_path / "bag")
    assert not (tmp_path / "bag").exists()


def test_an_unknown_storage_is_refused(make_drive: MakeDrive, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 'rosbag1', expected one of mcap, sqlite3"):
        write_bag(open_source(make_drive()), tmp_path / "bag", storage="rosbag1")


def test_writing_warns_about_nothing(make_drive: MakeDrive, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_bag(open_source(make_drive()), tmp_path / "bag")


def test_without_rosbags_bags_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="rosbags is not installed; run pip install"):
        write_bag(None, tmp_path / "bag")
