"""The messages of one input while they wait for a partner, and the rhythm in which they come.

Not here: what matches what (`synchroniser.py`).
"""

from __future__ import annotations

import bisect
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

SECOND_NS = 1_000_000_000
# Stamps remembered per input to recognise repeated ones and to measure offsets.
MEMORY = 64
# A message this much older than one before it is no late one: time itself went back.
MAX_LATE_NS = SECOND_NS // 2
# As many older ones in a row are no late ones either; this finds the loop of a very short bag.
_MAX_LATE_RUN = 3
# Intervals of which the median is taken as an input's period.
_INTERVALS = 15
# A message is not expected earlier than this part of the period after the one before it.
_EARLY = 0.9
# How long a pair waits for a nearer partner, in periods of the awaited input, and in seconds
# while that period is unknown.
_PATIENCE = 1.5
_FIRST_PATIENCE = 0.2


@dataclass(frozen=True)
class InputCounts:
    """Count the messages of one input: received = matched + unmatched + still waiting.

    `bad_stamps` (zero or negative) and `duplicates` (a stamp seen before) are among `unmatched`.
    """

    received: int
    matched: int
    unmatched: int
    bad_stamps: int
    duplicates: int


@dataclass(eq=False)
class Message:
    """Hold what arrived: the thing itself, its stamps in nanoseconds and when it came.

    `stamp` is what is matched: `header_stamp` plus the time offset of its input. `is_matched` is
    set for a cloud that was used and may be used again (policy latest).
    """

    stamp: int
    header_stamp: int
    item: Any
    arrival: float
    is_matched: bool = False


class WaitingInput:
    """Keep what one input brought: messages that wait, stamps and their rhythm, counts."""

    def __init__(self, name: str, offset: float, queue_size: int, first_period: float) -> None:
        """Start empty.

        Args:
            name: `image` or `points`.
            offset: seconds added to its stamps.
            queue_size: messages that may wait.
            first_period: seconds, the shortest period expected while none is measured.
        """
        self.name = name
        self.waiting: list[Message] = []  # by stamp
        self.recent: deque[int] = deque(maxlen=max(MEMORY, 2 * queue_size))  # by arrival
        self.newest: int | None = None
        self.last_arrival: float | None = None
        self.received = self.matched = self.unmatched = self.bad_stamps = self.duplicates = 0
        self.bad_run = self.duplicate_run = 0
        self._offset_ns = round(offset * SECOND_NS)
        self._queue_size = queue_size
        self._first_period_ns = round(first_period * SECOND_NS)
        self._late_run = 0
        self._stamp_gaps: deque[int] = deque(maxlen=_INTERVALS)
        self._arrival_gaps: deque[float] = deque(maxlen=_INTERVALS)
        self._leads: deque[int] = deque(maxlen=_INTERVALS)

    def arrive(self, header_stamp: int, item: Any, now: float) -> Message | None:
        """Count a message and check its stamp; None if nothing can be done with it."""
        self.received += 1
        if self.last_arrival is not None:
            self._arrival_gaps.append(now - self.last_arrival)
        self.last_arrival = now
        if header_stamp <= 0:
            self.bad_stamps += 1
            self.bad_run += 1
            self.unmatched += 1
            return None
        self.bad_run = 0
        message = Message(header_stamp + self._offset_ns, header_stamp, item, now)
        self._leads.append(message.stamp - round(now * SECOND_NS))
        return message

    def jumps_back(self, stamp: int) -> bool:
        """Tell whether time itself ran backwards, as when a bag starts again."""
        if self.newest is None or stamp >= self.newest:
            self._late_run = 0
            return False
        self._late_run += 1
        return self.newest - stamp > MAX_LATE_NS or self._late_run >= _MAX_LATE_RUN

    def is_duplicate(self, stamp: int) -> bool:
        """Tell whether this stamp came before, and count it."""
        if stamp not in self.recent:
            self.duplicate_run = 0
            return False
        self.duplicates += 1
        self.duplicate_run += 1
        self.unmatched += 1
        return True

    def keep(self, message: Message) -> None:
        """Let a message wait for its partner."""
        bisect.insort(self.waiting, message, key=_stamp_of)
        self.remember(message.stamp)

    def remember(self, stamp: int) -> None:
        """Learn from a stamp where the input is and how often it comes."""
        self.recent.append(stamp)
        if self.newest is None:
            self.newest = stamp
        elif stamp > self.newest:
            self._stamp_gaps.append(stamp - self.newest)
            self.newest = stamp

    def forget(self, after: int | None = None) -> int:
        """Drop messages that wait, all or those after a stamp; give how many were never used."""
        leaving = [m for m in self.waiting if after is None or m.stamp > after]
        dropped = sum([self.drop(message) for message in leaving])
        if after is None:
            self.recent.clear()
            self.newest = None
            self._late_run = 0
        return dropped

    def take(self, message: Message) -> None:
        """Remove a message that found its partner."""
        self.waiting.remove(message)
        self.matched += 1

    def drop(self, message: Message) -> int:
        """Remove a message that waited long enough; give 1 if it was never used, else 0."""
        self.waiting.remove(message)
        self.unmatched += not message.is_matched
        return int(not message.is_matched)

    def excess(self) -> list[Message]:
        """Give the oldest messages for which there is no room."""
        return self.waiting[: max(len(self.waiting) - self._queue_size, 0)]

    def near(self, stamp: int, slop: int) -> list[Message]:
        """Give the messages that wait within `slop` of a stamp, inclusive."""
        first = bisect.bisect_left(self.waiting, stamp - slop, key=_stamp_of)
        last = bisect.bisect_right(self.waiting, stamp + slop, key=_stamp_of)
        return self.waiting[first:last]

    def can_come_nearer(self, stamp: int, distance: int) -> bool:
        """Tell whether a message that is still to come may lie nearer to `stamp`."""
        if self.newest is None:
            return True
        early = self._first_period_ns
        if self._stamp_gaps:
            early = round(_EARLY * statistics.median(self._stamp_gaps))
        return self.newest + early < stamp + distance

    def lead(self) -> int | None:
        """Give how far stamps are ahead of the steady clock, in nanoseconds.

        The number itself means nothing; the difference of two inputs' is that of their clocks plus
        that of their delays.
        """
        return round(statistics.median(self._leads)) if self._leads else None

    def patience(self) -> float:
        """Give the seconds after which a message that is awaited will not come any more."""
        if not self._arrival_gaps:
            return _FIRST_PATIENCE
        return _PATIENCE * statistics.median(self._arrival_gaps)

    def is_silent(self, now: float, started: float, watchdog: float) -> bool:
        """Tell whether nothing came for `watchdog` seconds."""
        since = started if self.last_arrival is None else self.last_arrival
        return now - since >= watchdog

    def counts(self) -> InputCounts:
        """Give the numbers so far."""
        return InputCounts(
            self.received, self.matched, self.unmatched, self.bad_stamps, self.duplicates
        )


def _stamp_of(message: Message) -> int:
    return message.stamp
