"""Match images and clouds by their stamps, and count what finds no partner.

Not here: subscriptions and the worker that takes the pairs (`node/`), and the words for a
synchroniser that stays silent (`silence.py`).
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..settings import SyncSettings
from .silence import explain_silence, nearest_offsets
from .waiting import MAX_LATE_NS, MEMORY, SECOND_NS, InputCounts, Message, WaitingInput


@dataclass(frozen=True)
class Pair:
    """Hold one image and one cloud that belong together.

    Attributes:
        image, points: what was handed in.
        image_stamp, points_stamp: nanoseconds, as handed in.
        offset: seconds from the image to the cloud, after both time offsets of the settings.
    """

    image: Any
    points: Any
    image_stamp: int
    points_stamp: int
    offset: float


@dataclass(frozen=True)
class SyncCounts:
    """Count what a synchroniser did since it was made.

    Attributes:
        image, points: per input.
        drops: messages by reason. `bad_stamp` and `time_jump` count both inputs; `unsynchronised`
            the ones that should have given an output: clouds, with policy latest images.
        time_jumps: how often stamps ran backwards.
        median_offset: seconds from image to cloud of the last matched pairs, after both time
            offsets; None before the first.
        nearest_offset: the same between each of the last clouds and its nearest image, whether
            they match or not.
    """

    image: InputCounts
    points: InputCounts
    drops: Mapping[str, int]
    time_jumps: int
    median_offset: float | None
    nearest_offset: float | None


class Synchroniser:
    """Match by stamp: give every message to `add_image` or `add_points`, take the pairs back.

    Policies:

    - `exact`: equal stamps.
    - `approximate`: for each cloud the nearest image within `slop` (inclusive). Nearest pairs go
      first and each message is used once, so no two outputs share a stamp. A pair is given as soon
      as a nearer partner can neither come by the stamps seen so far nor by the measured period of
      its input. A partner that is awaited in vain is given up by `poll` alone, so that without it
      the pairs of a recording depend on nothing but its stamps.
    - `latest`: for each image the newest cloud, if their stamps differ by at most `timeout`.

    Zero stamps are dropped, repeated ones ignored, late messages sorted in. When stamps run
    backwards, as in a looped bag, what still waits is matched as well as it can be, the rest is
    dropped, and matching starts afresh. Stamps are nanoseconds. All methods may be called from
    any thread.
    """

    def __init__(
        self, settings: SyncSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start empty.

        Args:
            settings: policy, slop and the like.
            clock: seconds on a clock that never jumps, for `poll` and the watchdog. It is not
                compared with stamps.
        """
        self.settings = settings or SyncSettings()
        size, slop = self.settings.queue_size, self.settings.slop
        # Before it is measured, a period is taken to be no shorter than the slop: the very first
        # pair then waits only if it is a poor one.
        self.images = WaitingInput("image", self.settings.image_time_offset, size, slop)
        self.points = WaitingInput("points", self.settings.points_time_offset, size, slop)
        self._inputs = (self.images, self.points)
        self._slop = round(slop * SECOND_NS)
        if self.settings.policy == "exact":
            self._slop = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._drops = {"unsynchronised": 0, "bad_stamp": 0, "time_jump": 0}
        self._offsets: deque[int] = deque(maxlen=MEMORY)
        self._jump_times: deque[float] = deque(maxlen=MEMORY)
        self._time_jumps = 0
        self._started = clock()
        self._last_match: float | None = None

    def add_image(self, stamp: int, image: Any) -> list[Pair]:
        """Take an image as it arrives.

        Args:
            stamp: nanoseconds, of its header.
            image: anything; it is handed back in a pair.

        Returns:
            The pairs that are now certain, oldest first.
        """
        return self._add(self.images, self.points, stamp, image)

    def add_points(self, stamp: int, points: Any) -> list[Pair]:
        """Take a cloud as it arrives.

        Args:
            stamp: nanoseconds, of its header.
            points: anything; it is handed back in a pair.

        Returns:
            The pairs that are now certain, oldest first.
        """
        return self._add(self.points, self.images, stamp, points)

    def poll(self, now: float | None = None) -> list[Pair]:
        """Give up waiting for partners that do not come; call it every few 10 ms.

        Args:
            now: seconds of `clock`; None asks it.

        Returns:
            The pairs that have waited long enough, oldest first.
        """
        with self._lock:
            now = self._clock() if now is None else now
            return self._matched(now, gives_up=True)

    def flush(self) -> list[Pair]:
        """Match what still waits, at the end of a recording.

        Returns:
            The remaining pairs, oldest first.
        """
        with self._lock:
            return self._matched(self._clock(), is_end=True)

    def counts(self) -> SyncCounts:
        """Give what was received, matched and dropped so far, and how far apart the stamps are."""
        with self._lock:
            nearest = nearest_offsets(self.images.recent, self.points.recent)
            return SyncCounts(
                self.images.counts(),
                self.points.counts(),
                dict(self._drops),
                self._time_jumps,
                _median_seconds(self._offsets),
                _median_seconds(nearest),
            )

    def silent_inputs(self, now: float | None = None) -> tuple[str, ...]:
        """Name the inputs (`image`, `points`) from which nothing came for `watchdog` seconds."""
        now = self._clock() if now is None else now
        with self._lock:
            return tuple(
                source.name
                for source in self._inputs
                if source.is_silent(now, self._started, self.settings.watchdog)
            )

    def explain(self, now: float | None = None) -> str | None:
        """Say why nothing has matched for `watchdog` seconds.

        Args:
            now: seconds of `clock`; None asks it.

        Returns:
            One line: what was found, what was expected, what to do; None if pairs come.
        """
        now = self._clock() if now is None else now
        with self._lock:
            since = self._started if self._last_match is None else self._last_match
            if now - since < self.settings.watchdog:
                return None
            jumps = sum(jump >= since for jump in self._jump_times)
            return explain_silence(self.settings, self.images, self.points, now, since, jumps)

    def _add(
        self, own: WaitingInput, other: WaitingInput, header_stamp: int, item: Any
    ) -> list[Pair]:
        with self._lock:
            now = self._clock()
            message = own.arrive(int(header_stamp), item, now)
            if message is None:
                self._drops["bad_stamp"] += 1
                return []
            pairs = []
            if own.jumps_back(message.stamp):
                pairs = self._matched(now, is_end=True)
                self._time_jumps += 1
                self._jump_times.append(now)
                # What the other input brought from after the jump stays.
                dropped = own.forget() + other.forget(after=message.stamp + MAX_LATE_NS)
                self._drops["time_jump"] += dropped
            if own.is_duplicate(message.stamp):
                return pairs
            if self.settings.policy == "latest":
                return pairs + self._matched_latest(own, message, now)
            own.keep(message)
            return pairs + self._matched(now)

    def _matched(self, now: float, *, gives_up: bool = False, is_end: bool = False) -> list[Pair]:
        """Take the nearest pairs first; a pair that may still be bettered keeps both waiting."""
        if self.settings.policy == "latest":
            return []
        candidates = [
            (abs(image.stamp - cloud.stamp), cloud.stamp, image, cloud)
            for cloud in self.points.waiting
            for image in self.images.near(cloud.stamp, self._slop)
        ]
        candidates.sort(key=lambda candidate: candidate[:2])
        leaving = {id(message) for source in self._inputs for message in source.excess()}
        taken: set[int] = set()
        pairs = []
        for distance, _, image, cloud in candidates:
            both = {id(image), id(cloud)}
            if taken & both:
                continue
            taken |= both
            waited = now - max(image.arrival, cloud.arrival) if gives_up else 0.0
            if is_end or leaving & both or self._is_certain(image, cloud, distance, waited):
                pairs.append(self._taken_pair(image, cloud, now))
        for source in self._inputs:
            for message in source.excess():
                dropped = source.drop(message)
                self._drops["unsynchronised"] += dropped if source is self.points else 0
        return sorted(pairs, key=lambda pair: pair.image_stamp)

    def _is_certain(self, image: Message, cloud: Message, distance: int, waited: float) -> bool:
        """Tell whether no nearer image can come for the cloud, and no nearer cloud for the image.

        The second keeps clouds that come more often than images from taking the image that belongs
        to the next cloud.
        """
        return all(
            waited > source.patience() or not source.can_come_nearer(stamp, distance)
            for source, stamp in ((self.images, cloud.stamp), (self.points, image.stamp))
        )

    def _matched_latest(self, own: WaitingInput, message: Message, now: float) -> list[Pair]:
        """Keep the newest cloud, and complete every image with it at once."""
        cloud = self.points.waiting[0] if self.points.waiting else None
        own.keep(message)
        if own is self.points:
            if cloud is not None:
                self.points.drop(min(cloud, message, key=lambda item: item.stamp))
            return []
        timeout = round(self.settings.timeout * SECOND_NS)
        if cloud is None or abs(message.stamp - cloud.stamp) > timeout:
            self._drops["unsynchronised"] += self.images.drop(message)
            return []
        self.images.take(message)
        self.points.matched += not cloud.is_matched
        cloud.is_matched = True
        return [self._pair(message, cloud, now)]

    def _taken_pair(self, image: Message, cloud: Message, now: float) -> Pair:
        self.images.take(image)
        self.points.take(cloud)
        return self._pair(image, cloud, now)

    def _pair(self, image: Message, cloud: Message, now: float) -> Pair:
        offset = cloud.stamp - image.stamp
        self._offsets.append(offset)
        self._last_match = now
        stamps = (image.header_stamp, cloud.header_stamp)
        return Pair(image.item, cloud.item, *stamps, offset=offset / SECOND_NS)


def _median_seconds(offsets: Sequence[int] | deque[int]) -> float | None:
    return statistics.median(offsets) / SECOND_NS if offsets else None
