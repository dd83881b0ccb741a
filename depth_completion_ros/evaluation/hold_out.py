"""Take part of the measurements away and keep it as the truth, where there is no ground truth.

Not here: scoring (`scores.py`). What is held out is what the LiDAR measured, see-through points
included: figures compare methods with each other, they are no absolute errors.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from ..data import Float32Array, Float64Array, Frame
from ..errors import InputError
from ..geometry.projection import project_points, unproject_depth
from ..geometry.transforms import invert_transform

HOLD_OUTS = ("stripes", "points", "patches")

# Random samples that stand for measurements where a frame has ground truth only (NYUv2's number).
DEFAULT_COUNT = 500

# Of the measurements: what `points` takes away without a count, what `patches` takes at least.
_POINTS_SHARE = 0.5
_PATCHES_SHARE = 0.2

_BEAMS_PER_STRIPE = 2
_STRIPES_PER_CYCLE = 4

# Radians of azimuth in which returns of one beam are taken together to find the beams.
_AZIMUTH_BIN = np.deg2rad(1.0)
# Rows; returns farther apart than this belong to different beams.
_SAME_BEAM_ROWS = 1.5
_FEWEST_MEASUREMENTS = 20


def hold_out(
    frame: Frame,
    kind: str,
    *,
    seed: int = 0,
    count: int | None = None,
    ground_truth: Float32Array | None = None,
) -> tuple[Frame, Float32Array]:
    """Split a frame's measurements into those to complete from and those to score on.

    `stripes`: every fourth elevation stripe, two beams high, goes. The elevation of a measured
    pixel is that of its point in the LiDAR frame (in the camera's where the extrinsics are
    unknown); how high a beam is comes from the data (`beam_height`). `points`: a random half of
    the measurements goes, or all but `count`; where a frame has no measurements, `count` random
    pixels of the ground truth (500 by default) take their place and the others are the truth.
    `patches`: random rectangles go until a fifth of the measurements has.

    Args:
        frame: with points or a sparse map. Points are projected first, without any filter.
        kind: `stripes`, `points` or `patches`.
        seed: with the frame's name it decides what is taken.
        count: measurements that stay (`points` only).
        ground_truth: (H, W) float32 metres, 0 = unknown; needed without measurements.

    Returns:
        The frame with fewer measurements, as a sparse map, and (H, W) float32 metres of what was
        taken away, 0 = nothing.

    Raises:
        InputError: unknown kind, or too few measurements to take any away.
    """
    if kind not in HOLD_OUTS:
        msg = f"hold-out: found {kind!r}, expected one of {', '.join(HOLD_OUTS)}"
        raise InputError(msg)
    random = np.random.default_rng([seed, zlib.crc32(frame.name.encode())])
    measured = measured_depth(frame)
    if not measured.any() and ground_truth is not None and kind == "points":
        measured = ground_truth
        count = DEFAULT_COUNT if count is None else count
    total = int(np.count_nonzero(measured))
    if total < _FEWEST_MEASUREMENTS:
        msg = (
            f"hold-out: found {total} measurements, expected {_FEWEST_MEASUREMENTS} or more; "
            "a frame with ground truth only takes 'points'"
        )
        raise InputError(msg)
    if kind == "stripes":
        taken = _stripes(frame, measured, random)
    elif kind == "points":
        taken = _points(measured, random, total - (count or int(total * (1 - _POINTS_SHARE))))
    else:
        taken = _patches(measured, random)
    kept = np.where(taken, np.float32(0), measured)
    target = np.where(taken, measured, np.float32(0))
    rest = dataclasses.replace(frame, points=None, point_times=None, sparse_depth=kept)
    return rest, target


def measured_depth(frame: Frame) -> Float32Array:
    """Give all of a frame's measurements as a map: (H, W) float32 metres, 0 = none."""
    if frame.sparse_depth is not None:
        return frame.sparse_depth
    assert frame.points is not None
    assert frame.T_camera_lidar is not None
    return project_points(frame.points, frame.camera, frame.T_camera_lidar)


