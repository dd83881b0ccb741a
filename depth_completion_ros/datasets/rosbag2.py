"""Bags: rosbag2 (mcap, sqlite3) and, because kitti2bag makes them, ROS 1's `.bag`.

Images and clouds are matched by stamp, intrinsics come from camera_info, extrinsics from tf, both
also from a calibration file.
Not here: which topics are taken (`bag_topics.py`), writing bags (`bag_writer.py`).
"""

from __future__ import annotations

import bisect
import logging
import os
import sqlite3
import struct
import textwrap
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float64Array, Frame, PinholeCamera
from ..errors import CalibrationError, DepthCompletionError, InputError
from ..geometry.transforms import invert_transform
from ..messages.image import read_compressed_image, read_image
from ..messages.points import read_points
from ..messages.synchroniser import Pair, Synchroniser
from ..messages.transforms import read_transform
from ..settings import SyncSettings
from .bag_topics import TF_MESSAGE, choose_topics
from .base import Dataset
from .calibration import Calibration

_LOG = logging.getLogger(__name__)
SUFFIXES = (".mcap", ".db3", ".bag")
# A mounting whose transform changes by more than this is no mounting (metres and radians).
_MOVING = 1e-4
# P's fourth column is in tf already if both agree to this, in metres; KITTI's pairs stand 60 mm
# and more apart.
_SAME_SHIFT = 5e-3


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
        self._finalizer = weakref.finalize(self, _close_readers, self._readers)
        with readable(path):
            try:
                self._prepare(path, camera, topics, calibration, sync or SyncSettings())
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the bag; it opens again when another frame is asked for."""
        _close_readers(self._readers)

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
        if calibration is not None and calibration.T_camera_lidar is not None:
            self._T_camera_lidar = calibration.T_camera_lidar
        else:
            self._T_camera_lidar = self._find_extrinsics()

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
        with readable(self.path):
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

    def _find_extrinsics(self) -> Float64Array:
        tree = _TransformTree()
        for static in (True, False):
            for connection, _, data in self._messages(*self._transform_topics(static)):
                for transform in self._reader.deserialize(data, connection.msgtype).transforms:
                    tree.add(transform, static=static)
        T = tree.find(self.camera_frame, self.lidar_frame, self.path)
        self._cameras = [(t, _without_shift(camera, tree)) for t, camera in self._cameras]
        return T

    def _transform_topics(self, static: bool) -> list[str]:
        return [
            connection.topic
            for connection in self._reader.connections
            if connection.msgtype == TF_MESSAGE
            and connection.topic.endswith("tf_static") == static
        ]


class _TransformTree:
    """All transforms of a bag as a graph, for those that do not change."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, Float64Array]] = {}
        self._moving: set[tuple[str, str]] = set()

    def add(self, msg: Any, *, static: bool) -> None:
        parent = msg.header.frame_id.lstrip("/")
        child = msg.child_frame_id.lstrip("/")
        T_parent_child = read_transform(msg)
        before = self._edges.get(parent, {}).get(child)
        if before is not None and not static:
            if np.abs(before - T_parent_child).max() > _MOVING:
                self._moving |= {(parent, child), (child, parent)}
            return
        self._edges.setdefault(parent, {})[child] = T_parent_child
        self._edges.setdefault(child, {})[parent] = invert_transform(T_parent_child)

    def find(self, target: str, source: str, path: Path) -> Float64Array:
        """Give T_target_source by the shortest chain."""
        chain = self._chain(target, source)
        if chain is None:
            known = ", ".join(sorted(self._edges)) or "no transform at all"
            msg = (
                f"{path}: tf does not connect {target!r} with {source!r} (found {known}); give a "
                "calibration file with T_camera_lidar"
            )
            raise CalibrationError(msg)
        for a, b in pairwise(chain):
            if (a, b) in self._moving:
                msg = (
                    f"{path}: tf between {a!r} and {b!r} moves; give a calibration file with "
                    "T_camera_lidar"
                )
                raise CalibrationError(msg)
        return self._multiply(chain)

    def has_shift(self, camera: PinholeCamera) -> bool:
        """Tell whether the camera stands beside another frame by exactly its own shift."""
        for other in self._edges:
            chain = self._chain(camera.frame_id, other)
            if chain is None or len(chain) < 2:
                continue
            T = self._multiply(chain)
            parallel = np.abs(T[:3, :3] - np.eye(3)).max() < 1e-2
            if parallel and np.abs(T[:3, 3] - camera.shift).max() < _SAME_SHIFT:
                return True
        return False

    def _multiply(self, chain: list[str]) -> Float64Array:
        T = np.eye(4)
        for a, b in pairwise(chain):
            T = T @ self._edges[a][b]
        return T

    def _chain(self, start: str, goal: str) -> list[str] | None:
        before = {start: start}
        queue = [start]
        for frame in queue:
            if frame == goal:
                chain = [frame]
                while chain[-1] != start:
                    chain.append(before[chain[-1]])
                return chain[::-1]
            for other in self._edges.get(frame, {}):
                if other not in before:
                    before[other] = frame
                    queue.append(other)
        return None


