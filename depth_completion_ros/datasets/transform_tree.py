"""The transforms between the frames of a bag.

Not here: tf in a running system (the node's tf2 buffer), transforms over time.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float64Array, PinholeCamera
from ..errors import CalibrationError
from ..geometry.transforms import invert_transform
from ..messages.transforms import read_transform

# A mounting whose transform changes by more than this is no mounting (metres and radians).
_MOVING = 1e-4
# Two places are the same if they agree to this, in metres; the cameras of a pair stand 60 mm and
# more apart.
_SAME_SHIFT = 5e-3


class TransformTree:
    """The transforms of a bag as a graph."""

    def __init__(self) -> None:
        """Start without any transform."""
        self._edges: dict[str, dict[str, Float64Array]] = {}
        self._moving: set[tuple[str, str]] = set()

    def add(self, msg: Any, *, static: bool) -> None:
        """Take one transform.

        Args:
            msg: anything with the fields of geometry_msgs/TransformStamped.
            static: it comes from tf_static, where the latest counts.
        """
        parent = msg.header.frame_id.lstrip("/")
        child = msg.child_frame_id.lstrip("/")
        T_parent_child = read_transform(msg)
        before = self._edges.get(parent, {}).get(child)
        if before is not None and not static:
            if np.abs(before - T_parent_child).max() > _MOVING:
                self._moving |= {(parent, child), (child, parent)}
            return
        self._edges.setdefault(parent, {})[child] = T_parent_child
        self._edges.setdefault(child, {})[parent] = invert_transform(T_parent_child)

    def connects(self, target: str, source: str) -> bool:
        """Tell whether there is a chain from one frame to the other."""
        return self._chain(target, source) is not None

    def find(self, target: str, source: str, path: Path) -> Float64Array:
        """Give T_target_source by the shortest chain.

        Args:
            target, source: frames, without a slash in front.
            path: of the bag, for messages.

        Returns:
            (4, 4) float64, p_target = T @ p_source.

        Raises:
            CalibrationError: no chain connects them, or a part of it moves.
        """
        chain = self._chain(target, source)
        if chain is None:
            known = ", ".join(sorted(self._edges)) or "no transform at all"
            msg = (
                f"{path}: tf does not connect {target!r} with {source!r} (found {known}); give a "
                "calibration file with T_camera_lidar"
            )
            raise CalibrationError(msg)
        for a, b in pairwise(chain):
            if (a, b) in self._moving:
                msg = (
                    f"{path}: tf between {a!r} and {b!r} moves; give a calibration file with "
                    "T_camera_lidar"
                )
                raise CalibrationError(msg)
        return self._multiply(chain)

    def has_shift(self, camera: PinholeCamera) -> bool:
        """Tell whether the camera stands beside another frame by exactly its own shift.

        Then P's fourth column is in tf already: `camera.shift` counts from that other frame.
        """
        if np.abs(camera.shift).max() < _SAME_SHIFT:
            return False
        for other in self._edges:
            chain = self._chain(camera.frame_id, other)
            if chain is None or len(chain) < 2:
                continue
            T = self._multiply(chain)
            parallel = np.abs(T[:3, :3] - np.eye(3)).max() < 1e-2
            if parallel and np.abs(T[:3, 3] - camera.shift).max() < _SAME_SHIFT:
                return True
        return False

    def _multiply(self, chain: list[str]) -> Float64Array:
        T = np.eye(4)
        for a, b in pairwise(chain):
            T = T @ self._edges[a][b]
        return T

    def _chain(self, start: str, goal: str) -> list[str] | None:
        before = {start: start}
        queue = [start]
        for frame in queue:
            if frame == goal:
                chain = [frame]
                while chain[-1] != start:
                    chain.append(before[chain[-1]])
                return chain[::-1]
            for other in self._edges.get(frame, {}):
                if other not in before:
                    before[other] = frame
                    queue.append(other)
        return None
