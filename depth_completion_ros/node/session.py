"""All that lives between configure and cleanup: completer, calibration, publishers, worker.

Not here: states and parameters (`completion_node.py`). Look next at `pipeline.py` for what happens
to a pair.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.clock import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.expand_topic_name import expand_topic_name
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from ..completers import Completer, open_completer
from ..data import Float64Array, PinholeCamera, checked_transform
from ..errors import CalibrationError
from ..messages.headers import stamp_ns
from ..messages.synchroniser import Pair, SyncCounts
from ..messages.transforms import read_pose
from ..settings import Settings
from .diagnostics import TopicView
from .extrinsics import Extrinsics, TfExtrinsics, given_extrinsics
from .inputs import Inputs
from .motion import Motion, OdometryTrack, TfMotion
from .pipeline import CameraKeeper, DropError, Pipeline, warm_up_size
from .publishers import OutputPublishers
from .quality import incompatible_qos_reporter, topic_qos
from .statistics import Statistics
from .topics import camera_info_topic, compressed_topic
from .worker import Worker

# A frame that takes longer than this ends with the thread it is in.
_DRAIN_SECONDS = 5.0
# Stamps farther from now are of another clock: a recording, or a camera's uptime.
_PLAUSIBLE_LATENCY = 60.0
_ODOMETRY_DEPTH = 200
_SUPERSEDED = "a newer pair came first; completing takes longer than pairs are apart"


class Session:
    """Hold what configure made, and run it between activate and deactivate."""

    def __init__(
        self,
        node: LifecycleNode,
        settings: Callable[[], Settings],
        statistics: Statistics,
        say: Callable[[str, str], None],
    ) -> None:
        """Open the completer, read the calibration, warm up, create the publishers.

        Args:
            node: whose topics are used.
            settings: gives the settings as they are now.
            statistics: where everything is counted.
            say: takes a level and a line for the log.

        Raises:
            DepthCompletionError: something that was asked for cannot be had; nothing stays open.
        """
        self._node = node
        self._settings = settings
        self._statistics = statistics
        self._say = say
        self.last_drops: dict[str, str] = {}
        self.inputs: Inputs | None = None
        self._worker: Worker | None = None
        self._subscriptions: dict[str, Any] = {}
        self._tf: TfExtrinsics | None = None
        self._track: OdometryTrack | None = None
        self._time_jumps = 0
        now = settings()
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_tf)
            self.extrinsics = self._open_extrinsics(now)
            self._motion = self._open_motion(now)
            self.completer = _open(now, self.extrinsics.camera)
            undo.callback(self.completer.close)
            self._publishers = OutputPublishers(node, now)
            undo.pop_all()

    def _open_extrinsics(self, settings: Settings) -> Extrinsics:
        extrinsics = given_extrinsics(settings.calibration)
        return extrinsics if extrinsics is not None else self._open_tf(settings)

    def _open_tf(self, settings: Settings) -> TfExtrinsics:
        if self._tf is None:
            self._tf = TfExtrinsics(self._node, settings.calibration.timeout)
        return self._tf

    def _open_motion(self, settings: Settings) -> Motion | None:
        if settings.motion.source == "none":
            return None
        if settings.motion.source == "tf":
            return TfMotion(self._open_tf(settings), settings.motion.fixed_frame)
        self._track = OdometryTrack(self._find_base, settings.calibration.timeout)
        return self._track

    def _find_base(self, base_frame: str, lidar_frame: str) -> Float64Array:
        """Give T_base_lidar for the odometry's child frame."""
        given = self._settings().motion.T_base_lidar
        if given:
            return checked_transform(np.reshape(given, (4, 4)), "motion.T_base_lidar")
        if base_frame == lidar_frame:
            return np.eye(4)
        if self._tf is not None:
            return self._tf.look_up(base_frame, lidar_frame, 0, self._gives_up)
        msg = (
            f"odometry: its child frame is {base_frame!r}, the cloud's {lidar_frame!r}, expected "
            "to know where one is in the other; set motion.T_base_lidar"
        )
        raise CalibrationError(msg)

    def activate(self) -> None:
        """Subscribe and start the worker."""
        settings = self._settings()
        self._cameras = CameraKeeper(settings.calibration, self.extrinsics.camera)
        self._pipeline = Pipeline(
            self.completer,
            self._cameras,
            self.extrinsics,
            self._motion,
            settings=self._settings,
            say=self._say,
            give_up=self._gives_up,
        )
        self._worker = Worker(
            self._complete,
            on_superseded=lambda pair: self._drop("superseded", _SUPERSEDED),
            on_error=self._on_error,
        )
        self.inputs = Inputs(settings.sync, self._statistics, self._worker.submit)
        self._worker.start()
        self._subscribe(settings)

    def _subscribe(self, settings: Settings) -> None:
        assert self.inputs is not None
        image_type = CompressedImage if self._is_compressed(settings) else Image
        inputs, qos = self.inputs, settings.qos
        topics = self.topics()
        for role, kind, callback, reliability in (
            ("camera_info", CameraInfo, self._on_camera_info, qos.camera_info),
            ("image", image_type, inputs.add_image, qos.image),
            ("points", PointCloud2, inputs.add_points, qos.points),
            ("odometry", Odometry, self._on_odometry, qos.odometry),
        ):
            if role not in topics:
                continue
            events = SubscriptionEventCallbacks(
                incompatible_qos=incompatible_qos_reporter(self._node, topics[role], "publisher")
            )
            self._subscriptions[role] = self._node.create_subscription(
                kind,
                topics[role],
                _with_info(callback),
                # Small and frequent: a burst of odometry must not push out what is needed.
                topic_qos(reliability, _ODOMETRY_DEPTH if role == "odometry" else qos.depth),
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

    def topics(self) -> dict[str, str]:
        """Give the absolute name of every input topic by its role."""
        settings, resolve = self._settings(), self._node.resolve_topic_name

        def default(name: str) -> str:
            own_name, namespace = self._node.get_name(), self._node.get_namespace()
            return str(expand_topic_name(name, own_name, namespace))

        image = resolve("image")
        names = {
            "image": image,
            "points": resolve("points"),
            "camera_info": camera_info_topic(
                image, resolve("camera_info"), default("camera_info")
            ),
        }
        if self._is_compressed(settings):
            own = resolve("image/compressed")
            names["image"] = compressed_topic(image, own, default("image/compressed"))
        if settings.motion.source == "odometry":
            names["odometry"] = resolve("odometry")
        return names

    @staticmethod
    def _is_compressed(settings: Settings) -> bool:
        return settings.input.image_transport == "compressed"

    def view_topics(self) -> list[TopicView]:
        """Look at every input topic: who publishes, how, and how long ago."""
        inputs = self.inputs
        if inputs is None:
            return []
        views = []
        for role, topic in self.topics().items():
            publishers = tuple(
                f"{info.node_name} ({info.qos_profile.reliability.name.lower()})"
                for info in self._node.get_publishers_info_by_topic(topic)
            )
            silent_for, has_come = inputs.silent_for(role), inputs.has_come(role)
            if role == "camera_info" and self.extrinsics.camera is not None and not publishers:
                continue  # The calibration file's camera is taken.
            views.append(TopicView(role, topic, publishers, silent_for, has_come))
        return views

    def poll(self) -> None:
        """Do what is due without a message: pairs that waited, time that jumped."""
        inputs = self.inputs  # Taken once: another thread may deactivate at any time.
        if inputs is None:
            return
        inputs.poll()
        jumps = inputs.synchroniser.counts().time_jumps
        if jumps != self._time_jumps:
            self._time_jumps = jumps
            tf = self._tf
            if tf is not None:
                tf.clear()
            self._say("warning", "stamps run backwards (does a bag loop?); starting afresh")

    def drops(self) -> dict[str, int]:
        """Give all drops by reason, those of the synchroniser included."""
        inputs = self.inputs
        drops = self._statistics.drops()
        if inputs is not None:
            for reason, count in inputs.synchroniser.counts().drops.items():
                drops[reason] += count
        return drops

    def sync_counts(self) -> SyncCounts | None:
        """Give the synchroniser's counts, None while it is not active."""
        inputs = self.inputs
        return None if inputs is None else inputs.synchroniser.counts()

    def deactivate(self) -> None:
        """Unsubscribe, finish what is in work, stop the worker."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}
        if self._worker is not None:
            self._worker.drain(_DRAIN_SECONDS)
            self._worker.stop(_DRAIN_SECONDS)
            self._worker = None
        if self.inputs is not None:
            for reason, count in self.inputs.synchroniser.counts().drops.items():
                self._statistics.drop(reason, count)
            self.inputs = None

    def close(self) -> None:
        """Give everything back."""
        self.deactivate()
        self._publishers.destroy()
        self._close_tf()
        self.completer.close()

    def _close_tf(self) -> None:
        if self._tf is not None:
            self._tf.close()
            self._tf = None

    def _gives_up(self) -> bool:
        worker = self._worker
        return worker is None or worker.is_stopped or worker.has_newer()

    def _on_camera_info(self, message: Any, info: Any) -> None:
        assert self.inputs is not None
        self.inputs.note("camera_info", info)
        self._cameras.update(message)

    def _on_odometry(self, message: Any, info: Any) -> None:
        assert self.inputs is not None
        assert self._track is not None
        self.inputs.note("odometry", info)
        try:
            pose = read_pose(message)
        except CalibrationError as error:
            self._say("warning", f"odometry: {error}")
            return
        self._track.add(stamp_ns(message.header.stamp), pose, str(message.child_frame_id))

    def _complete(self, pair: Pair) -> None:
        """Do one pair, in the worker's thread."""
        started = time.monotonic()
        try:
            completion = self._pipeline.complete(pair.image.message, pair.points.message)
        except DropError as drop:
            self._drop(drop.reason, str(drop))
            return
        settings = self._settings()
        seconds = self._publishers.publish(completion, settings)
        published = time.monotonic()
        received = max(pair.image.received, pair.points.received)
        timings = dict(completion.dense.timings)
        timings.pop("total", None)
        timings |= completion.seconds | seconds
        timings["wait"] = started - received
        timings["receive_to_publish"] = published - received
        latency = (self._now_ns() - completion.dense.stamp) * 1e-9
        if 0 <= latency <= _PLAUSIBLE_LATENCY:
            timings["stamp_to_publish"] = latency
        self._statistics.record(timings)
        self._statistics.count("published")

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_error(self, error: Exception) -> None:
        if not self._node.context.ok():
            return  # The process ends; publishing is no longer possible.
        self._drop("inference_error", f"{type(error).__name__}: {error}")

    def _drop(self, reason: str, explanation: str) -> None:
        self._statistics.drop(reason)
        line = " ".join(explanation.split())
        self.last_drops[reason] = line
        if reason != "superseded":
            self._say("drop", f"{reason}: {line}")

    @property
    def uses_sim_time(self) -> bool:
        """Tell whether the node's clock follows /clock."""
        clock = self._node.get_clock()
        return clock.clock_type == ClockType.ROS_TIME and bool(clock.ros_time_is_active)


def _open(settings: Settings, camera: PinholeCamera | None) -> Completer:
    """Open the completer and warm it up for the camera, if its size is known already."""
    chosen = settings.completer
    completer = open_completer(
        chosen.network,
        backend=chosen.backend,
        device=chosen.device,
        precision=chosen.precision,
        weights=chosen.weights or None,
        settings=settings.projection,
    )
    try:
        completer.warm_up(*warm_up_size(camera))
    except BaseException:
        completer.close()
        raise
    return completer


def _with_info(callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Give rclpy a function of two arguments; it looks at the signature to pass the info."""

    def receive(message: Any, info: Any) -> None:
        callback(message, info)

    return receive
