"""Bags: rosbag2 (mcap, sqlite3) and, because kitti2bag makes them, ROS 1's `.bag`.

Images and clouds are matched by stamp, intrinsics come from camera_info, extrinsics from tf, both
also from a calibration file.
Not here: which topics are taken (`bag_topics.py`), writing bags (`bag_writer.py`).
"""

from __future__ import annotations

import bisect
import logging
import os
import struct
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Frame, PinholeCamera
from ..errors import CalibrationError, InputError
from ..messages.image import read_compressed_image, read_image
from ..messages.points import read_points
from ..messages.synchroniser import Pair, Synchroniser
from ..settings import SyncSettings
from .bag_storage import close_readers, open_reader, readable
from .bag_topics import TF_MESSAGE, choose_topics
from .base import Dataset
from .calibration import Calibration
from .transform_tree import TransformTree

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where a message lies in the bag: its topic, its time of recording and its stamp."""

    topic: str
    recorded: int
    stamp: int


class Rosbag(Dataset):
    """The matched images and clouds of a bag, named by their number."""

    kind = "rosbag2"
    has_times = True

    def __init__(
        self,
        path: Path,
        *,
        camera: str = "image_02",
        topics: Mapping[str, str] | None = None,
        calibration: Calibration | None = None,
        projection_model: str = "rectified",
        sync: SyncSettings | None = None,
    ) -> None:
        """Match the bag's stamps; images and clouds are decoded when asked for.

        Args:
            path: folder of a rosbag2, its only storage file, or a `.bag` file.
            camera: KITTI camera to take from bags that kitti2bag made.
            topics: topics by role (`image`, `camera_info`, `points`) instead of those found.
            calibration: used instead of what the bag holds; each half of it may be missing.
            projection_model: `rectified` or `raw`, how camera_info is read.
            sync: how images and clouds are matched; default: one frame per cloud.

        Raises:
            InputError: this is no whole bag, or nothing in it matches.
            CalibrationError: intrinsics or extrinsics are missing or cannot be true.
        """
        self.path = path
        self._projection_model = projection_model
        self._readers: dict[tuple[int, int], Any] = {}
        # A source that nobody closes is closed when nobody has it any more.
        self._finalizer = weakref.finalize(self, close_readers, self._readers)
        with readable(path):
            try:
                self._prepare(path, camera, topics, calibration, sync or SyncSettings())
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the bag; it opens again when another frame is asked for."""
        close_readers(self._readers)

    @property
    def _reader(self) -> Any:
        """The bag as this thread has opened it: SQLite wants one each, processes share no file."""
        key = (os.getpid(), threading.get_ident())
        if key not in self._readers:
            self._readers[key] = open_reader(self.path)
        return self._readers[key]

    def _prepare(
        self,
        path: Path,
        camera: str,
        topics: Mapping[str, str] | None,
        calibration: Calibration | None,
        sync: SyncSettings,
    ) -> None:
        types = {c.topic: c.msgtype for c in self._reader.connections if c.msgcount}
        self.topics = choose_topics(path, types, camera=camera, wanted=topics)
        self._pairs = self._match(sync)
        super().__init__(path, [f"{i:010d}" for i in range(len(self._pairs))])
        self.times = np.array([pair.image_stamp for pair in self._pairs], np.int64)
        image = self._read_message(self._pairs[0].image)
        points = self._read_message(self._pairs[0].points)
        self.lidar_frame = _frame_name(points)
        self._cameras = self._read_cameras(calibration)
        if not self._cameras and (calibration is None or calibration.K is None):
            msg = (
                f"{path}: found no camera_info for {self.topics.image}; give a calibration file "
                "with the camera's K, or choose a topic with topics, camera_info: ..."
            )
            raise CalibrationError(msg)
        self._calibration = calibration
        self.camera_frame = self._cameras[0][1].frame_id if self._cameras else _frame_name(image)
        tree = self._read_transforms()
        self._cameras = [(t, _without_shift(camera, tree)) for t, camera in self._cameras]
        if calibration is not None and calibration.T_camera_lidar is not None:
            self._T_camera_lidar = calibration.T_camera_lidar
        else:
            self._T_camera_lidar = tree.find(self.camera_frame, self.lidar_frame, path)

    def _match(self, sync: SyncSettings) -> list[Pair]:
        """Feed all stamps to the synchroniser, in the order of recording."""
        synchroniser = Synchroniser(sync)
        add = {
            self.topics.image: synchroniser.add_image,
            self.topics.points: synchroniser.add_points,
        }
        pairs: list[Pair] = []
        counts = dict.fromkeys(add, 0)
        for connection, recorded, data in self._messages(*add):
            stamp = self._stamp_of(data)
            counts[connection.topic] += 1
            pairs += add[connection.topic](stamp, _Place(connection.topic, recorded, stamp))
        pairs += synchroniser.flush()
        if not pairs:
            found = " and ".join(f"{n} of {topic}" for topic, n in counts.items())
            msg = (
                f"{self.path}: no image and cloud match (found {found}); expected stamps within "
                f"{sync.slop:g} s of each other"
            )
            raise InputError(msg)
        return sorted(pairs, key=lambda pair: pair.image.recorded)

    def _messages(self, *topics: str) -> Iterator[tuple[Any, int, bytes]]:
        reader = self._reader
        connections = [c for c in reader.connections if c.topic in topics]
        if connections:
            yield from reader.messages(connections=connections)

    def _stamp_of(self, data: bytes) -> int:
        """Read header.stamp without taking the message apart: it comes first in all of them."""
        if not self._reader.is2:
            seconds, nanoseconds = struct.unpack_from("<II", data, 4)
        else:
            order = "<" if data[1] & 1 else ">"
            seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def _read_message(self, place: _Place) -> Any:
        # A nanosecond early: rosbags leaves out an mcap chunk whose last message is at start.
        reader = self._reader
        messages = reader.messages(
            connections=[c for c in reader.connections if c.topic == place.topic],
            start=place.recorded - 1,
            stop=place.recorded + 1,
        )
        for connection, recorded, data in messages:
            if recorded == place.recorded and self._stamp_of(data) == place.stamp:
                return reader.deserialize(data, connection.msgtype)
        msg = f"{self.path}: the message of {place.topic} at {place.stamp} is gone"
        raise InputError(msg)

    def _read_frame(self, index: int) -> Frame:
        with readable(self.path):
            return self._decode_frame(index)

    def _decode_frame(self, index: int) -> Frame:
        pair = self._pairs[index]
        image_msg = self._read_message(pair.image)
        compressed = hasattr(image_msg, "format")
        image = read_compressed_image(image_msg) if compressed else read_image(image_msg)
        cloud_msg = self._read_message(pair.points)
        cloud = read_points(cloud_msg)
        times = cloud.point_times
        return Frame(
            image=image,
            camera=self._camera_at(pair.image.recorded, image.shape[1], image.shape[0]),
            T_camera_lidar=self._T_camera_lidar,
            points=np.array(cloud.points),
            stamp=pair.image_stamp,
            points_stamp=pair.points_stamp,
            point_times=times,
            name=self.names[index],
        )

    def _camera_at(self, recorded: int, width: int, height: int) -> PinholeCamera:
        if self._calibration is not None and self._calibration.K is not None:
            return self._calibration.camera_for(width, height)
        i = bisect.bisect_right(self._cameras, recorded, key=lambda item: item[0]) - 1
        return self._cameras[max(i, 0)][1]

    def _read_cameras(self, calibration: Calibration | None) -> list[tuple[int, PinholeCamera]]:
        """Read every camera_info that differs from the one before it."""
        if self.topics.camera_info is None or (calibration and calibration.K is not None):
            return []
        cameras: list[tuple[int, PinholeCamera]] = []
        for connection, recorded, data in self._messages(self.topics.camera_info):
            info = self._reader.deserialize(data, connection.msgtype)
            try:
                camera = PinholeCamera.from_camera_info(info, self._projection_model)
            except CalibrationError as error:
                msg = f"{self.path}: {self.topics.camera_info}: {error}"
                raise CalibrationError(msg) from error
            if not cameras or cameras[-1][1] != camera:
                cameras.append((recorded, camera))
        return cameras

    def _read_transforms(self) -> TransformTree:
        """Read tf_static, and tf as well if it takes that to get from camera to LiDAR."""
        tree = TransformTree()
        for static in (True, False):
            if tree.connects(self.camera_frame, self.lidar_frame):
                break
            for connection, _, data in self._messages(*self._transform_topics(static)):
                for transform in self._reader.deserialize(data, connection.msgtype).transforms:
                    tree.add(transform, static=static)
        return tree

    def _transform_topics(self, static: bool) -> list[str]:
        return [
            connection.topic
            for connection in self._reader.connections
            if connection.msgtype == TF_MESSAGE
            and connection.topic.endswith("tf_static") == static
        ]


def _without_shift(camera: PinholeCamera, tree: TransformTree) -> PinholeCamera:
    """Drop P's fourth column where tf holds it already.

    kitti2bag stores P_rect_02, whose fourth column shifts from camera 0, together with transforms
    to camera 2 itself; the same happens with stereo drivers. Both together would move points by
    45 px / depth.
    """
    if not tree.has_shift(camera):
        return camera
    _LOG.info("P[:, 3] of %s is in tf already and is left out", camera.frame_id)
    return replace(camera, shift=np.zeros(3))


def _frame_name(msg: Any) -> str:
    return str(msg.header.frame_id).lstrip("/")
