"""The interface of everything that completes depth, and the steps they all share.

Not here: how depth is estimated (`classical.py`) and which completer to take (`opening.py`).
Look next at `geometry/projection.py` and `geometry/occlusion.py` for where the sparse map comes
from.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..data import DenseDepth, Float32Array, Frame, PinholeCamera
from ..errors import InputError
from ..geometry.occlusion import filter_sparse
from ..geometry.projection import project_points
from ..settings import ProjectionSettings


class Estimate(NamedTuple):
    """Hold the three maps a completer makes, each (H, W) float32 as in `DenseDepth`."""

    depth: Float32Array
    sigma: Float32Array
    confidence: Float32Array


class Completer(ABC):
    """Turn frames into dense depth; the base of `fill` and of the networks.

    Use it as a context manager, or call `close` when done. A completer serves one thread.

    Attributes:
        name: of the network or method, as `open_completer` takes it.
        backend: what computes, such as `opencv` or `onnxruntime`.
        device: `cpu` or `cuda:N`.
        settings: depth limits and see-through filter; may be replaced between two frames.
        why: how it was chosen where the choice was left open, for log and diagnostics.
    """

    name: str
    backend: str
    device: str
    why: str = ""

    def __init__(self, settings: ProjectionSettings | None = None) -> None:
        """Keep the settings; None takes the defaults."""
        self.settings = settings or ProjectionSettings()
        _keep_freed_memory()

    def complete(self, frame: Frame) -> DenseDepth:
        """Estimate the depth of every pixel, and how far to trust it.

        Args:
            frame: image and measurements; nothing of it is changed.

        Returns:
            Maps of the image's size with the image's stamp, and the seconds each step took.

        Raises:
            InputError: the frame is too small or too large for this completer.
            BackendError: the runtime failed.
        """
        clock = _StageClock()
        uploaded = self.upload(frame)
        clock.end_stage("upload")
        sparse = self.project(uploaded)
        clock.end_stage("project")
        inputs = self.prepare(uploaded, sparse)
        clock.end_stage("prepare")
        output = self.infer(inputs)
        clock.end_stage("infer")
        estimate = self.refine(output, inputs)
        clock.end_stage("refine")
        depth, sigma, confidence = self.download(estimate)
        sparse = self.download_sparse(sparse)
        clock.end_stage("download")
        return DenseDepth(depth, sigma, confidence, sparse, frame.stamp, clock.timings())

    def upload(self, frame: Frame) -> Any:
        """Bring the frame to the device; on the CPU it is there already."""
        return frame

    def project(self, frame: Any) -> Any:
        """Make the sparse map the rest works on: (H, W) float32 metres, 0 = none."""
        return sparse_depth_of(frame, self.settings)

    @abstractmethod
    def prepare(self, frame: Any, sparse: Any) -> Any:
        """Turn frame and sparse map into what `infer` takes."""

    @abstractmethod
    def infer(self, inputs: Any) -> Any:
        """Estimate depth."""

    @abstractmethod
    def refine(self, output: Any, inputs: Any) -> Any:
        """Turn the output into depth, sigma and confidence."""

    def download(self, estimate: Any) -> Estimate:
        """Bring the estimate back from the device; on the CPU it is there already."""
        return Estimate(*estimate)

    def download_sparse(self, sparse: Any) -> Float32Array:
        """Bring the sparse map back from the device."""
        return sparse  # type: ignore[no-any-return]

    def warm_up(self, height: int, width: int) -> None:
        """Allocate and compile what the first frame of this size would have to wait for.

        Args:
            height, width: size of the images to come, in pixels.

        Raises:
            InputError: the size is not positive.
        """
        if height < 1 or width < 1:
            msg = f"warm_up: found size {width}x{height}, expected positive integers"
            raise InputError(msg)
        sparse = np.zeros((height, width), np.float32)
        sparse[height // 2 :: 8, width // 2 :: 8] = 10.0
        image = np.zeros((height, width, 3), np.uint8)
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float64)
        self.complete(Frame(image, PinholeCamera(width, height, K), sparse_depth=sparse))

    def close(self) -> None:  # noqa: B027 - most completers have nothing to give back
        """Give back what was opened; the completer is of no use afterwards."""

    def __enter__(self) -> Completer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Completer {self.name} on {self.backend} ({self.device})>"


def sparse_depth_of(frame: Frame, settings: ProjectionSettings) -> Float32Array:
    """Give a frame's measurements as a map, without those the camera cannot see.

    Args:
        frame: with points, which are projected, or with a sparse map, which is copied.
        settings: depth limits and see-through filter.

    Returns:
        (H, W) float32 metres along z, 0 = no measurement.
    """
    low, high = settings.min_depth, settings.max_depth
    if frame.points is not None and frame.T_camera_lidar is not None:
        sparse = project_points(
            frame.points, frame.camera, frame.T_camera_lidar, min_depth=low, max_depth=high
        )
    else:
        given = frame.sparse_depth
        assert given is not None  # Frame holds exactly one of the two.
        sparse = np.where((given >= low) & (given <= high), given, np.float32(0))
    return filter_sparse(sparse, frame.camera, settings.occlusion_filter, frame.T_camera_lidar)


def _keep_freed_memory() -> None:
    """Let the C library keep what a frame frees for the next one.

    glibc gives large blocks back to the kernel, and the next frame pays for every page anew: up to
    half of the time of a fill. Freeing a block just below its limit of 32 MiB raises the size from
    which on it does so. Elsewhere this does nothing.
    """
    np.empty(31 << 20, np.uint8)


class _StageClock:
    """Measure consecutive stages; their sum is the total."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def end_stage(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] = now - self._last
        self._last = now

    def timings(self) -> dict[str, float]:
        return {**self._seconds, "total": self._last - self._start}
