"""Match images and clouds by their stamps, and explain when nothing matches.

Not here: subscriptions and time sources; the node and the bag reader hand in what arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..settings import SyncSettings


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


class Synchroniser:
    """Match by stamp; give each message to `add_image` or `add_points`, take the pairs back."""

    def __init__(
        self, settings: SyncSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start empty."""
        self.settings = settings or SyncSettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._images: dict[int, Any] = {}
        self._points: dict[int, Any] = {}

    def add_image(self, stamp_ns: int, image: Any) -> list[Pair]:
        """Take an image; give the pairs that are now certain."""
        with self._lock:
            self._images[stamp_ns] = image
            return self._match()

    def add_points(self, stamp_ns: int, points: Any) -> list[Pair]:
        """Take a cloud; give the pairs that are now certain."""
        with self._lock:
            self._points[stamp_ns] = points
            return self._match()

    def poll(self, now: float | None = None) -> list[Pair]:
        """Give the pairs that have waited long enough for a nearer partner."""
        return []

    def flush(self) -> list[Pair]:
        """Give what can still be matched at the end of a recording."""
        return []

    def explain(self, now: float | None = None) -> str | None:
        """Say in one line why nothing has matched for `watchdog` seconds; None if all is well."""
        return None

    def _match(self) -> list[Pair]:
        slop = round(self.settings.slop * 1e9)
        pairs = []
        for stamp in sorted(self._points):
            near = min(self._images, key=lambda other: abs(other - stamp), default=None)
            if near is not None and abs(near - stamp) <= slop:
                pair = Pair(
                    self._images.pop(near),
                    self._points.pop(stamp),
                    near,
                    stamp,
                    (stamp - near) * 1e-9,
                )
                pairs.append(pair)
        for queue in (self._images, self._points):
            while len(queue) > self.settings.queue_size:
                del queue[min(queue)]
        return pairs
