"""What a player plays and when: moments of a source, a timeline, stamps.

Not here: publishing (`kitti_player.py`). No ROS is imported.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..data import Frame
from ..datasets.base import Dataset
from ..errors import DepthCompletionError
from ..settings import PlayerSettings

# Moments that are read and prepared in advance, about 3 MB each.
_PREFETCHED = 4
_NAP_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class Moment:
    """Hold what is published together.

    Attributes:
        time_ns: nanoseconds of the recording at which it is due.
        payload: what the publisher understands, prepared in the reading thread.
        is_frame: True if a frame is complete with it; `~/step` plays up to there.
        problem: why there is no payload; such a moment is reported and skipped.
    """

    time_ns: int
    payload: Any = None
    is_frame: bool = True
    problem: str = ""


@dataclass
class Timeline:
    """Map the time of a recording to a steady clock, with rate, pause and step.

    Attributes:
        rate: speed; may be changed at any time through `set_rate`.
    """

    rate: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _condition: threading.Condition = field(default_factory=threading.Condition)
    _anchor_ns: int = 0
    _anchor: float | None = None
    _is_paused: bool = False
    _is_stopped: bool = False
    _steps: int = 0

    def start(self, time_ns: int) -> None:
        """Let the recording's time be `time_ns` now."""
        with self._condition:
            self._anchor_ns, self._anchor = time_ns, self.clock()

    @property
    def has_started(self) -> bool:
        """Tell whether `start` was called."""
        return self._anchor is not None

    @property
    def is_paused(self) -> bool:
        """Tell whether time stands still."""
        return self._is_paused

    def now(self) -> int:
        """Give the recording's time, nanoseconds."""
        with self._condition:
            return self._now()

    def _now(self) -> int:
        if self._anchor is None or self._is_paused:
            return self._anchor_ns
        return self._anchor_ns + int((self.clock() - self._anchor) * self.rate * 1e9)

    def set_rate(self, rate: float) -> None:
        """Change the speed from now on."""
        with self._condition:
            if self._anchor is not None:
                self._anchor_ns, self._anchor = self._now(), self.clock()
            self.rate = rate
            self._condition.notify_all()

    def pause(self, paused: bool) -> None:
        """Stop time, or let it go on."""
        with self._condition:
            now = self._now()
            self._is_paused = paused
            if self._anchor is not None:
                self._anchor_ns, self._anchor = now, self.clock()
            self._condition.notify_all()

    def step(self) -> None:
        """Let one frame through while paused."""
        with self._condition:
            self._steps += 1
            self._condition.notify_all()

    def end_step(self) -> None:
        """Take back the permission that one `step` gave: its frame is complete."""
        with self._condition:
            self._steps = max(0, self._steps - 1)

    def stop(self) -> None:
        """Wake up and refuse everybody who waits."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify_all()

    def wait_until(self, time_ns: int) -> bool:
        """Wait until the recording's time has come to `time_ns`, or a step allows it at once.

        Returns:
            False if `stop` was called.
        """
        with self._condition:
            while not self._is_stopped:
                if self._is_paused:
                    if self._steps:
                        self._anchor_ns = max(time_ns, self._anchor_ns)
                        return True
                    self._condition.wait(_NAP_SECONDS)
                    continue
                left = (time_ns - self._now()) * 1e-9 / self.rate
                if left <= 0:
                    return True
                self._condition.wait(left)
            return False


@dataclass
class StampMapper:
    """Turn times of the recording into those of the timeline and those that are published.

    The timeline runs on over loops; the recording's time starts again with each.

    Attributes:
        mode: `recorded`, `now` or `continued`, as in `PlayerSettings.stamps`.
        now_ns: the system's time.
        shift: nanoseconds from the recording's time to the timeline's, grows with every loop.
    """

    mode: str
    now_ns: Callable[[], int] = time.time_ns
    shift: int = 0

    def due(self, recorded_ns: int) -> int:
        """Give the timeline's time at which a moment of the recording is due."""
        return recorded_ns + self.shift

    def offset(self, recorded_ns: int) -> int:
        """Give what to add to every stamp of a moment of the recording."""
        if self.mode == "now":
            return self.now_ns() - recorded_ns
        return self.shift if self.mode == "continued" else 0

    def clock(self, timeline_ns: int) -> int:
        """Give the time for /clock that belongs to a time of the timeline."""
        if self.mode == "now":
            return self.now_ns()
        return timeline_ns - (self.shift if self.mode == "recorded" else 0)

    def begin_loop(self, first_ns: int, last_ns: int, period_ns: int) -> None:
        """Continue after a loop: its first moment follows the last one by one period."""
        self.shift += last_ns - first_ns + period_ns


def chosen_range(count: int, settings: PlayerSettings) -> range:
    """Give the indices of the frames to play.

    Args:
        count: frames that the source has.
        settings: with start and end.
    """
    end = count if settings.end < 0 else min(settings.end, count)
    return range(min(settings.start, end), end)


def frame_moments(
    dataset: Dataset, indices: range, prepare: Callable[[Frame], Any]
) -> Iterator[Moment]:
    """Read the frames of a data set as moments; a bad frame is a moment with a problem.

    Args:
        dataset: any source.
        indices: of the frames.
        prepare: turns a frame into the payload.
    """
    for index in indices:
        due = int(dataset.times[index])
        try:
            yield Moment(due, prepare(dataset[index]))
        except DepthCompletionError as error:
            yield Moment(due, problem=f"frame {dataset.names[index]} skipped: {error}")


class Prefetcher:
    """Read moments in a thread of its own, so that publishing is on time."""

    def __init__(self, moments: Callable[[], Iterator[Moment]]) -> None:
        """Start to read.

        Args:
            moments: gives the moments of one run, called in the thread.
        """
        self._queue: queue.Queue[Moment | Exception | None] = queue.Queue(_PREFETCHED)
        self._is_stopped = False
        self._moments = moments
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Moment]:
        """Give the moments in order.

        Raises:
            Exception: whatever broke the source as a whole while it was read; a defect must not
                look like its end.
        """
        while (item := self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def stop(self) -> None:
        """End reading."""
        self._is_stopped = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=_NAP_SECONDS)
            except queue.Empty:
                continue

    def _read(self) -> None:
        try:
            for moment in self._moments():
                if self._is_stopped:
                    return
                self._queue.put(moment)
        except Exception as error:
            self._queue.put(error)
        finally:
            self._queue.put(None)
