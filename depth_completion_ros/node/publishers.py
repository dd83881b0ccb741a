"""The publishers of the node's outputs; what nobody hears is not made.

Not here: what the messages hold (`outputs.py`).
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from ..messages.fields import fill_message
from ..settings import Settings
from .outputs import OutputFields, OutputMaps, shape_outputs
from .pipeline import Completion
from .quality import incompatible_qos_reporter, topic_qos

ALWAYS = {
    "depth/image": Image,
    "depth/camera_info": CameraInfo,
    "confidence/image": Image,
}
WHEN_HEARD = {
    "sigma/image": Image,
    "sparse_depth/image": Image,
    "depth/color": Image,
    "depth/image/compressedDepth": CompressedImage,
    "depth/points": PointCloud2,
}


class OutputPublishers:
    """Publish completions; used from the worker's thread alone."""

    def __init__(self, node: Node, settings: Settings) -> None:
        """Create all publishers.

        Args:
            node: whose publishers they are.
            settings: with `qos`.
        """
        self._node = node
        self._fields = OutputFields()
        self._publishers: dict[str, Any] = {}
        try:
            self._create(settings)
        except BaseException:
            self.destroy()
            raise

    def _create(self, settings: Settings) -> None:
        node = self._node
        for topic, kind in {**ALWAYS, **WHEN_HEARD}.items():
            self._publishers[topic] = node.create_publisher(
                kind,
                topic,
                topic_qos(settings.qos.outputs, settings.qos.depth),
                event_callbacks=PublisherEventCallbacks(
                    incompatible_qos=incompatible_qos_reporter(node, topic, "subscriber")
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

    def publish(self, completion: Completion, settings: Settings) -> dict[str, float]:
        """Publish everything that somebody hears, the depth first.

        Args:
            completion: of one pair.
            settings: with `output`.

        Returns:
            Seconds by step: `convert` to make the messages, `publish` to hand them to DDS.
        """
        seconds = {"convert": 0.0, "publish": 0.0}
        start = time.perf_counter()
        maps = shape_outputs(
            completion.dense, completion.image, completion.camera, settings.output
        )
        seconds["convert"] += time.perf_counter() - start
        for topic, publisher in self._publishers.items():
            if topic in ALWAYS or publisher.get_subscription_count() > 0:
                self._publish(topic, publisher, maps, completion, settings, seconds)
        return seconds

    def _publish(
        self,
        topic: str,
        publisher: Any,
        maps: OutputMaps,
        completion: Completion,
        settings: Settings,
        seconds: dict[str, float],
    ) -> None:
        start = time.perf_counter()
        fields = self._fields.make(topic, maps, settings.output)
        stamp, frame_id = completion.dense.stamp, completion.frame_id
        message = fill_message(publisher.msg_type(), fields, stamp=stamp, frame_id=frame_id)
        made = time.perf_counter()
        publisher.publish(message)
        seconds["convert"] += made - start
        seconds["publish"] += time.perf_counter() - made

    def destroy(self) -> None:
        """Take all publishers away."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}
