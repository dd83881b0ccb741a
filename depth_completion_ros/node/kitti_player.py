"""The ROS 2 node that plays a KITTI drive, a bag or any other source in its own time.

Not here: the timeline (`playback.py`) and bags (`bag_replay.py`). Topics, services and parameters
are in the README.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import SetBool, Trigger

from ..data import Frame
from ..datasets import open_source
from ..datasets.bag_storage import is_bag
from ..datasets.base import Dataset
from ..errors import DepthCompletionError, InputError
from ..geometry.transforms import invert_transform
from ..messages.camera_info import camera_info_fields
from ..messages.fields import fill_message
from ..messages.headers import split_stamp
from ..messages.image import image_fields
from ..messages.points import points_fields
from ..messages.transforms import stamped_transform_fields
from ..settings import PlayerSettings
from .bag_replay import BagPlayer
from .parameters import NodeParameters
from .playback import (
    Moment,
    Prefetcher,
    StampMapper,
    Timeline,
    chosen_range,
    frame_moments,
)
from .process import run_node
from .quality import topic_qos

# Faster than the 200 Hz that INTERFACE asks for, so that a late tick does not fall below.
_CLOCK_SECONDS = 0.004
_SETTLE_SECONDS = 0.5
_ACKNOWLEDGE_SECONDS = 2.0
_NOMINAL_PERIOD_NS = 100_000_000
# Frames that are looked at to tell whether a source has clouds at all.
_PROBED = 8


class Playable(Protocol):
    """A source that can be played: its moments, and how to publish one."""

    period_ns: int

    def describe(self) -> str:
        """Say in a few words what is played."""
        ...

    def moments(self) -> Iterator[Moment]:
        """Read all moments, in a thread of its own."""
        ...

    def publish(self, moment: Moment, stamp_offset_ns: int) -> None:
        """Publish one moment with all stamps moved."""
        ...

    def is_heard(self) -> bool:
        """Tell whether somebody subscribes to what is played."""
        ...

    def finish(self) -> None:
        """Wait until reliable subscribers have everything."""
        ...


@dataclass(frozen=True, eq=False)
class _FrameMessages:
    """The three messages of one frame, with their stamps in the recording."""

    image: Image
    camera_info: CameraInfo
    points: PointCloud2
    stamp: int
    points_stamp: int


class DatasetPlayer:
    """Publish the frames of a data set as image, camera_info and points."""

    def __init__(self, node: Node, dataset: Dataset, settings: PlayerSettings) -> None:
        """Create the publishers.

        Raises:
            InputError: the chosen range holds no frame, or none with points.
        """
        self._node = node
        self._dataset = dataset
        self._indices = chosen_range(len(dataset), settings)
        if not self._indices:
            msg = (
                f"start, end: found {settings.start} and {settings.end}, expected a part of 0 to "
                f"{len(dataset)}, the frames of {dataset.path}"
            )
            raise InputError(msg)
        self._check_points()
        # Reliable fits every subscriber; a best-effort one gets best effort.
        qos = topic_qos("reliable", 10)
        self._image = node.create_publisher(Image, "image", qos)
        self._camera_info = node.create_publisher(CameraInfo, "camera_info", qos)
        self._points = node.create_publisher(PointCloud2, "points", qos)
        self._has_static = False
        times = dataset.times
        self.period_ns = _NOMINAL_PERIOD_NS
        if len(times) > 1:
            self.period_ns = max(1, int((times[-1] - times[0]) // (len(times) - 1)))

    def _check_points(self) -> None:
        """Refuse a source without clouds; one frame tells that there are some."""
        were_read = False
        for index in self._indices[:: max(1, len(self._indices) // _PROBED)]:
            try:
                frame = self._dataset[index]
            except DepthCompletionError:
                continue  # It is reported when its turn comes.
            if frame.points is not None:
                return
            were_read = True
        if were_read:
            msg = (
                f"{self._dataset.path}: found sparse depth only, expected frames with points; "
                "play the KITTI raw drive or the bag it was made from"
            )
            raise InputError(msg)

    def describe(self) -> str:
        """Name kind, path and number of frames."""
        dataset = self._dataset
        return f"{dataset.kind} {dataset.path}, {len(self._indices)} of {len(dataset)} frames"

    def moments(self) -> Iterator[Moment]:
        """Read the frames and make their messages."""
        return frame_moments(self._dataset, self._indices, self._prepare)

    def _prepare(self, frame: Frame) -> _FrameMessages:
        if frame.points is None:
            msg = "found sparse depth only, expected points; there is no cloud to publish"
            raise InputError(msg)
        camera, stamp = frame.camera, frame.stamp
        frame_id = camera.frame_id or "camera"
        lidar_frame = self._dataset.lidar_frame
        points_stamp = stamp if frame.points_stamp is None else frame.points_stamp
        if not self._has_static:
            self._has_static = True
            self._publish_static(frame, frame_id, lidar_frame)
        return _FrameMessages(
            fill_message(Image(), image_fields(frame.image, "rgb8"), stamp=0, frame_id=frame_id),
            fill_message(CameraInfo(), camera_info_fields(camera), stamp=0, frame_id=frame_id),
            fill_message(
                PointCloud2(),
                points_fields(frame.points, frame.point_times),
                stamp=0,
                frame_id=lidar_frame,
            ),
            stamp,
            points_stamp,
        )

    def _publish_static(self, frame: Frame, camera_frame: str, lidar_frame: str) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self._node.get_logger().info(
                "no /tf_static: tf2_msgs is not installed; give the node calibration.file"
            )
            return
        assert frame.T_camera_lidar is not None
        qos = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        fields = stamped_transform_fields(
            invert_transform(frame.T_camera_lidar), lidar_frame, camera_frame
        )
        self._static = self._node.create_publisher(TFMessage, "/tf_static", qos)
        self._static.publish(fill_message(TFMessage(), {"transforms": [fields]}))

    def publish(self, moment: Moment, stamp_offset_ns: int) -> None:
        """Publish the three messages of a frame; the small one first."""
        messages: _FrameMessages = moment.payload
        for publisher, message, stamp in (
            (self._camera_info, messages.camera_info, messages.stamp),
            (self._points, messages.points, messages.points_stamp),
            (self._image, messages.image, messages.stamp),
        ):
            sec, nanosec = split_stamp(stamp + stamp_offset_ns)
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
            publisher.publish(message)

    def is_heard(self) -> bool:
        """Tell whether all three topics have a subscriber."""
        publishers = (self._image, self._camera_info, self._points)
        return all(publisher.get_subscription_count() > 0 for publisher in publishers)

    def finish(self) -> None:
        """Wait for reliable subscribers, and a moment for the others."""
        for publisher in (self._image, self._camera_info, self._points):
            publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_SECONDS))
        time.sleep(_SETTLE_SECONDS)


class KittiPlayer(Node):
    """Play a source: parameters, services, /clock and the thread that publishes on time."""

    def __init__(self) -> None:
        """Read the parameters and open the source.

        Raises:
            DepthCompletionError: a parameter or the source cannot be used.
        """
        super().__init__("kitti_player", automatically_declare_parameters_from_overrides=True)
        self._timeline = Timeline()
        self._tunables = NodeParameters(
            self,
            PlayerSettings(),
            is_fixed=lambda: "fixed while the player runs; start it anew",
            on_change=lambda settings: self._timeline.set_rate(settings.rate),
        )
        for line in self._tunables.unknown:
            self.get_logger().warning(line)
        for line in self._tunables.problems.values():
            raise InputError(line)
        settings = self.settings
        if not settings.drive:
            msg = (
                "parameter drive: found nothing, expected the path of a KITTI drive, a bag or any "
                "other source (-p drive:=PATH)"
            )
            raise InputError(msg)
        self._timeline.set_rate(settings.rate)
        self._timeline.pause(settings.start_paused)
        self._stamps = StampMapper(settings.stamps)
        self._source = open_playable(self, settings)
        self._clock_publisher = None
        if settings.publish_clock:
            self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self.create_service(SetBool, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/step", self._on_step)
        self.played = 0
        self.is_done = False
        self.error: DepthCompletionError | None = None
        self._is_closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._play, name="player", daemon=True),
            threading.Thread(target=self._tick, name="clock", daemon=True),
        ]

    @property
    def settings(self) -> PlayerSettings:
        """The settings as they are now."""
        return self._tunables.settings

    def start(self) -> None:
        """Begin to play."""
        self.get_logger().info(f"playing {self._source.describe()}")
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop playing."""
        self._is_closing.set()
        self._timeline.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5.0)

    def _on_pause(self, request: Any, response: Any) -> Any:
        self._timeline.pause(request.data)
        response.success = True
        response.message = "paused" if request.data else "playing"
        return response

    def _on_step(self, request: Any, response: Any) -> Any:
        response.success = self._timeline.is_paused
        response.message = "one frame" if response.success else "not paused; call ~/pause first"
        if response.success:
            self._timeline.step()
        return response

    def _play(self) -> None:
        try:
            self._wait_until_heard()
            while not self._is_closing.is_set():
                self._play_once()
                if self._is_closing.is_set() or not self.settings.loop:
                    break
            if not self._is_closing.is_set():
                self._source.finish()
                self.get_logger().info(f"end: {self.played} frames published")
        except DepthCompletionError as error:
            self.error = error
        except Exception as error:
            if self.context.ok():  # else the process ends and nothing can be published
                self.get_logger().debug(traceback.format_exc())
                line = " ".join(f"{type(error).__name__}: {error}".split())
                self.error = DepthCompletionError(
                    f"playing ended after {self.played} frames by a defect: {line}"
                )
        finally:
            self.is_done = True

    def _wait_until_heard(self) -> None:
        deadline = time.monotonic() + self.settings.wait
        if self.settings.wait == 0:
            return
        while time.monotonic() < deadline and not self._is_closing.wait(0.05):
            if self._source.is_heard():
                self._is_closing.wait(_SETTLE_SECONDS)
                return
        if not self._is_closing.is_set():
            self.get_logger().warning(
                f"nobody subscribes to all topics after {self.settings.wait:g} s; playing anyway"
            )

    def _play_once(self) -> None:
        prefetcher = Prefetcher(self._source.moments)
        first = last = None
        try:
            for moment in prefetcher:
                due = self._stamps.due(moment.time_ns)
                if not self._timeline.has_started:
                    self._timeline.start(due)
                first = moment.time_ns if first is None else first
                last = moment.time_ns
                if not self._timeline.wait_until(due):
                    return
                self._publish(moment)
        finally:
            prefetcher.stop()
        if first is None or last is None or not self.settings.loop:
            return
        # The last frame lasts as long as the others do.
        period = self._source.period_ns
        if self._timeline.wait_until(self._stamps.due(last + period)):
            self._stamps.begin_loop(first, last, period)

    def _publish(self, moment: Moment) -> None:
        if moment.problem:
            self.get_logger().error(moment.problem)
            return
        self._source.publish(moment, self._stamps.offset(moment.time_ns))
        if moment.is_frame:
            self.played += 1
            self._timeline.end_step()

    def _tick(self) -> None:
        """Publish /clock evenly, interpolated between the frames."""
        if self._clock_publisher is None:
            return
        message = Clock()
        due = time.monotonic()
        while not self._is_closing.is_set() and self.context.ok():
            if self._timeline.has_started:
                now = self._stamps.clock(self._timeline.now())
                message.clock.sec, message.clock.nanosec = split_stamp(now)
                try:
                    self._clock_publisher.publish(message)
                except Exception:
                    if self.context.ok():
                        raise
                    return
            due = max(due + _CLOCK_SECONDS, time.monotonic() - _CLOCK_SECONDS)
            time.sleep(max(0.0, due - time.monotonic()))


def open_playable(node: Node, settings: PlayerSettings) -> Playable:
    """Open what `drive` names.

    Raises:
        DepthCompletionError: it cannot be played.
    """
    path = Path(settings.drive).expanduser()
    # A bag of ROS 1 holds no CDR; it is played as the frames it contains.
    if path.exists() and is_bag(path) and path.suffix != ".bag":
        return BagPlayer(node, path, settings)
    return DatasetPlayer(node, open_source(path, camera=settings.camera), settings)


def _is_done(node: Any) -> bool:
    if node.is_done and node.error is not None:
        raise node.error
    return bool(node.is_done)


def main(argv: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM.

    Returns:
        0, or 2 if the source cannot be played.
    """
    return run_node(KittiPlayer, argv, is_done=_is_done)


if __name__ == "__main__":
    sys.exit(main())