def elevations(frame: Frame, measured: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Give azimuth and elevation of every measured pixel as the LiDAR sees it.

    Args:
        frame: gives the camera and `T_camera_lidar`; where that is None the camera takes the
            LiDAR's place.
        measured: (H, W) float32 metres, 0 = none.

    Returns:
        Two (n,) float64 in radians, in the order of `np.nonzero(measured)`: azimuth around the
        vertical axis, elevation above the horizontal plane. REP 103: the LiDAR frame's z is up.
    """
    p = unproject_depth(measured, frame.camera)[measured > 0].astype(np.float64)
    if frame.T_camera_lidar is None:
        p = np.column_stack((p[:, 2], -p[:, 0], -p[:, 1]))
    else:
        T = invert_transform(frame.T_camera_lidar)
        p = p @ T[:3, :3].T + T[:3, 3]
    azimuth = np.arctan2(p[:, 1], p[:, 0])
    return azimuth, np.arctan2(p[:, 2], np.hypot(p[:, 0], p[:, 1]))


def beam_height(azimuth: Float64Array, elevation: Float64Array, row_height: float) -> float:
    """Find the angle between neighbouring beams in the measurements themselves.

    Within one degree of azimuth the elevations of a rotating scanner form clusters, one per beam;
    the median distance of neighbouring clusters is the beams' distance. For scanners without
    rows the result is the usual vertical distance of points, which serves as well.

    Args:
        azimuth, elevation: (n,) float64 radians.
        row_height: radians that one pixel row covers; finer differences are rounding.

    Returns:
        Radians.
    """
    column = np.floor(azimuth / _AZIMUTH_BIN).astype(np.intp)
    order = np.lexsort((elevation, column))
    column, elevation = column[order], elevation[order]
    new = np.r_[True, np.diff(elevation) > _SAME_BEAM_ROWS * row_height]
    new[1:] |= column[1:] != column[:-1]
    cluster = np.cumsum(new) - 1
    centre = np.bincount(cluster, elevation) / np.bincount(cluster)
    same_column = np.diff(column[new]) == 0
    gaps = np.diff(centre)[same_column]
    if not len(gaps):
        return 2 * row_height
    return float(max(np.median(gaps), row_height))


def _stripes(frame: Frame, measured: Float32Array, random: np.random.Generator) -> np.ndarray:
    azimuth, elevation = elevations(frame, measured)
    beam = beam_height(azimuth, elevation, 1.0 / frame.camera.K[1, 1])
    # Counted from the lowest beam's middle; half a beam lower keeps beams off the borders.
    height = (elevation - elevation.min()) / beam + 0.5
    stripe = np.floor(height / _BEAMS_PER_STRIPE).astype(np.intp)
    phase = random.integers(_STRIPES_PER_CYCLE)
    taken = np.zeros(measured.shape, bool)
    taken[measured > 0] = stripe % _STRIPES_PER_CYCLE == phase
    if not taken.any():
        msg = "hold-out stripes: found fewer than four stripes of two beams; try points or patches"
        raise InputError(msg)
    return taken


def _points(measured: Float32Array, random: np.random.Generator, take: int) -> np.ndarray:
    pixels = np.flatnonzero(measured)
    if not 0 < take < len(pixels):
        msg = (
            f"hold-out points: found {len(pixels)} measurements of which {len(pixels) - take} "
            "should stay; expected fewer to stay"
        )
        raise InputError(msg)
    taken = np.zeros(measured.size, bool)
    taken[random.choice(pixels, take, replace=False)] = True
    return taken.reshape(measured.shape)


def _patches(measured: Float32Array, random: np.random.Generator) -> np.ndarray:
    """Cut rectangles, each an eighth by a sixth of the part of the image that is measured."""
    rows, columns = np.nonzero(measured)
    top, left = rows.min(), columns.min()
    height, width = rows.max() - top + 1, columns.max() - left + 1
    patch_height, patch_width = max(1, height // 6), max(1, width // 8)
    taken = np.zeros(measured.shape, bool)
    while np.count_nonzero(taken[rows, columns]) < _PATCHES_SHARE * len(rows):
        # Centred on a measurement, so that every rectangle takes something.
        i = random.integers(len(rows))
        y, x = max(0, rows[i] - patch_height // 2), max(0, columns[i] - patch_width // 2)
        taken[y : y + patch_height, x : x + patch_width] = True
    return taken & (measured > 0)
