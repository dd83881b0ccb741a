"""What every source of frames has in common.

Not here: a file format (`kitti_raw.py`, `folder.py`, `rosbag2.py`, ...). Look next at
`opening.py`, which tells the formats apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, Frame
from ..errors import CalibrationError, InputError

# A source without stamps is shown at the frequency of most LiDARs. It starts at one second,
# because ROS reads the stamp zero as "not set".
_NOMINAL_START_NS = 1_000_000_000
_NOMINAL_PERIOD_NS = 100_000_000


class Dataset(ABC):
    """A sequence of frames that are read when they are asked for.

    Attributes:
        kind: format of the source: `kitti_raw`, `kitti_depth`, `folder`, `rosbag2`, `nyuv2`.
        path: what was opened.
        names: name of each frame, unique in the source; result files carry it.
        times: (N,) int64 nanoseconds, stamp of each image; nominal 10 Hz where the source has
            none (`has_times` is False then).
        has_measurements: False if frames carry an image and ground truth only; their
            `sparse_depth` is all zero and somebody has to sample measurements (`--hold-out`).
        has_ground_truth: True if `ground_truth` gives a map for at least one frame.
        has_poses: True if `T_world_lidar` gives poses.
        lidar_frame: frame_id for the points; the camera's is `frame.camera.frame_id`.
        skipped: frames that are not in `names` because half of them is missing, with the reason.
    """

    kind: str = ""
    has_times: bool = False
    has_measurements: bool = True
    has_ground_truth: bool = False
    has_poses: bool = False
    lidar_frame: str = "lidar"

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Remember where the source lies and what its frames are called.

        Raises:
            InputError: there is no frame, or two have the same name.
        """
        self.path = path
        self.names: Sequence[str] = tuple(names)
        self.skipped: Mapping[str, str] = {}
        if not self.names:
            msg = f"{path}: found no frame in it"
            raise InputError(msg)
        if len(set(self.names)) != len(self.names):
            twice = next(n for i, n in enumerate(self.names) if n in self.names[:i])
            msg = f"{path}: found two frames called {twice!r}, expected unique names"
            raise InputError(msg)
        self.times: NDArray[np.int64] = (
            _NOMINAL_START_NS + np.arange(len(self.names), dtype=np.int64) * _NOMINAL_PERIOD_NS
        )

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            InputError: its files are missing, damaged or contradict each other; other frames are
                not affected.
            CalibrationError: its calibration cannot be true.
            IndexError: there is no such frame.
        """
        index = self._checked_index(index)
        try:
            return self._read_frame(index)
        except (InputError, CalibrationError) as error:
            if str(self.path) in str(error):
                raise
            msg = f"{self.path}: frame {self.names[index]}: {error}"
            raise type(error)(msg) from error

    def __iter__(self) -> Iterator[Frame]:
        """Read all frames in order; a bad one ends the iteration with its InputError."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Show kind, path and size."""
        return f"<{type(self).__name__} {self.kind} {str(self.path)!r}, {len(self)} frames>"

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read the true depth of one frame.

        Returns:
            (H, W) float32 metres along z, 0 where it is not known; None if the frame has none.

        Raises:
            InputError: the file is there and cannot be read.
        """
        return None

    def T_world_lidar(self, index: int) -> Float64Array | None:
        """Give the pose of the LiDAR at the stamp of its points.

        Returns:
            (4, 4) float64, p_world = T_world_lidar @ p_lidar; the world stands still over one
            source. None if the source has no poses.
        """
        return None

    def close(self) -> None:  # noqa: B027  only some sources hold a file open
        """Let go of open files."""

    def __enter__(self) -> Dataset:
        """Use the source in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of open files."""
        self.close()

    @abstractmethod
    def _read_frame(self, index: int) -> Frame:
        """Read frame `index`, 0 <= index < len(self)."""

    def _checked_index(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            msg = f"frame {index}: expected 0 to {count - 1}"
            raise IndexError(msg)
        return index % count


class JoinedDataset(Dataset):
    """Several sources of one kind, one after the other; names get the part's name in front."""

    def __init__(self, path: Path, parts: Mapping[str, Dataset]) -> None:
        """Join the parts in the order given; keys of `parts` go in front of the frame names."""
        names = [f"{key}_{name}" for key, part in parts.items() for name in part.names]
        super().__init__(path, names)
        self.parts: Sequence[Dataset] = tuple(parts.values())
        self._places = [(part, i) for part in self.parts for i in range(len(part))]
        first = self.parts[0]
        self.kind, self.lidar_frame = first.kind, first.lidar_frame
        self.has_times = all(part.has_times for part in self.parts)
        self.has_measurements = all(part.has_measurements for part in self.parts)
        self.has_ground_truth = any(part.has_ground_truth for part in self.parts)
        # Each part has a world of its own, so that poses of two parts cannot be compared.
        self.has_poses = False
        self.skipped = {
            f"{key}_{name}": why
            for key, part in parts.items()
            for name, why in part.skipped.items()
        }
        if self.has_times:
            self.times = np.concatenate([part.times for part in self.parts])

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read the true depth of one frame; see `Dataset.ground_truth`."""
        part, i = self._places[self._checked_index(index)]
        return part.ground_truth(i)

    def close(self) -> None:
        """Let go of open files of all parts."""
        for part in self.parts:
            part.close()

    def _read_frame(self, index: int) -> Frame:
        from dataclasses import replace

        part, i = self._places[index]
        frame = part[i]
        stamp = int(self.times[index])
        # Nominal stamps of the parts would start again with each part.
        points_stamp = frame.points_stamp if self.has_times else stamp
        return replace(frame, name=self.names[index], stamp=stamp, points_stamp=points_stamp)
