"""Write any source as a rosbag2, so that ROS tools play it like a recording.

Topics: image (or image/compressed), camera_info, points with per-point `time`, and the extrinsics
in /tf_static. A cloud's stamp is `frame.points_stamp`; times before it are negative.
Not here: reading bags (`rosbag2.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float64Array, Frame
from ..errors import DepthCompletionError, InputError
from ..messages.camera_info import camera_info_fields
from ..messages.fields import build_message
from ..messages.image import image_fields
from ..messages.points import points_fields
from ..messages.transforms import stamped_transform_fields
from .bag_storage import require_rosbags
from .bag_topics import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, TF_MESSAGE
from .base import Dataset
from .whole_file import unwritable

STORAGES = ("mcap", "sqlite3")


@dataclass(frozen=True)
class BagNames:
    """Hold the topics to write; the defaults are what the node listens to with remaps.

    Attributes:
        image, camera_info, points: topics; a compressed image goes to `image` + `/compressed`.
        camera_frame, lidar_frame: frames; empty takes the source's.
    """

    image: str = "/camera/image"
    camera_info: str = "/camera/camera_info"
    points: str = "/lidar/points"
    camera_frame: str = ""
    lidar_frame: str = ""


def write_bag(
    dataset: Dataset,
    path: str | Path,
    *,
    storage: str = "mcap",
    compressed: bool = False,
    names: BagNames | None = None,
    on_frame: Callable[[int, Exception | None], None] | None = None,
) -> int:
    """Write a source as a bag, whole or not at all.

    Args:
        dataset: frames with points; sparse depth has no message.
        path: folder of the bag; must not exist.
        storage: `mcap` or `sqlite3`.
        compressed: write images as PNG (lossless) CompressedImage.
        names: topics and frames.
        on_frame: told the index of each frame when it is done, and the error of a bad one,
            which is left out. Without it a bad frame ends the writing.

    Returns:
        Number of frames written.

    Raises:
        InputError: the source has no points, or the bag cannot be written; nothing is left behind.
    """
    require_rosbags()
    path = Path(path)
    if storage not in STORAGES:
        msg = f"storage: found {storage!r}, expected one of {', '.join(STORAGES)}"
        raise InputError(msg)
    with _whole_folder(path) as temporary, _open_writer(temporary, storage) as writer:
        bag = _Bag(writer, dataset, names or BagNames(), compressed=compressed)
        for index in range(len(dataset)):
            error = None
            try:
                frame = dataset[index]
            except DepthCompletionError as bad:
                if on_frame is None:
                    raise
                error = bad
            else:
                bag.write(frame)
            if on_frame is not None:
                on_frame(index, error)
        if not bag.count:
            msg = f"{dataset.path}: found no frame that can be written"
            raise InputError(msg)
    return bag.count


class _Bag:
    """The connections of one bag and what goes into them."""

    def __init__(
        self, writer: Any, dataset: Dataset, names: BagNames, *, compressed: bool
    ) -> None:
        from rosbags.typesys import Stores, get_typestore

        self._writer = writer
        self._path = dataset.path
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._compressed = compressed
        self._camera_frame = names.camera_frame
        self._lidar_frame = names.lidar_frame or dataset.lidar_frame
        self._T_camera_lidar: Float64Array | None = None
        self.count = 0
        image = f"{names.image}/compressed" if compressed else names.image
        self._topics = {
            COMPRESSED_IMAGE if compressed else IMAGE: image,
            CAMERA_INFO: names.camera_info,
            POINT_CLOUD: names.points,
            TF_MESSAGE: "/tf_static",
        }
        self._connections = {
            kind: writer.add_connection(
                topic, kind, typestore=self._typestore, offered_qos_profiles=_qos(kind)
            )
            for kind, topic in self._topics.items()
        }

    def write(self, frame: Frame) -> None:
        if frame.points is None or frame.T_camera_lidar is None:
            msg = (
                f"{self._path}: frame {frame.name} has no points, only sparse depth; a bag holds "
                "LiDAR points, convert a source that has them"
            )
            raise InputError(msg)
        camera_frame = self._camera_frame or frame.camera.frame_id or "camera"
        stamp, points_stamp = frame.stamp, int(frame.points_stamp or 0)
        recorded = max(stamp, points_stamp)
        self._write_extrinsics(frame.T_camera_lidar, camera_frame, min(stamp, points_stamp))
        self._write_image(frame, camera_frame)
        info = camera_info_fields(frame.camera)
        self._write(CAMERA_INFO, info, stamp, stamp=stamp, frame_id=camera_frame)
        cloud = points_fields(frame.points, frame.point_times)
        # A scan is recorded when it is complete; its stamp may lie before that.
        self._write(POINT_CLOUD, cloud, recorded, stamp=points_stamp, frame_id=self._lidar_frame)
        self.count += 1

    def _write_image(self, frame: Frame, camera_frame: str) -> None:
        if not self._compressed:
            fields = image_fields(frame.image, "rgb8")
            self._write(IMAGE, fields, frame.stamp, stamp=frame.stamp, frame_id=camera_frame)
            return
        import cv2

        _, data = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        fields = {"format": "rgb8; png compressed bgr8", "data": data.ravel()}
        self._write(
            COMPRESSED_IMAGE, fields, frame.stamp, stamp=frame.stamp, frame_id=camera_frame
        )

    def _write_extrinsics(
        self, T_camera_lidar: Float64Array, camera_frame: str, time: int
    ) -> None:
        if self._T_camera_lidar is not None:
            if not np.array_equal(T_camera_lidar, self._T_camera_lidar):
                msg = (
                    f"{self._path}: the extrinsics change between frames; /tf_static holds one "
                    "transform, convert frames of one rig at a time"
                )
                raise InputError(msg)
            return
        self._T_camera_lidar = T_camera_lidar
        transform = stamped_transform_fields(
            T_camera_lidar, camera_frame, self._lidar_frame, stamp=time
        )
        self._write(TF_MESSAGE, {"transforms": [transform]}, time)

    def _write(self, kind: str, fields: Any, time: int, **header: Any) -> None:
        message = build_message(self._typestore, kind, fields, **header)
        data = self._typestore.serialize_cdr(message, kind)
        self._writer.write(self._connections[kind], time, data)


def _qos(kind: str) -> list[Any]:
    """Offer tf_static as tf2 expects it: kept for those who come late."""
    if kind != TF_MESSAGE:
        return []
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    never = QosTime(2147483647, 4294967295)
    return [
        Qos(
            QosHistory.KEEP_LAST,
            1,
            QosReliability.RELIABLE,
            QosDurability.TRANSIENT_LOCAL,
            never,
            never,
            QosLiveliness.AUTOMATIC,
            never,
            False,
        )
    ]


@contextlib.contextmanager
def _open_writer(path: Path, storage: str) -> Iterator[Any]:
    """Open a rosbags writer; after an error its file is closed without an end being written."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.open()
    try:
        yield writer
        writer.close()
    except BaseException:
        for name in ("bio", "conn"):
            with contextlib.suppress(OSError, sqlite3.Error, AttributeError):
                getattr(writer.storage, name).close()
        raise


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder's name to write to, which becomes `path` if all goes well."""
    if path.exists():
        msg = f"{path}: exists already; expected a new folder for the bag"
        raise InputError(msg)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        # The files in a bag carry the name of its folder.
        yield temporary / path.name
        (temporary / path.name).rename(path)
    except (OSError, sqlite3.Error) as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
