"""What the node says about itself on /diagnostics, and why it is silent when it is.

Not here: counting (`statistics.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ..messages.synchroniser import SyncCounts
from .statistics import Statistics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Status:
    """Hold one line of diagnostics with its values."""

    name: str
    level: bytes
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


def diagnostic_array(stamp: Any, node_name: str, statuses: list[Status]) -> DiagnosticArray:
    """Make the message.

    Args:
        stamp: builtin_interfaces/Time of now.
        node_name: in front of every status.
        statuses: in the order to show them.
    """
    message = DiagnosticArray()
    message.header.stamp = stamp
    for status in statuses:
        values = [KeyValue(key=key, value=str(value)) for key, value in status.values.items()]
        message.status.append(
            DiagnosticStatus(
                level=status.level,
                name=f"{node_name}: {status.name}",
                message=status.message,
                hardware_id="depth_completion",
                values=values,
            )
        )
    return message


def flow_status(statistics: Statistics, sync: SyncCounts | None = None) -> Status:
    """Tell what came, what matched and what went out.

    Args:
        statistics: what was counted.
        sync: of the synchroniser, for how far apart the stamps are; None while there is none.
    """
    counts = statistics.counts()
    names = ["received.image", "received.points", "received.camera_info", "matched", "published"]
    names += sorted(set(counts) - set(names))
    values: dict[str, Any] = {name: counts.get(name, 0) for name in names}
    for name in ("received.image", "received.points", "published"):
        values[f"{name}.hz"] = f"{statistics.rate(name):.1f}"
    if sync is not None:
        offsets = {"median": sync.median_offset, "nearest": sync.nearest_offset}
        values |= {
            f"{name}_offset_ms": f"{seconds * 1e3:.1f}"
            for name, seconds in offsets.items()
            if seconds is not None
        }
    message = (
        f"{values['published']} published, {values['published.hz']} Hz; images "
        f"{values['received.image.hz']} Hz, clouds {values['received.points.hz']} Hz"
    )
    return Status("flow", OK, message, values)


def drop_status(drops: Mapping[str, int], last: Mapping[str, str]) -> Status:
    """Tell what was dropped.

    Args:
        drops: counts by reason.
        last: last explanation by reason.
    """
    seen = {reason: count for reason, count in drops.items() if count}
    message = ", ".join(f"{reason} {count}" for reason, count in seen.items()) or "none"
    values: dict[str, Any] = {f"dropped.{reason}": count for reason, count in drops.items()}
    values |= {f"last.{reason}": line for reason, line in last.items()}
    return Status("drops", WARN if seen else OK, message, values)


def latency_status(statistics: Statistics) -> Status:
    """Tell how long every stage takes, in milliseconds."""
    percentiles = statistics.percentiles()
    values = {
        f"latency.{stage}.p{percent}_ms": f"{seconds * 1e3:.2f}"
        for stage, found in percentiles.items()
        for percent, seconds in zip((50, 95, 99), found, strict=True)
    }
    message = "nothing measured yet"
    for name in ("stamp_to_publish", "receive_to_publish"):
        if name in percentiles:
            p50, p95, p99 = (1e3 * seconds for seconds in percentiles[name])
            text = name.replace("_", " ")
            message = f"{text}: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"
            break
    return Status("latency", OK, message, values)


@dataclass(frozen=True)
class TopicView:
    """Hold what can be seen of an input topic.

    Attributes:
        role: `image`, `points`, `camera_info` or `odometry`.
        topic: absolute name.
        publishers: one line each, node and reliability.
        silent_for: seconds since the last message, or since the node listens.
        has_come: True if there was any message.
    """

    role: str
    topic: str
    publishers: tuple[str, ...]
    silent_for: float
    has_come: bool


def explain_silence(views: list[TopicView], watchdog: float) -> str | None:
    """Say which inputs are silent, and what can be said about each.

    Args:
        views: of all inputs that are needed.
        watchdog: seconds without a message that count as silence.

    Returns:
        One line, or None if no input is silent. An input that was never heard is only named
        until the watchdog's time is over.
    """
    silent = [view for view in views if _is_silent(view, watchdog)]
    if not silent:
        return None
    return "waiting for " + "; ".join(_describe_silence(view, watchdog) for view in silent)


def _is_silent(view: TopicView, watchdog: float) -> bool:
    if view.role == "camera_info" and view.has_come:
        return False  # It is kept; a driver that sends it once has sent all there is.
    return not view.has_come or view.silent_for > watchdog


def _describe_silence(view: TopicView, watchdog: float) -> str:
    name = f"{view.role} on {view.topic}"
    if view.silent_for <= watchdog:
        return name
    silence = f"silent for {view.silent_for:.0f} s"
    if not view.publishers:
        return f"{name} ({silence}, no publisher; is its driver running, is {view.role} remapped?)"
    who = ", ".join(view.publishers)
    return (
        f"{name} ({silence}, published by {who}; it sends nothing, or its messages are lost: give "
        "the DDS profile to both sides)"
    )
