"""Record topics of a running node into a bag, with the time each message was published.

Not here: what a recording says (`cli/demo.py`). Run as a module beside node and player:

    python -m depth_completion_ros.node.recorder --out BAG --topic NAME:PACKAGE/msg/TYPE

A bag's own time stamp is when DDS took the message, so that `time - header.stamp` is the latency
from acquisition to publication, whatever the recorder was doing meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import queue
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool

from ..errors import DepthCompletionError, InputError

# DDS discovery is over within 0.3 s as a rule, but 3 s were seen on a loaded machine.
_SETTLE_SECONDS = 0.5
_DISCOVERY_SECONDS = 30.0
_HISTORY_DEPTH = 50


class Recorder(Node):
    """Subscribe to topics as serialised messages and write them to a bag as they come."""

    def __init__(self, topics: dict[str, str], writer: BagSink) -> None:
        """Subscribe to every topic.

        Args:
            topics: relative topic name to type name such as `sensor_msgs/msg/Image`.
            writer: takes (topic, type, nanoseconds, CDR).
        """
        super().__init__("recorder")
        self._writer = writer
        qos = QoSProfile(depth=_HISTORY_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        best_effort = QoSProfile(depth=_HISTORY_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic, type_name in topics.items():
            profile = qos if topic.startswith("depth") or topic[0] == "/" else best_effort
            name = self.resolve_topic_name(topic)
            self.create_subscription(
                _message_class(type_name),
                topic,
                lambda cdr, info, name=name, kind=type_name: self._writer.put(
                    name, kind, info["source_timestamp"], cdr
                ),
                profile,
                raw=True,
            )
        self._topics = [self.resolve_topic_name(topic) for topic in topics]

    def missing(self, *, wanted: list[str], heard: list[str]) -> str | None:
        """Name the first topic that has no publisher or no subscriber yet.

        Args:
            wanted: topics that need a publisher.
            heard: topics that need a subscriber besides the recorder.
        """
        for topic in wanted:
            if self.count_publishers(topic) == 0:
                return f"no publisher on {self.resolve_topic_name(topic)}"
        for topic in heard:
            own = self.resolve_topic_name(topic) in self._topics
            if self.count_subscribers(topic) <= own:
                return f"no subscriber on {self.resolve_topic_name(topic)}"
        return None


class BagSink:
    """Write messages to a bag in a thread of its own, so that receiving never waits for a disk."""

    def __init__(self, path: Path) -> None:
        """Prepare a bag at `path`; the folder must not exist yet."""
        self._path = path
        self._queue: queue.Queue[tuple[str, str, int, bytes] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write, name="bag-writer")
        self.failure: str | None = None

    def __enter__(self) -> BagSink:
        """Start writing."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is queued and close the bag."""
        self._queue.put(None)
        self._thread.join()

    def put(self, topic: str, type_name: str, time_ns: int, cdr: bytes) -> None:
        """Queue one serialised message."""
        self._queue.put((topic, type_name, time_ns, cdr))

    def _write(self) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
        from rosbags.typesys import Stores, get_typestore

        typestore = get_typestore(Stores.ROS2_JAZZY)
        connections: dict[str, Any] = {}
        try:
            # SQLite takes twice as many bytes a second as MCAP in pure Python; its connection
            # belongs to the thread that opens it.
            with Writer(self._path, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
                while (item := self._queue.get()) is not None:
                    topic, type_name, time_ns, cdr = item
                    if topic not in connections:
                        connections[topic] = bag.add_connection(
                            topic, type_name, typestore=typestore
                        )
                    bag.write(connections[topic], time_ns, cdr)
        except (OSError, sqlite3.Error, WriterError) as error:
            self.failure = f"{self._path}: cannot be written ({error}); is the disk full?"


def _message_class(type_name: str) -> Any:
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _wait_until_connected(
    node: Recorder, executor: SingleThreadedExecutor, wanted: list[str], heard: list[str]
) -> None:
    deadline = time.monotonic() + _DISCOVERY_SECONDS
    while (missing := node.missing(wanted=wanted, heard=heard)) is not None:
        if time.monotonic() > deadline or not rclpy.ok():
            msg = f"recorder: {missing} after {_DISCOVERY_SECONDS:g} s; is the node active?"
            raise InputError(msg)
        executor.spin_once(timeout_sec=0.05)
    settled = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < settled:
        executor.spin_once(timeout_sec=0.05)


def _unpause(node: Node, executor: SingleThreadedExecutor, service: str) -> None:
    client = node.create_client(SetBool, service)
    if not client.wait_for_service(timeout_sec=_DISCOVERY_SECONDS):
        msg = f"recorder: no service {service} after {_DISCOVERY_SECONDS:g} s"
        raise InputError(msg)
    future = client.call_async(SetBool.Request(data=False))
    executor.spin_until_future_complete(future, timeout_sec=_DISCOVERY_SECONDS)
    if future.result() is None or not future.result().success:
        msg = f"recorder: {service} refused to start"
        raise InputError(msg)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    parser.add_argument("--topic", action="append", default=[], metavar="NAME:TYPE")
    parser.add_argument("--wait-for-publisher", action="append", default=[], metavar="NAME")
    parser.add_argument("--wait-for-subscriber", action="append", default=[], metavar="NAME")
    parser.add_argument("--unpause", metavar="SERVICE", help="started when all are connected")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM.

    Returns:
        0 when interrupted, 2 when node or player did not appear.
    """
    argv = sys.argv[1:] if argv is None else argv
    rclpy.init(args=argv)
    args = _arguments(rclpy.utilities.remove_ros_args(["recorder", *argv])[1:])
    topics = dict(item.split(":", 1) for item in args.topic)
    executor = SingleThreadedExecutor()
    node = None
    try:
        with BagSink(args.out) as sink:
            node = Recorder(topics, sink)
            executor.add_node(node)
            _wait_until_connected(
                node, executor, args.wait_for_publisher, args.wait_for_subscriber
            )
            if args.unpause:
                _unpause(node, executor, args.unpause)
            while sink.failure is None and rclpy.ok():
                executor.spin_once(timeout_sec=0.1)
        if sink.failure is not None:
            raise InputError(sink.failure)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except DepthCompletionError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
