"""Frames read ahead and results written behind, while the main thread computes.

Not here: formats (`datasets/`). Interrupts reach the main thread alone, so a file that is being
written is always finished.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..data import Frame, checked_transform
from ..datasets import Calibration, Dataset, open_source
from ..datasets.bag_storage import is_bag
from ..errors import DepthCompletionError, InputError

if TYPE_CHECKING:
    from ..evaluation.trajectory import Trajectory

_READ_AHEAD = 3
_WRITE_BEHIND = 3

Result = TypeVar("Result")


class SourceReader:
    """Read a source in a thread of its own, in order, a few frames ahead.

    One thread opens, reads and closes: bags and HDF5 files do not like to change hands.

    Attributes:
        dataset: for its names and properties; read frames with `read` only.
    """

    def __init__(
        self,
        source: str,
        *,
        motion: str = "none",
        T_camera_lidar: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        """Open the source.

        Args:
            source: path as the user gave it.
            motion: `none`, or `odometry` to undo the motion within each scan by the poses that
                the source holds.
            T_camera_lidar: 16 numbers, row by row, to use instead of the source's extrinsics.
            options: of `open_source`.

        Raises:
            InputError, CalibrationError: as `open_source`, or the source holds no poses, or the
                transform is not rigid.
        """
        self._T_camera_lidar = None
        if T_camera_lidar is not None:
            matrix = np.reshape(T_camera_lidar, (4, 4))
            self._T_camera_lidar = checked_transform(matrix, "--calibration.T_camera_lidar")
            path = Path(source)
            if not options.get("calibration") and path.exists() and is_bag(path):
                # A bag may hold no extrinsics at all; other sources are not read without.
                options["calibration"] = Calibration(T_camera_lidar=self._T_camera_lidar)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
        try:
            opened = self._pool.submit(open_source, Path(source), **options)
            self.dataset: Dataset = opened.result()
            self._trajectory = None if motion == "none" else self._known_trajectory()
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise

    def read(
        self, indices: Iterable[int], get: Callable[[Dataset, int], Result]
    ) -> Iterator[tuple[str, Result | DepthCompletionError]]:
        """Give what `get` makes of each frame, or the error of a frame that cannot be read.

        Args:
            indices: of the frames, in the order to read them.
            get: called in the reader's thread.

        Yields:
            Name and result of each frame.
        """
        waiting: deque[tuple[int, Future[Result]]] = deque()
        todo = iter(indices)
        while True:
            while len(waiting) < _READ_AHEAD and (index := next(todo, None)) is not None:
                waiting.append((index, self._pool.submit(get, self.dataset, index)))
            if not waiting:
                return
            index, future = waiting.popleft()
            try:
                yield self.dataset.names[index], future.result()
            except DepthCompletionError as error:
                yield self.dataset.names[index], error

    def get_frame(self, dataset: Dataset, index: int) -> Frame:
        """Read a frame, for `read`: its scan as `motion` wants it.

        Raises:
            InputError, CalibrationError: it cannot be read.
        """
        frame = dataset[index]
        if self._T_camera_lidar is not None:
            frame = dataclasses.replace(frame, T_camera_lidar=self._T_camera_lidar)
        if self._trajectory is None:
            return frame
        from ..evaluation.trajectory import compensated_frame

        return compensated_frame(frame, self._trajectory, index)

    def _known_trajectory(self) -> Trajectory:
        from ..evaluation.trajectory import known_trajectory

        trajectory = self.call(known_trajectory)
        if trajectory is None:
            msg = f"{self.dataset.path}: found no poses in it, expected them for --motion.source"
            raise InputError(msg)
        return trajectory

    def read_one(self, index: int) -> Frame:
        """Read a single frame.

        Raises:
            InputError, CalibrationError: it cannot be read.
        """
        return self.call(lambda dataset: self.get_frame(dataset, index))

    def call(self, get: Callable[[Dataset], Result]) -> Result:
        """Ask the source for something else, in the reader's thread.

        Raises:
            InputError, CalibrationError: whatever `get` raises.
        """
        return self._pool.submit(get, self.dataset).result()

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.submit(self.dataset.close)
        self._pool.shutdown()


class BackgroundWriter:
    """Write in a thread of its own, a few results behind, and report errors with the next one."""

    def __init__(self) -> None:
        """Start without anything to write."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._waiting: deque[Future[None]] = deque()

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write soon; waits while too much is pending.

        Raises:
            InputError: an earlier result could not be written.
        """
        while len(self._waiting) >= _WRITE_BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(write, *arguments))

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            InputError: something could not be written.
        """
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
