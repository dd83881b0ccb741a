"""What arrives: counted, checked for losses, matched by stamp. Nothing is converted here.

Not here: subscriptions (`completion_node.py`) and what is done with a pair (`pipeline.py`). No ROS
is imported. All methods return at once, because they run in the executor's callbacks.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from ..messages.headers import stamp_ns
from ..messages.synchroniser import Pair, Synchroniser
from ..settings import SyncSettings
from .statistics import Statistics

# Publishers of one topic that are told apart.
_PUBLISHERS = 8
# A longer gap is another publisher, not a loss: 100 s at 10 Hz.
_LARGEST_GAP = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Arrival:
    """Hold a message with the moment it was received.

    Attributes:
        message: as it came.
        received: steady seconds.
    """

    message: Any
    received: float


class SequenceGaps:
    """Tell lost messages by the gaps in the numbers their publishers give them.

    Some distributions do not tell which publisher sent a message, so a number that goes on from
    none of those seen is taken as a new publisher's, or a restarted one's, and no loss.
    """

    def __init__(self) -> None:
        """Start without publishers."""
        self._last: deque[int] = deque(maxlen=_PUBLISHERS)

    def lost_before(self, number: int) -> int:
        """Take the next number; give how many messages before it are missing."""
        earlier = [last for last in self._last if 0 < number - last <= _LARGEST_GAP]
        if not earlier:
            self._last.append(number)
            return 0
        nearest = max(earlier)
        self._last[self._last.index(nearest)] = number
        return number - nearest - 1


class Inputs:
    """Count and match what the subscriptions deliver."""

    def __init__(
        self,
        settings: SyncSettings,
        statistics: Statistics,
        on_pair: Callable[[Pair], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            settings: how to match.
            statistics: where everything is counted.
            on_pair: called with every matched pair, items being `Arrival`s.
            clock: steady seconds.
        """
        self.synchroniser = Synchroniser(settings)
        self._statistics = statistics
        self._on_pair = on_pair
        self._clock = clock
        self._lock = threading.Lock()
        self._gaps: defaultdict[str, SequenceGaps] = defaultdict(SequenceGaps)
        self._last: dict[str, float] = {}
        self._started = clock()

    def add_image(self, message: Any, info: Mapping[str, Any] | None = None) -> None:
        """Take an Image or CompressedImage."""
        arrival = self._arrived("image", message, info)
        pairs = self.synchroniser.add_image(stamp_ns(message.header.stamp), arrival)
        self._hand_over(pairs)

    def add_points(self, message: Any, info: Mapping[str, Any] | None = None) -> None:
        """Take a PointCloud2."""
        arrival = self._arrived("points", message, info)
        pairs = self.synchroniser.add_points(stamp_ns(message.header.stamp), arrival)
        self._hand_over(pairs)

    def note(self, name: str, info: Mapping[str, Any] | None = None) -> None:
        """Count a message of an input that is not matched, such as camera_info."""
        self._arrived(name, None, info)

    def poll(self) -> None:
        """Hand over pairs that have waited long enough for a nearer partner."""
        self._hand_over(self.synchroniser.poll())

    def silent_for(self, name: str) -> float:
        """Give the seconds since the last message of an input, or since all began."""
        return self._clock() - self._last.get(name, self._started)

    def has_come(self, name: str) -> bool:
        """Tell whether an input has brought any message."""
        return name in self._last

    def _arrived(self, name: str, message: Any, info: Mapping[str, Any] | None) -> Arrival:
        now = self._clock()
        self._last[name] = now
        self._statistics.count(f"received.{name}")
        number = (info or {}).get("publication_sequence_number")
        if number is not None:
            with self._lock:
                lost = self._gaps[name].lost_before(number)
            if lost:
                self._statistics.drop("lost_in_transport", lost)
        return Arrival(message, now)

    def _hand_over(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            self._statistics.count("matched")
            self._on_pair(pair)
