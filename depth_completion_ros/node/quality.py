"""Quality of service of the topics, and what to say when two sides do not fit.

Not here: which settings there are (`settings.QosSettings`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy


def topic_qos(reliability: str, depth: int) -> QoSProfile:
    """Make the profile of a topic.

    Args:
        reliability: `best_effort` or `reliable`.
        depth: messages kept for a side that is late.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy[reliability.upper()],
    )


def incompatible_qos_reporter(node: Node, topic: str, other: str) -> Callable[[Any], None]:
    """Make an event callback that names the topic, the policy and the way out.

    Args:
        node: for its logger.
        topic: relative name of ours.
        other: what the other side is, `publisher` or `subscriber`.
    """

    def report(event: Any) -> None:
        policy = getattr(event.last_policy_kind, "name", str(event.last_policy_kind)).lower()
        policy = policy.removeprefix("rmw_").removeprefix("qos_policy_")
        name = node.resolve_topic_name(topic)
        node.get_logger().error(
            f"{name}: {event.total_count} {other}(s) cannot connect, {policy} does not fit; see "
            f"`ros2 topic info -v {name}`, then set qos.* or qos_overrides of this node, or the "
            "other side's",
            throttle_duration_sec=10.0,
        )

    return report