def _without_shift(camera: PinholeCamera, tree: _TransformTree) -> PinholeCamera:
    """Drop P's fourth column where tf holds it already.

    kitti2bag stores P_rect_02, whose fourth column shifts from camera 0, together with transforms
    to camera 2 itself; the same happens with stereo drivers. Both together would move points by
    45 px / depth.
    """
    if not np.any(np.abs(camera.shift) > _SAME_SHIFT) or not tree.has_shift(camera):
        return camera
    _LOG.info("P[:, 3] of %s is in tf already and is left out", camera.frame_id)
    return replace(camera, shift=np.zeros(3))


def _frame_name(msg: Any) -> str:
    return str(msg.header.frame_id).lstrip("/")


def open_reader(path: Path) -> Any:
    """Open a bag for reading messages as they are stored; use it within `readable`.

    Args:
        path: folder of a rosbag2, its only storage file, or a `.bag` file.

    Returns:
        An open `rosbags.highlevel.AnyReader`; use and close it in one thread.

    Raises:
        InputError: the recording did not end properly.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    if path.is_file() and path.suffix != ".bag":
        path = path.parent
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        msg = (
            f"{path}: found no metadata.yaml; the recording did not end properly, run ros2 bag "
            "reindex on it"
        )
        raise InputError(msg)
    reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
    try:
        reader.open()
    except BaseException:
        _close_reader(reader)
        raise
    return reader


def _close_readers(readers: dict[tuple[int, int], Any]) -> None:
    while readers:
        _, reader = readers.popitem()
        # SQLite refuses to close what another thread opened; that thread's end closes it.
        with suppress(sqlite3.ProgrammingError):
            _close_reader(reader)


def _close_reader(reader: Any) -> None:
    """Close a bag, also one that rosbags gave up opening and left half open."""
    for part in reader.readers:
        storage = getattr(part, "storage", None)
        for file in (*getattr(storage, "readers", ()), *getattr(storage, "dbconns", ())):
            handle = getattr(file, "bio", file)
            if handle is not None:
                handle.close()
        bio = getattr(part, "bio", None)
        if bio is not None:
            bio.close()
    reader.isopen = False


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the storage libraries raise about a damaged bag into one line."""
    import zstandard
    from rosbags.highlevel import AnyReaderError
    from rosbags.rosbag1 import ReaderError as Reader1Error
    from rosbags.rosbag2 import ReaderError as Reader2Error
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError

    damage = (
        AnyReaderError,
        Reader1Error,
        Reader2Error,
        TypesysError,
        SerdeError,
        zstandard.ZstdError,
        sqlite3.Error,
        struct.error,
        OSError,
        EOFError,
        AssertionError,
        LookupError,
        ValueError,
        RuntimeError,
        TypeError,
        OverflowError,
        MemoryError,
    )
    try:
        yield
    except DepthCompletionError:
        raise
    except damage as error:
        # Some of them recite what they could not read.
        reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
        msg = f"{path}: cannot be read as a bag ({reason}); is it whole?"
        raise InputError(msg) from error


def is_bag(path: Path) -> bool:
    """Tell whether a path is a bag, whole or not."""
    if path.is_file():
        return path.suffix in SUFFIXES
    if (path / "metadata.yaml").is_file():
        return True
    return any(p.suffix in SUFFIXES[:2] for p in path.iterdir())
