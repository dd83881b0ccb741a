"""Counts and latencies that the node reports; safe to use from several threads.

Not here: the diagnostics message made of them (`diagnostics.py`). No ROS is needed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

# Why a message or a pair gave no output; the names users see in diagnostics and docs.
DROP_REASONS = (
    "unsynchronised",
    "no_calibration",
    "no_transform",
    "superseded",
    "bad_image",
    "bad_points",
    "size_mismatch",
    "bad_stamp",
    "time_jump",
    "lost_in_transport",
    "inference_error",
)

# One minute at 10 Hz: long enough for a p99, short enough to show what happens now.
_WINDOW = 600
_RATE_SECONDS = 5.0


class Statistics:
    """Count what came, what went and what was dropped, and keep the last latencies."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with zero everywhere.

        Args:
            clock: steady seconds, for the rates.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._times: dict[str, deque[float]] = {}
        self._latencies: dict[str, deque[float]] = {}

    def count(self, what: str, number: int = 1) -> None:
        """Count an event such as `received.image` or `published`."""
        with self._lock:
            self._counts[what] += number
            times = self._times.setdefault(what, deque(maxlen=_WINDOW))
            times.extend([self._clock()] * min(number, _WINDOW))

    def drop(self, reason: str, number: int = 1) -> None:
        """Count what gave no output.

        Raises:
            KeyError: a reason that the contract does not know.
        """
        if reason not in DROP_REASONS:
            raise KeyError(reason)
        with self._lock:
            self._drops[reason] += number

    def record(self, seconds: Mapping[str, float]) -> None:
        """Keep the latencies of one frame, in seconds by stage."""
        with self._lock:
            for stage, value in seconds.items():
                self._latencies.setdefault(stage, deque(maxlen=_WINDOW)).append(value)

    def counts(self) -> dict[str, int]:
        """Give all counts by name."""
        with self._lock:
            return dict(self._counts)

    def drops(self) -> dict[str, int]:
        """Give the drops of every reason, also of those that never occurred."""
        with self._lock:
            return {reason: self._drops[reason] for reason in DROP_REASONS}

    def rate(self, what: str) -> float:
        """Give events per second over the last five seconds."""
        with self._lock:
            now = self._clock()
            recent = [t for t in self._times.get(what, ()) if now - t <= _RATE_SECONDS]
        return len(recent) / _RATE_SECONDS

    def percentiles(self) -> dict[str, tuple[float, float, float]]:
        """Give p50, p95 and p99 in seconds of every stage, over the last 600 frames."""
        with self._lock:
            samples = {stage: sorted(values) for stage, values in self._latencies.items()}
        return {
            stage: tuple(_percentile(values, share) for share in (0.5, 0.95, 0.99))  # type: ignore[misc]
            for stage, values in samples.items()
        }


def _percentile(ordered: list[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed."""
    index = max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)
    return ordered[index]
