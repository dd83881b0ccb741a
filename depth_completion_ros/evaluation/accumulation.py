"""Semi-dense ground truth: many scans of a static world, seen from one of them.

Not here: where the scans were taken (`trajectory.py`).
The centre scan is the witness: what other scans add must agree with it, because it alone was
taken when the image was. A point that cannot be checked is left out, so what is written is sparse
at edges, on moving things and above the top beam.

Source: Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017 (accumulate 11 scans, check for
consistency), here checked against the centre scan and the other scans instead of stereo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, PinholeCamera
from ..geometry.occlusion import filter_sparse
from ..geometry.projection import project_points, unproject_depth, visible_pixels
from ..geometry.transforms import invert_transform

IndexArray = NDArray[np.intp]

# Two depths agree within the larger of these.
_AGREE_ABSOLUTE = 0.3
_AGREE_RELATIVE = 0.03
# Pixels around a point (columns, rows) in which the centre scan must confirm it; rows of a
# 64-beam scanner are about five pixels apart in a KITTI image.
_CONFIRM_REACH = (4, 6)
# Where the centre scan has nothing nearby: scans that must agree, and how near (pixels).
_WITNESSES = 3
_WITNESS_REACH = 2
_SURROUNDINGS = (25, 20)
_BLOCK = 5

# Metres that a point covers to the sides, and up and down; at most so many pixels.
_FOOTPRINT = (0.06, 0.035)
_FOOTPRINT_LIMIT = (4, 2)
# Hidden is what lies behind the z-buffer by more than this.
_HIDDEN_ABSOLUTE = 0.15
_HIDDEN_RELATIVE = 0.04
# Points of one pixel that are averaged: this close to the nearest.
_SAME_ABSOLUTE = 0.1
_SAME_RELATIVE = 0.015

# Directions from another scan's place, in bins of this size, for seeing through things.
_DIRECTION_BIN = np.deg2rad(0.4)
_THROUGH_ABSOLUTE = 0.5
_THROUGH_RELATIVE = 0.05
_THROUGH_SCANS = 2
# A moving thing shows as a cluster: this share of at least so many points around one (pixels).
_MOVING_REACH = 8
_MOVING_SHARE = 0.3
_MOVING_POINTS = 4
# Accumulated points are dropped this close (columns, rows) to a moving thing.
_MOVING_MARGIN = (30, 20)


@dataclass(frozen=True)
class Scan:
    """Hold one motion-compensated scan.

    Attributes:
        points: (N, 3) float32 metres, LiDAR frame, without returns of the own vehicle.
        T_world_lidar: (4, 4) pose at the scan's stamp.
    """

    points: Float32Array
    T_world_lidar: Float64Array


@dataclass
class _Cloud:
    """Hold points as the centre camera sees them; `scan` counts the scans from 0."""

    row: IndexArray
    column: IndexArray
    z: Float32Array
    scan: IndexArray

    def where(self, keep: NDArray[np.bool_]) -> _Cloud:
        return _Cloud(self.row[keep], self.column[keep], self.z[keep], self.scan[keep])


def accumulate_depth(
    centre: Scan,
    others: Sequence[Scan],
    camera: PinholeCamera,
    T_camera_lidar: Float64Array,
    *,
    max_depth: float = 85.0,
) -> Float32Array:
    """Add what other scans saw to the depth of one scan, where it can be trusted.

    Args:
        centre: scan of the frame.
        others: scans before and after it, in any order.
        camera: of the frame.
        T_camera_lidar: (4, 4) rigid.
        max_depth: metres; farther points are dropped.

    Returns:
        (H, W) float32 metres along z, 0 = unknown.
    """
    own = project_points(centre.points, camera, T_camera_lidar, max_depth=max_depth)
    own = filter_sparse(own, camera, T_camera_lidar=T_camera_lidar)
    cloud = _seen_from(centre, others, camera, T_camera_lidar, max_depth)
    cloud = cloud.where(_is_confirmed(cloud, own))
    moving = _moving_depth(own, centre, others, camera, T_camera_lidar)
    cloud = cloud.where(cloud.z < moving[cloud.row, cloud.column] - _AGREE_ABSOLUTE)
    cloud = _with_own(cloud, own, len(others))
    cloud = cloud.where(~_is_hidden(cloud, camera))
    return _mean_of_nearest(cloud, own)


def _seen_from(
    centre: Scan,
    others: Sequence[Scan],
    camera: PinholeCamera,
    T_camera_lidar: Float64Array,
    max_depth: float,
) -> _Cloud:
    """Project all other scans into the centre camera."""
    T_camera_world = T_camera_lidar @ invert_transform(centre.T_world_lidar)
    parts = []
    for number, scan in enumerate(others):
        row, column, z = visible_pixels(scan.points, camera, T_camera_world @ scan.T_world_lidar)
        parts.append(_Cloud(row, column, z, np.full(len(z), number, np.intp)))
    row, column, scan_number = (
        np.concatenate([getattr(p, name) for p in parts] or [np.zeros(0, np.intp)])
        for name in ("row", "column", "scan")
    )
    z = np.concatenate([p.z for p in parts] or [np.zeros(0, np.float32)])
    return _Cloud(row, column, z, scan_number).where((z > 0.5) & (z <= max_depth))


def _is_confirmed(cloud: _Cloud, own: Float32Array) -> NDArray[np.bool_]:
    """Tell which points the centre scan confirms, or several others where it has nothing."""
    confirmed = _agrees_nearby(cloud, own, _CONFIRM_REACH) | _lies_on_surface(cloud, own)
    has_own = _dilated(own > 0, _CONFIRM_REACH)[cloud.row, cloud.column]
    unseen = np.flatnonzero(~confirmed & ~has_own)
    if not len(unseen):
        return confirmed
    candidates = cloud.where(np.isin(np.arange(len(cloud.z)), unseen))
    confirmed[unseen] = _has_witnesses(candidates, cloud, own.shape) & ~_is_behind_surroundings(
        candidates, own
    )
    return confirmed


def _agrees_nearby(cloud: _Cloud, depth: Float32Array, reach: tuple[int, int]) -> np.ndarray:
    """Tell which points have a value of a map that agrees with them within some pixels."""
    across, down = reach
    padded = np.pad(depth, ((down, down), (across, across)))
    tolerance = _tolerance(cloud.z)
    agrees = np.zeros(len(cloud.z), np.bool_)
    for dy in range(2 * down + 1):
        for dx in range(2 * across + 1):
            near = padded[cloud.row + dy, cloud.column + dx]
            agrees |= np.abs(near - cloud.z) <= tolerance
    return agrees


def _lies_on_surface(cloud: _Cloud, own: Float32Array) -> NDArray[np.bool_]:
    """Tell which points lie on the plane through the centre scan's points around them.

    Inverse depth of a plane is linear in the pixel, so the plane is a least-squares fit over a
    window, made from box sums for all pixels at once. It counts where at least six points fit to
    2 %: on roads seen at a grazing angle, where neighbouring rows are metres apart.
    """
    import cv2

    rows, columns = np.mgrid[: own.shape[0], : own.shape[1]].astype(np.float64)
    valid = (own > 0).astype(np.float64)
    inverse = np.divide(1.0, own, out=np.zeros(own.shape), where=own > 0)
    size = (2 * _CONFIRM_REACH[0] + 3, 2 * _CONFIRM_REACH[1] + 3)

    def window(values: Float64Array) -> Float64Array:
        sums = cv2.boxFilter(values, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(sums, np.float64)

    n = np.maximum(window(valid), 1e-9)
    u, v, d = (window(valid * x) / n for x in (columns, rows, inverse))
    # Second moments about the window's own mean.
    uu = window(valid * columns**2) / n - u * u
    vv = window(valid * rows**2) / n - v * v
    uv = window(valid * columns * rows) / n - u * v
    ud = window(columns * inverse) / n - u * d
    vd = window(rows * inverse) / n - v * d
    dd = window(inverse**2) / n - d * d
    determinant = uu * vv - uv * uv
    well_posed = (n > 5.5) & (determinant > 1.0)
    safe = np.where(well_posed, determinant, 1.0)
    a, b = (ud * vv - vd * uv) / safe, (vd * uu - ud * uv) / safe
    residual = np.sqrt(np.maximum(dd - a * ud - b * vd, 0))
    predicted = d + a * (columns - u) + b * (rows - v)
    fits = well_posed & (residual < 0.02 * d) & (predicted > 0.3 * d)
    at = (cloud.row, cloud.column)
    surface = 1.0 / np.where(fits, predicted, 1.0)[at]
    on_surface: NDArray[np.bool_] = fits[at] & (np.abs(surface - cloud.z) <= _tolerance(cloud.z))
    return on_surface


def _has_witnesses(candidates: _Cloud, cloud: _Cloud, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell which points three other scans have seen at the same depth."""
    count = np.zeros(len(candidates.z), np.intp)
    reach = (_WITNESS_REACH, _WITNESS_REACH)
    for number in np.unique(cloud.scan):
        seen = cloud.where(cloud.scan == number)
        nearest = np.full(shape, np.inf, np.float32)
        np.minimum.at(nearest, (seen.row, seen.column), seen.z)
        nearest[np.isinf(nearest)] = 0
        count += _agrees_nearby(candidates, nearest, reach) & (candidates.scan != number)
    return count >= _WITNESSES


