"""Make one training sample of one frame: what the network sees, and what it should say.

Not here: which frame is next (`sources.py`) and the steps themselves (`augmentation.py`,
`appearance.py`). A sample follows from the seed and its number alone, so that a run can go on
anywhere, in any number of processes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..completers.base import sparse_depth_of
from ..data import Float32Array, Float64Array, Frame, PinholeCamera
from ..errors import CalibrationError, InputError
from ..evaluation.hold_out import beam_height, elevations
from ..geometry.occlusion import filter_sparse
from ..settings import OcclusionFilterSettings, ProjectionSettings
from . import appearance
from .augmentation import (
    PixelPoints,
    Random,
    View,
    add_range_noise,
    beam_numbers,
    displace_past_edges,
    misalign,
    outside_regions,
)
from .inputs import InputMaker
from .recipe import AugmentationSettings, DataSettings
from .sources import Example, FramePool

_log = logging.getLogger(__name__)

# A crop with less of either teaches nothing.
FEWEST_MEASUREMENTS, FEWEST_TRUTHS = 30, 50
_TRIES = 20
# A crop should hold this share of the truth that its area would have on average.
_FAIR_SHARE = 0.15
# Indoor scenes are judged by 500 random points; these surround it.
_INDOOR_DEPTH = 13.0
_POINT_COUNTS = (200, 300, 500, 500, 1000, 2000)


class Sample(NamedTuple):
    """Hold what one sample is made of.

    Attributes:
        frame: augmented, with `sparse_depth` as the LiDAR gave it.
        truth: (H, W) float32 metres, 0 = unknown.
        is_held_out: True if the truth is the LiDAR's own.
        teacher: (H, W) float32 metres, what a teacher says, 0 = nothing; None without one.
    """

    frame: Frame
    truth: Float32Array
    is_held_out: bool
    teacher: Float32Array | None


class Samples:
    """All samples of a stage by number, as arrays; what torch calls a map-style data set.

    Attributes:
        unusable: how many frames were drawn that could not be used.
    """

    def __init__(
        self,
        pool: FramePool,
        inputs: InputMaker,
        augmentation: AugmentationSettings,
        data: DataSettings,
        *,
        seed: int,
        crop: tuple[float, ...] = (),
        teacher: Callable[[Example], Float32Array] | None = None,
    ) -> None:
        """Keep what samples are made of.

        Args:
            pool: frames.
            inputs: of the network.
            augmentation: what is varied.
            data: limits of depth, see-through filter.
            seed: of the run.
            crop: (height, width) instead of the augmentation's.
            teacher: gives (H, W) metres for a whole frame.
        """
        self._pool, self._inputs = pool, inputs
        self._augmentation = dataclasses.replace(augmentation, crop=crop or augmentation.crop)
        self._settings = ProjectionSettings(
            min_depth=data.min_depth,
            max_depth=data.max_depth,
            occlusion_filter=OcclusionFilterSettings(enabled=data.occlusion_filter),
        )
        self._random_points = data.random_points
        self._seed = seed
        self._teacher = teacher
        self.unusable = 0

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """Make a sample.

        Returns:
            What `InputMaker.arrays` gives, `truth` (1, H, W), `held_out` () and, with a
            teacher, `teacher` (1, H, W).

        Raises:
            InputError: too many frames in a row cannot be used.
        """
        why = ""
        for attempt in range(_TRIES):
            random = np.random.default_rng([self._seed, 3, number, attempt])
            # After a failure some other frame, far from this one's turn in any epoch.
            drawn = self._pool.draw(self._seed, number + attempt * 1_000_003)
            try:
                example = self._pool.read(drawn)
                sample = make_sample(
                    example,
                    self._augmentation,
                    self._settings,
                    random,
                    random_points=self._random_points,
                    teacher=self._teacher,
                )
                arrays = self._arrays(sample)
            except (InputError, CalibrationError) as error:
                self.unusable += 1
                why = str(error)
                _log.warning("left out: %s", why)
                continue
            if arrays is not None:
                return arrays
            why = f"{example.name}: too few measurements or too little truth in a crop"
        msg = f"samples: found {_TRIES} frames in a row that cannot be used; the last one: {why}"
        raise InputError(msg)

    def _arrays(self, sample: Sample) -> dict[str, np.ndarray] | None:
        sparse = sparse_depth_of(sample.frame, self._settings)
        low, high = self._settings.min_depth, self._settings.max_depth
        known = (sample.truth >= low) & (sample.truth <= high)
        if np.count_nonzero(sparse) < FEWEST_MEASUREMENTS or known.sum() < FEWEST_TRUTHS:
            return None
        arrays = self._inputs.arrays(sample.frame, sparse)
        arrays["truth"] = np.where(known, sample.truth, np.float32(0))[None]
        arrays["held_out"] = np.asarray(sample.is_held_out, np.float32)
        if sample.teacher is not None:
            arrays["teacher"] = sample.teacher[None]
        return arrays


def make_sample(
    example: Example,
    settings: AugmentationSettings,
    projection: ProjectionSettings,
    random: Random,
    *,
    random_points: int = 0,
    teacher: Callable[[Example], Float32Array] | None = None,
) -> Sample:
    """Vary a frame and take a crop of it.

    Args:
        example: frame and truth.
        settings: what is varied, how much.
        projection: the see-through filter cleans what is held out of the LiDAR.
        random: decides everything.
        random_points: that a frame without LiDAR is measured at; 0 varies and simulates.
        teacher: gives (H, W) metres for the whole frame.

    Raises:
        InputError: the frame is smaller than can be used, or has nothing to learn from.
    """
    frame = example.frame
    assert frame.sparse_depth is not None
    # Where the LiDAR is only known to stand near the camera, that is what the samples say too.
    measured, truth, held_out = _measurements_and_truth(
        example, settings, projection, random, random_points
    )
    view = _choose_view(frame, truth, settings, random)
    measured, truth = view.of_points(measured), view.of_points(truth)
    camera = view.camera
    if random.random() < settings.regions:
        measured = measured.where(outside_regions(measured, camera, random))
    if settings.lidar_noise:
        deviation = random.uniform(0, settings.lidar_noise)
        measured = add_range_noise(measured, deviation, random)
    if settings.see_through:
        share = random.uniform(0, settings.see_through)
        measured = displace_past_edges(measured, share, camera, random)
    if settings.calibration:
        measured = misalign(measured, camera, settings.calibration, random)
    shape = (camera.height, camera.width)
    image = view.of_image(frame.image)
    image, measured = _vary_picture(image, measured, shape, settings, random)
    sample_frame = dataclasses.replace(
        frame,
        image=image,
        camera=camera,
        T_camera_lidar=view.T_camera_lidar,
        sparse_depth=measured.to_map(shape),
    )
    taught = None if teacher is None else view.of_map(teacher(example))
    return Sample(sample_frame, truth.to_map(shape), held_out, taught)


def _measurements_and_truth(
    example: Example,
    settings: AugmentationSettings,
    projection: ProjectionSettings,
    random: Random,
    random_points: int,
) -> tuple[PixelPoints, PixelPoints, bool]:
    """Split what is known of a frame into what the network sees and what it should say."""
    frame = example.frame
    assert frame.sparse_depth is not None
    if not frame.sparse_depth.any():
        if example.truth is None:
            msg = f"{example.name}: found neither measurements nor ground truth"
            raise InputError(msg)
        measured = _simulated(example.truth, frame, random, random_points)
        return measured, PixelPoints.from_map(example.truth), False
    measured = PixelPoints.from_map(frame.sparse_depth)
    beams = _beams(frame, frame.sparse_depth)
    kept = np.ones(len(measured.z), bool)
    if example.truth is None:
        cleaned = filter_sparse(
            frame.sparse_depth, frame.camera, projection.occlusion_filter, frame.T_camera_lidar
        )
        kept = _held_out(measured, beams, frame.camera, random)
        is_clean = cleaned[frame.sparse_depth > 0] > 0
        truth = measured.where(~kept & is_clean)
    else:
        truth = PixelPoints.from_map(example.truth)
        if random.random() < settings.hold_out:
            kept = _held_out(measured, beams, frame.camera, random)
    kept &= _thinned(measured, beams, settings, random)
    return measured.where(kept), truth, example.truth is None


def _held_out(
    points: PixelPoints, beams: np.ndarray, camera: PinholeCamera, random: Random
) -> np.ndarray:
    """Choose what stays when stripes of beams, points or patches are held out, (N,) bool."""
    kind = random.random()
    if kind < 0.55:
        width, cycle = random.integers(1, 4), random.integers(2, 6)
        phase = random.integers(0, width * cycle)
        return np.asarray(((beams + phase) // width) % cycle != 0)
    if kind < 0.75:
        return np.asarray(random.random(len(points.z)) < random.uniform(0.2, 0.8))
    kept = np.ones(len(points.z), bool)
    for _ in range(int(random.integers(5, 30))):
        u, v = random.uniform(0, camera.width), random.uniform(0, camera.height)
        half = random.uniform(0.02, 0.08) * camera.height
        distance = abs(points.uv - (u, v)) / (random.uniform(1, 3) * half, half)
        kept &= distance.max(axis=1) > 1
    return kept


def _thinned(
    points: PixelPoints, beams: np.ndarray, settings: AugmentationSettings, random: Random
) -> np.ndarray:
    kept = np.ones(len(points.z), bool)
    if random.random() < settings.beams:
        every = int(random.choice((2, 2, 4, 4, 8)))
        kept &= (beams + random.integers(every)) % every == 0
    if random.random() < settings.dropout:
        kept &= random.random(len(points.z)) < random.uniform(0.1, 0.9)
    return kept


def _beams(frame: Frame, measured: Float32Array) -> np.ndarray:
    azimuth, elevation = elevations(frame, measured)
    row = 1 / float(frame.camera.K[1, 1])
    return beam_numbers(elevation, beam_height(azimuth, elevation, row))


def _simulated(truth: Float32Array, frame: Frame, random: Random, wanted: int) -> PixelPoints:
    """Measure a dense map as some LiDAR above the camera would have, or at random points."""
    points = PixelPoints.from_map(truth)
    is_indoors = float(truth.max()) < _INDOOR_DEPTH
    if not is_indoors:
        points = points.where(points.z < 120)
    if wanted or (is_indoors and random.random() < 0.7) or random.random() < 0.2:
        count = min(len(points.z), wanted or int(random.choice(_POINT_COUNTS)))
        chosen = np.sort(random.choice(len(points.z), count, replace=False))
        return points.where(chosen)
    mounting: Float64Array = np.array(
        # LiDAR axes in the optical frame; it stands a little above and behind the camera.
        [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    )
    mounting[:3, 3] = random.uniform((-0.1, -0.4, -0.4), (0.1, 0.1, 0.1))
    near = truth if is_indoors else np.where(truth < 120, truth, np.float32(0))
    _, elevation = elevations(dataclasses.replace(frame, T_camera_lidar=mounting), near)
    row = 1 / float(frame.camera.K[1, 1])
    spacing = max(np.radians(random.uniform(0.2, 1.6)), 2 * row)
    phase = ((elevation / spacing + random.random()) % 1) * spacing
    on_beam = (phase < 1.2 * row) & (random.random(len(points.z)) < random.uniform(0.15, 0.9))
    noise = 1 + random.normal(0, 0.002, len(points.z))
    return PixelPoints(points.uv, (points.z * noise).astype(np.float32)).where(on_beam)


def _choose_view(
    frame: Frame, truth: PixelPoints, settings: AugmentationSettings, random: Random
) -> View:
    view = View.whole(frame.camera, frame.T_camera_lidar)
    camera = frame.camera
    if settings.bottom:
        height, width = (int(n) for n in settings.bottom)
        if height > camera.height or width > camera.width:
            msg = (
                f"{frame.name}: found {camera.width}x{camera.height}, expected at least the "
                f"{width}x{height} of augmentation.bottom"
            )
            raise InputError(msg)
        left = round((camera.width - width) / 2)
        view = view.cropped(left, camera.height - height, width, height)
    zoom = float(np.exp(random.uniform(*np.log(settings.zoom))))
    if settings.largest_width and random.random() < 0.7:
        zoom *= min(1.0, settings.largest_width / view.camera.width)
    crop = (int(settings.crop[0]), int(settings.crop[1])) if settings.crop else None
    if crop:  # what is smaller than the crop is enlarged
        zoom = max(zoom, crop[0] / view.camera.height, crop[1] / view.camera.width)
    if zoom != 1:
        height, width = (
            max(least, round(zoom * side))
            for side, least in zip(
                (view.camera.height, view.camera.width), crop or (16, 16), strict=True
            )
        )
        view = view.zoomed(width, height)
    if settings.metric_scale > 1:
        limit = float(np.log(settings.metric_scale))
        view = view.scaled(float(np.exp(random.uniform(-limit, limit))))
    if random.random() < settings.flip:
        view = view.flipped()
    if settings.rotation:
        view = view.rotated(np.radians(random.uniform(-settings.rotation, settings.rotation)))
    return view if crop is None else _choose_crop(view, truth, crop, random)


def _choose_crop(view: View, truth: PixelPoints, crop: tuple[int, int], random: Random) -> View:
    height, width = crop
    spare = (view.camera.height - height, view.camera.width - width)
    share = height * width / (view.camera.height * view.camera.width)
    chosen = view
    for _ in range(5):
        top, left = (int(random.integers(0, n + 1)) for n in spare)
        chosen = view.cropped(left, top, width, height)
        if len(chosen.of_points(truth).z) > _FAIR_SHARE * share * len(truth.z):
            break
    return chosen


def _vary_picture(
    picture: np.ndarray,
    measured: PixelPoints,
    shape: tuple[int, int],
    settings: AugmentationSettings,
    random: Random,
) -> tuple[np.ndarray, PixelPoints]:
    # All draws are made, whatever comes of them: changing one chance changes nothing else.
    draws = random.random(5)
    chances = (settings.grey, settings.noise, settings.night, settings.rain, settings.fog)
    grey, noise, night, rain, fog = (d < c for d, c in zip(draws, chances, strict=True))
    if not (settings.color or grey or noise or night or rain or fog):
        return picture, measured
    image: Float32Array = picture.astype(np.float32) / np.float32(255)
    if settings.color:
        image = appearance.vary_color(image, settings.color, random)
    if grey:
        image = appearance.remove_color(image)
    about = _roughly_dense(measured, shape) if night or fog else None
    if fog and about is not None:
        visibility = float(np.exp(random.uniform(np.log(30), np.log(400))))
        image = appearance.fog_picture(image, about, visibility)
        measured = appearance.fog_points(measured, visibility, random)
    if night and about is not None:
        image = appearance.darken(image, about, random)
    if rain:
        image = appearance.rain_picture(image, random)
        measured = appearance.rain_points(measured, random)
    if noise:
        image = appearance.degrade(image, random)
    return np.rint(image * 255).astype(np.uint8), measured


def _roughly_dense(points: PixelPoints, shape: tuple[int, int]) -> Float32Array:
    """Give every pixel the nearest measurement, for weather."""
    from ..networks.prefill import fill_nearest

    return fill_nearest(points.to_map(shape))
