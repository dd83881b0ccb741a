"""Bags replayed as they were recorded: stored bytes, topics, quality of service, spacing.

Not here: the timeline (`playback.py`) and bags read as frames (`datasets/rosbag2.py`).
"""

from __future__ import annotations

import importlib
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from ..datasets.bag_storage import open_reader, readable
from ..errors import InputError
from ..messages.headers import split_stamp
from ..settings import PlayerSettings
from .playback import Moment

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_CLOUDS = ("sensor_msgs/msg/PointCloud2",)
_TF = "tf2_msgs/msg/TFMessage"
# The player has a clock of its own; the others belong to processes that no longer run.
_LEFT_OUT = ("/clock", "/rosout", "/parameter_events")
_NOMINAL_PERIOD_NS = 100_000_000
_HISTORY_DEPTH = 10
_SETTLE_SECONDS = 0.5
_ACKNOWLEDGE_SECONDS = 2.0
# Of a serialised message: four bytes that say how, then the header's seconds and nanoseconds.
_STAMP_OFFSET, _STAMP_SIZE = 4, 8


@dataclass(frozen=True, eq=False)
class _Channel:
    """One topic of the bag and who publishes it."""

    publisher: Any
    has_header: bool
    is_latched: bool


class BagPlayer:
    """Publish the messages of a rosbag2 without taking them apart."""

    def __init__(self, node: Node, path: Path, settings: PlayerSettings) -> None:
        """Create a publisher for every topic whose type is installed.

        Raises:
            InputError: the bag cannot be read, or holds nothing that can be published.
        """
        self._node = node
        self._path = path
        self._settings = settings
        self.period_ns = _NOMINAL_PERIOD_NS
        self._channels: dict[str, _Channel] = {}
        self._types: dict[str, str] = {}
        with readable(path):
            reader = open_reader(path)
            try:
                connections = [c for c in reader.connections if c.msgcount]
            finally:
                reader.close()
        for connection in connections:
            if connection.topic not in _LEFT_OUT and connection.topic not in self._channels:
                self._open(connection)
        if not self._channels:
            msg = f"{path}: found no topic that can be published"
            raise InputError(msg)
        images = [c.topic for c in connections if c.msgtype in _IMAGES]
        self._frame_topic = next((t for t in images if t in self._channels), None)

    def _open(self, connection: Any) -> None:
        kind = message_class(connection.msgtype)
        if kind is None:
            self._node.get_logger().warning(
                f"{connection.topic} is left out: {connection.msgtype} is not installed"
            )
            return
        qos = recorded_qos(connection)
        fields = next(iter(kind.get_fields_and_field_types().items()), None)
        self._channels[connection.topic] = _Channel(
            self._node.create_publisher(kind, connection.topic, qos),
            fields == ("header", "std_msgs/Header"),
            qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._types[connection.topic] = connection.msgtype
        if connection.msgtype == _TF and self._settings.stamps == "now":
            self._node.get_logger().warning(
                f"{connection.topic}: transforms keep their recorded stamps, although stamps is "
                "now; use recorded and use_sim_time to look them up"
            )

    def describe(self) -> str:
        """Name the bag and its topics."""
        return f"bag {self._path}, topics {', '.join(sorted(self._channels))}"

    def moments(self) -> Iterator[Moment]:
        """Read the messages in the order of recording."""
        # The storage belongs to the thread that opened it.
        with readable(self._path):
            reader = open_reader(self._path)
            try:
                wanted = [c for c in reader.connections if c.topic in self._channels]
                yield from self._chosen(reader.messages(connections=wanted))
            finally:
                reader.close()

    def _chosen(self, messages: Iterator[tuple[Any, int, bytes]]) -> Iterator[Moment]:
        """Leave out what lies before `start` and after `end`, both counted in images."""
        start, end = self._settings.start, self._settings.end
        frames = 0
        for connection, time_ns, data in messages:
            is_frame = connection.topic == (self._frame_topic or connection.topic)
            frames += is_frame
            if 0 <= end < frames:
                return
            if frames <= start and start > 0 and not self._channels[connection.topic].is_latched:
                continue
            yield Moment(time_ns, (connection.topic, bytes(data)), is_frame)

    def publish(self, moment: Moment, stamp_offset_ns: int) -> None:
        """Publish one message, its header's stamp moved if need be."""
        topic, data = moment.payload
        channel = self._channels[topic]
        if stamp_offset_ns and channel.has_header:
            data = move_stamp(data, stamp_offset_ns)
        channel.publisher.publish(data)

    def is_heard(self) -> bool:
        """Tell whether somebody subscribes to an image and to a cloud, where the bag has them."""
        for kinds in (_IMAGES, _CLOUDS):
            topics = [topic for topic, kind in self._types.items() if kind in kinds]
            heard = [self._channels[t].publisher.get_subscription_count() > 0 for t in topics]
            if topics and not any(heard):
                return False
        return True

    def finish(self) -> None:
        """Wait for reliable subscribers, and a moment for the others."""
        for channel in self._channels.values():
            channel.publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_SECONDS))
        time.sleep(_SETTLE_SECONDS)


def move_stamp(data: bytes, offset_ns: int) -> bytes:
    """Move the stamp of a serialised message that starts with a header.

    Args:
        data: CDR with its four bytes of encapsulation.
        offset_ns: nanoseconds to add.

    Returns:
        The message with another stamp, all else unchanged; messages without room for a stamp and
        stamps that would become negative stay as they are.
    """
    order = "<" if data[1:2] == b"\x01" else ">"
    end = _STAMP_OFFSET + _STAMP_SIZE
    if len(data) < end:
        return data
    sec, nanosec = struct.unpack_from(f"{order}iI", data, _STAMP_OFFSET)
    moved = sec * 1_000_000_000 + nanosec + offset_ns
    if moved < 0:
        return data
    stamp = struct.pack(f"{order}iI", *split_stamp(moved))
    return b"".join((data[:_STAMP_OFFSET], stamp, data[end:]))


def message_class(name: str) -> Any | None:
    """Import the class of a type such as `sensor_msgs/msg/Image`; None if it is not installed."""
    package, _, kind = name.rpartition("/")
    try:
        return getattr(importlib.import_module(package.replace("/", ".")), kind)
    except (ImportError, AttributeError):
        return None


def recorded_qos(connection: Any) -> QoSProfile:
    """Give the quality of service a topic was recorded with, reliable if it is not stored.

    Args:
        connection: of rosbags, whose `ext.offered_qos_profiles` may hold it.
    """
    qos = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_HISTORY_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
    offered = list(getattr(connection.ext, "offered_qos_profiles", None) or ())
    if not offered:
        return qos
    first = offered[0]
    if first.reliability.name == "BEST_EFFORT":
        qos.reliability = ReliabilityPolicy.BEST_EFFORT
    if first.durability.name == "TRANSIENT_LOCAL":
        qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
    qos.depth = max(_HISTORY_DEPTH, int(first.depth))
    return qos
