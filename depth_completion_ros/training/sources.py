"""Where training frames come from: several sources, patterns, weights, what has been read.

Not here: file formats (`datasets/`) and what is made of a frame (`samples.py`).
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..data import Float32Array, Frame, PinholeCamera
from ..datasets import Dataset, open_source
from ..errors import InputError
from ..evaluation.hold_out import measured_depth
from .recipe import SourceChoice


class Example(NamedTuple):
    """Hold a frame, read, with its measurements as a map.

    Attributes:
        frame: with `sparse_depth`, rectified; all zero where nothing was measured.
        truth: (H, W) float32 metres, 0 = unknown; None if LiDAR has to be held out.
        name: unique over all sources.
    """

    frame: Frame
    truth: Float32Array | None
    name: str

    def size_in_bytes(self) -> int:
        """Tell about how much memory it takes."""
        return self.frame.image.nbytes + 4 * self.frame.image[..., 0].size * (
            1 if self.truth is None else 2
        )


class Place(NamedTuple):
    """Say which frame of which source."""

    source: int
    number: int


class FramePool:
    """All frames of several sources, and how often each is drawn.

    Attributes:
        places: of every frame that the patterns let through.
        weights: (len(places),) float64.
    """

    def __init__(
        self, choices: Sequence[SourceChoice], folder: Path, *, cache_bytes: int = 0
    ) -> None:
        """Open the sources.

        Args:
            choices: sources and patterns.
            folder: relative paths start here.
            cache_bytes: memory for frames that were read.

        Raises:
            InputError: a source cannot be opened, or no frame of it is left.
        """
        self.choices = tuple(choices)
        self.sources: list[Dataset] = []
        self.places: list[Place] = []
        weights: list[float] = []
        self._cache: OrderedDict[Place, Example] = OrderedDict()
        self._room = cache_bytes
        for number, choice in enumerate(choices):
            dataset = open_source(folder / Path(choice.path).expanduser(), camera=choice.camera)
            self.sources.append(dataset)
            indices = _chosen(dataset, choice)
            self.places += [Place(number, index) for index in indices]
            weights += [choice.weight] * len(indices)
        self.weights = np.asarray(weights)
        if not self.weights.any():
            msg = "sources: all weights are 0, expected one above"
            raise InputError(msg)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.places)

    def name_of(self, place: Place) -> str:
        """Name a source in tables."""
        choice = self.choices[place.source]
        return choice.name or Path(choice.path).name

    def of_source(self, number: int) -> list[Place]:
        """List the frames of one source."""
        return [place for place in self.places if place.source == number]

    def read(self, place: Place) -> Example:
        """Read a frame and its truth, or give what was read before.

        Raises:
            InputError, CalibrationError: it cannot be read.
        """
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place]
        dataset, choice = self.sources[place.source], self.choices[place.source]
        frame = dataset[place.number]
        truth = None if choice.truth == "hold_out" else dataset.ground_truth(place.number)
        if choice.truth == "ground_truth" and truth is None:
            msg = f"{dataset.path}: frame {frame.name} has no ground truth; exclude it"
            raise InputError(msg)
        if truth is not None and truth.shape != frame.image.shape[:2]:
            msg = (
                f"{dataset.path}: frame {frame.name}: found ground truth of "
                f"{truth.shape[1]}x{truth.shape[0]}, expected the size of the image, "
                f"{frame.camera.width}x{frame.camera.height}"
            )
            raise InputError(msg)
        frame, truth = rectified(frame, truth)
        example = Example(frame, truth, f"{place.source}_{dataset.names[place.number]}")
        self._keep(place, example)
        return example

    def draw(self, seed: int, number: int) -> Place:
        """Say which frame the sample `number` of a run is made from.

        With equal weights every frame comes once per epoch, in an order of the epoch's own;
        else frames are drawn by weight.
        """
        if np.all(self.weights == self.weights[0]):
            epoch, position = divmod(number, len(self.places))
            order = np.random.default_rng([seed, 1, epoch]).permutation(len(self.places))
            return self.places[int(order[position])]
        random = np.random.default_rng([seed, 2, number])
        total = np.cumsum(self.weights)
        chosen = int(np.searchsorted(total, random.random() * total[-1], side="right"))
        return self.places[min(chosen, len(self.places) - 1)]

    def close(self) -> None:
        """Close the sources."""
        for source in self.sources:
            source.close()

    def _keep(self, place: Place, example: Example) -> None:
        size = example.size_in_bytes()
        while self._cache and self._room < size:
            _, oldest = self._cache.popitem(last=False)
            self._room += oldest.size_in_bytes()
        if self._room >= size:
            self._cache[place] = example
            self._room -= size


def rectified(frame: Frame, truth: Float32Array | None) -> tuple[Frame, Float32Array | None]:
    """Undo the lens and turn points into a map, so that samples can be cut, turned and mirrored.

    Args:
        frame: any.
        truth: (H, W) metres, or None.

    Returns:
        The frame with `sparse_depth` and an undistorted camera of the same K, and the truth as
        the undistorted image shows it.
    """
    camera = frame.camera
    if not camera.is_distorted:
        map_ = measured_depth(frame)
        return dataclasses.replace(frame, points=None, point_times=None, sparse_depth=map_), truth
    plain = PinholeCamera(
        camera.width, camera.height, camera.K, frame_id=camera.frame_id, shift=camera.shift
    )
    image, columns, rows = _undistorted(frame)
    if frame.points is not None:
        moved = dataclasses.replace(frame, camera=plain)
        sparse = measured_depth(moved)
    else:
        assert frame.sparse_depth is not None
        sparse = _moved_map(frame.sparse_depth, columns, rows)
    return (
        dataclasses.replace(
            frame, image=image, camera=plain, points=None, point_times=None, sparse_depth=sparse
        ),
        None if truth is None else _moved_map(truth, columns, rows),
    )


def _undistorted(frame: Frame) -> tuple[np.ndarray, Float32Array, Float32Array]:
    """Give the image without distortion and, for each old pixel, where it has gone."""
    from ..geometry.camera import distort_normalised, normalised_pixels

    camera = frame.camera
    K = camera.K
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    y = (rows - K[1, 2]) / K[1, 1]
    x = (columns - K[0, 2] - K[0, 1] * y) / K[0, 0]
    bent = distort_normalised(np.column_stack((x.ravel(), y.ravel())), camera)
    u = K[0, 0] * bent[:, 0] + K[0, 1] * bent[:, 1] + K[0, 2]
    v = K[1, 1] * bent[:, 1] + K[1, 2]
    # Pixels without a ray look at nothing.
    u, v = (np.nan_to_num(c, nan=-1e4).reshape(rows.shape).astype(np.float32) for c in (u, v))
    image = cv2.remap(frame.image, u, v, cv2.INTER_LINEAR)
    rays = normalised_pixels(camera).astype(np.float64)
    there = rays @ K[:2, :2].T + K[:2, 2]
    columns32, rows32 = (np.nan_to_num(there[..., i], nan=-1e4) for i in range(2))
    return image, columns32.astype(np.float32), rows32.astype(np.float32)


def _moved_map(depth: Float32Array, columns: Float32Array, rows: Float32Array) -> Float32Array:
    from .augmentation import render

    known = depth > 0
    return render(np.column_stack((columns[known], rows[known])), depth[known], depth.shape)


def _chosen(dataset: Dataset, choice: SourceChoice) -> list[int]:
    """List the frames that the patterns let through."""
    indices = [
        i
        for i, name in enumerate(dataset.names)
        if any(fnmatch.fnmatchcase(name, p) for p in choice.include or ("*",))
        and not any(fnmatch.fnmatchcase(name, p) for p in choice.exclude)
    ]
    if choice.truth == "ground_truth" and not dataset.has_ground_truth:
        indices = []
    if not indices:
        msg = (
            f"{dataset.path}: no frame is left of {len(dataset)}; expected one or more after "
            f"include, exclude and truth: {choice.truth}"
        )
        raise InputError(msg)
    return indices[:: choice.every]