def _is_behind_surroundings(candidates: _Cloud, own: Float32Array) -> NDArray[np.bool_]:
    """Tell which points have mostly nearer own points around them: dark paint, glass."""
    height, width = (-(-size // _BLOCK) for size in own.shape)
    rows, columns = np.nonzero(own)
    block = (rows // _BLOCK) * width + columns // _BLOCK
    count = np.bincount(block, minlength=height * width)
    depth = np.bincount(block, own[rows, columns], minlength=height * width)
    mean = np.divide(depth, count, out=np.zeros(len(depth)), where=count > 0)
    across, down = (reach // _BLOCK for reach in _SURROUNDINGS)
    padded = np.pad(
        mean.reshape(height, width).astype(np.float32), ((down, down), (across, across))
    )
    nearer, known = np.zeros(len(candidates.z)), np.zeros(len(candidates.z))
    limit = candidates.z - _tolerance(candidates.z)
    row, column = candidates.row // _BLOCK, candidates.column // _BLOCK
    for dy in range(2 * down + 1):
        for dx in range(2 * across + 1):
            near = padded[row + dy, column + dx]
            known += near > 0
            nearer += (near > 0) & (near < limit)
    return nearer > 0.5 * known


def _moving_depth(
    own: Float32Array,
    centre: Scan,
    others: Sequence[Scan],
    camera: PinholeCamera,
    T_camera_lidar: Float64Array,
) -> Float32Array:
    """Give, around every moving thing, the depth from which on nothing accumulated is believed.

    Own points through which other scans saw something farther are not there at other times.

    Returns:
        (H, W) float32 metres, +inf where nothing moves.
    """
    import cv2

    rows, columns = np.nonzero(own)
    points = unproject_depth(own, camera)[rows, columns].astype(np.float64)
    T_world_camera = centre.T_world_lidar @ invert_transform(T_camera_lidar)
    through = np.zeros(len(rows), np.intp)
    for scan in others:
        T = invert_transform(scan.T_world_lidar) @ T_world_camera
        through += _is_seen_through(points @ T[:3, :3].T + T[:3, 3], scan.points)
    marked = np.zeros(own.shape, np.float32)
    marked[rows, columns] = through >= _THROUGH_SCANS
    side = 2 * _MOVING_REACH + 1
    around = cv2.boxFilter(marked, -1, (side, side), normalize=False)
    measured = cv2.boxFilter((own > 0).astype(np.float32), -1, (side, side), normalize=False)
    is_cluster = (around >= _MOVING_POINTS) & (around >= _MOVING_SHARE * measured)
    depth = np.where((marked > 0) & is_cluster, own, np.float32(np.inf)).astype(np.float32)
    kernel = np.ones((2 * _MOVING_MARGIN[1] + 1, 2 * _MOVING_MARGIN[0] + 1), np.uint8)
    return np.asarray(cv2.erode(depth, kernel), np.float32)


def _is_seen_through(points: Float64Array, scan: Float32Array) -> NDArray[np.bool_]:
    """Tell which points a scan would have hit on its way to what it measured.

    Args:
        points: (N, 3) metres in the scan's LiDAR frame.
        scan: (M, 3) float32 metres.
    """
    bins = round(2 * np.pi / _DIRECTION_BIN)

    def direction(xyz: np.ndarray) -> tuple[IndexArray, IndexArray, np.ndarray]:
        distance = np.linalg.norm(xyz, axis=1)
        azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
        elevation = np.arcsin(xyz[:, 2] / np.maximum(distance, 1e-9))
        column = np.floor(azimuth / _DIRECTION_BIN).astype(np.intp) % bins
        row = np.floor(elevation / _DIRECTION_BIN).astype(np.intp) + bins // 4
        return np.clip(row, 0, bins // 2), column, distance

    row, column, distance = direction(scan)
    nearest = np.full((bins // 2 + 3, bins + 2), np.inf)
    np.minimum.at(nearest, (row + 1, column + 1), distance)
    nearest[:, 0], nearest[:, -1] = nearest[:, -2], nearest[:, 1]
    row, column, distance = direction(points)
    # The nearest return of the bins around: a direct neighbour on the thing itself saves it.
    shifts = [(dy, dx) for dy in range(3) for dx in range(3)]
    returned = np.min([nearest[row + dy, column + dx] for dy, dx in shifts], axis=0)
    margin = np.maximum(_THROUGH_ABSOLUTE, _THROUGH_RELATIVE * distance)
    through: NDArray[np.bool_] = np.isfinite(returned) & (returned > distance + margin)
    return through


def _with_own(cloud: _Cloud, own: Float32Array, number: int) -> _Cloud:
    """Add the centre scan as scan `number`."""
    rows, columns = np.nonzero(own)
    return _Cloud(
        np.concatenate((cloud.row, rows)),
        np.concatenate((cloud.column, columns)),
        np.concatenate((cloud.z, own[rows, columns])),
        np.concatenate((cloud.scan, np.full(len(rows), number, np.intp))),
    )


def _is_hidden(cloud: _Cloud, camera: PinholeCamera) -> NDArray[np.bool_]:
    """Tell which points lie behind others, each of which covers a little more than its pixel."""
    import cv2

    shape = (camera.height, camera.width)
    buffer = np.full(shape, np.inf, np.float32)
    halves = [
        np.minimum(np.rint(size * focal / cloud.z).astype(np.intp), limit)
        for size, focal, limit in zip(
            _FOOTPRINT, (camera.K[0, 0], camera.K[1, 1]), _FOOTPRINT_LIMIT, strict=True
        )
    ]
    group = halves[0] * (_FOOTPRINT_LIMIT[1] + 1) + halves[1]
    for number in np.unique(group):
        across, down = divmod(int(number), _FOOTPRINT_LIMIT[1] + 1)
        part = group == number
        nearest = np.full(shape, np.inf, np.float32)
        np.minimum.at(nearest, (cloud.row[part], cloud.column[part]), cloud.z[part])
        kernel = np.ones((2 * down + 1, 2 * across + 1), np.uint8)
        buffer = np.minimum(buffer, cv2.erode(nearest, kernel))
    front = buffer[cloud.row, cloud.column]
    return cloud.z > front * (1 + _HIDDEN_RELATIVE) + _HIDDEN_ABSOLUTE


def _mean_of_nearest(cloud: _Cloud, own: Float32Array) -> Float32Array:
    """Average the nearest points of each pixel; drop what contradicts the own point too much."""
    shape, size = own.shape, own.size
    pixel = cloud.row * shape[1] + cloud.column
    nearest = np.full(size, np.inf, np.float32)
    np.minimum.at(nearest, pixel, cloud.z)
    front = nearest[pixel]
    same = cloud.z <= front + np.maximum(_SAME_ABSOLUTE, _SAME_RELATIVE * front)
    pixel, z, scan = pixel[same], cloud.z[same], cloud.scan[same]
    count = np.bincount(pixel, minlength=size)
    mean = np.bincount(pixel, z.astype(np.float64), minlength=size) / np.maximum(count, 1)
    # Other scans behind each pixel's value, each counted once.
    scans = int(scan.max(initial=0)) + 1
    voters = np.bincount(np.unique(pixel * scans + scan) // scans, minlength=size)
    measured = own.ravel()
    differs = (measured > 0) & (np.abs(mean - measured) > _tolerance(measured))
    mean[differs & (voters < _WITNESSES)] = 0
    return mean.reshape(shape).astype(np.float32)


def _tolerance(z: Float32Array) -> Float32Array:
    limit: Float32Array = np.maximum(_AGREE_ABSOLUTE, _AGREE_RELATIVE * z)
    return limit


def _dilated(mask: NDArray[np.bool_], reach: tuple[int, int]) -> NDArray[np.bool_]:
    import cv2

    kernel = np.ones((2 * reach[1] + 1, 2 * reach[0] + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), np.bool_)
