"""The thread that does the work, so that receiving messages never waits for it.

Not here: what the work is. No ROS is needed; look next at `pipeline.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Worker:
    """Run one job at a time, always the newest; older ones that wait are replaced.

    A slow network therefore drops pairs, and never builds a queue whose delay grows.
    """

    def __init__(
        self,
        work: Callable[[Any], None],
        *,
        on_superseded: Callable[[Any], None],
        on_error: Callable[[Exception], None],
        name: str = "worker",
    ) -> None:
        """Prepare the thread; `start` runs it.

        Args:
            work: called with each job in the worker's thread.
            on_superseded: called with a job that a newer one replaced before its turn.
            on_error: called with whatever `work` raised; the worker goes on.
            name: of the thread.
        """
        self._work = work
        self._on_superseded = on_superseded
        self._on_error = on_error
        self._condition = threading.Condition()
        self._waiting: list[Any] = []
        self._is_working = False
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Any) -> None:
        """Hand over a job; returns at once."""
        with self._condition:
            if self._is_stopped:
                return
            superseded, self._waiting = self._waiting, [job]
            self._condition.notify_all()
        for old in superseded:
            self._on_superseded(old)

    def has_newer(self) -> bool:
        """Tell the running job whether another one waits."""
        return bool(self._waiting)

    @property
    def is_stopped(self) -> bool:
        """Tell the running job that it should come to an end."""
        return self._is_stopped

    def drain(self, timeout: float) -> bool:
        """Wait until nothing runs or waits.

        Returns:
            False if that took longer than `timeout` seconds.
        """
        with self._condition:
            return self._condition.wait_for(
                lambda: not (self._waiting or self._is_working), timeout=timeout
            )

    def stop(self, timeout: float = 5.0) -> bool:
        """End the thread after the running job; a waiting one is forgotten.

        Returns:
            False if the running job took longer than `timeout` seconds; the thread then ends
            with it.
        """
        with self._condition:
            self._is_stopped = True
            self._waiting = []
            self._condition.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._is_stopped)
                if self._is_stopped:
                    return
                job = self._waiting.pop()
                self._is_working = True
            # The one door in the node where anything may come out: one bad frame, or a defect
            # in a backend, must not end the node.
            try:
                self._work(job)
            except Exception as error:
                self._on_error(error)
            finally:
                del job
                with self._condition:
                    self._is_working = False
                    self._condition.notify_all()
