"""Background points that the LiDAR sees past a nearer surface's edge.

LiDAR and camera stand apart. Where the LiDAR looks past an edge onto the background, the camera
may see the nearer surface, and the background point lands among that surface's own points.
Not here: points hidden by others on the same pixel (`projection.py` keeps the nearest).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array, Float64Array, PinholeCamera
from ..settings import OcclusionFilterSettings

IndexArray = NDArray[np.intp]

_DEFAULTS = OcclusionFilterSettings()

# A neighbour counts as nearer from this share of the depth on: above range noise, below which
# nothing is won (3 % to 8 % mark the same points of a car scene).
_MARGIN = 0.05

# Extrinsics say how far the two stand apart; scan and image may be taken a moment apart besides.
_BASELINE_TOLERANCE = 1.5

# Cells from a point to the end of its neighbourhood: finer cells cost more and find no more.
_RADIUS = 3
_NEIGHBOURS = np.array(
    [
        (row, column)
        for row in range(-_RADIUS, _RADIUS + 1)
        for column in range(-_RADIUS, _RADIUS + 1)
        if 0 < row * row + column * column <= _RADIUS * _RADIUS + 1
    ]
)


def filter_sparse(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings = _DEFAULTS,
    T_camera_lidar: Float64Array | None = None,
) -> Float32Array:
    """Copy sparse depth without what `see_through_mask` finds.

    Args:
        sparse: (H, W) float32 metres along z, 0 = none.
        camera: model of the map.
        settings: with `enabled` False every value stays.
        T_camera_lidar: (4, 4) rigid; None if nobody knows where the LiDAR stands.

    Returns:
        (H, W) float32 metres along z, 0 = none.
    """
    kept = sparse.copy()
    if settings.enabled:
        kept.ravel()[_hidden_pixels(sparse, camera, settings, T_camera_lidar)] = 0
    return kept


def see_through_mask(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings = _DEFAULTS,
    T_camera_lidar: Float64Array | None = None,
) -> NDArray[np.bool_]:
    """Mark measurements of background that the camera cannot see.

    From the LiDAR's place to the camera's, near points move farther over the image than far ones:
    by the parallax, baseline * (1 / near - 1 / far). A point is marked if nearer ones lie on two
    opposite sides of it, each closer than its parallax: the surface between them has moved across
    the point. Points on a road or a wall stay however steep it is, as the parallax between two
    neighbours on one surface is far smaller than their distance.

    Args:
        sparse: (H, W) float32 metres along z, 0 = none.
        camera: model of the map.
        settings: `gap` and `baseline`; `enabled` is not asked here.
        T_camera_lidar: (4, 4) rigid; lowers the baseline where LiDAR and camera stand closer.

    Returns:
        (H, W) bool, True = background seen past a nearer edge.

    Source: the ordering constraint of stereo vision (Baker and Binford, IJCAI 1981).
    """
    mask = np.zeros(sparse.shape, np.bool_)
    mask.ravel()[_hidden_pixels(sparse, camera, settings, T_camera_lidar)] = True
    return mask


def _hidden_pixels(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings,
    T_camera_lidar: Float64Array | None,
) -> IndexArray:
    """Give the flat indices of what `see_through_mask` marks; few points need a closer look."""
    baseline = settings.baseline
    if T_camera_lidar is not None:
        apart = float(np.linalg.norm(T_camera_lidar[:3, 3] + camera.shift))
        baseline = min(baseline, apart * _BASELINE_TOLERANCE)
    baseline_px = np.float32(baseline * camera.K[0, 0])
    points = _MeasuredPoints.of(sparse, camera)
    grid = _NearestGrid.of(points, camera, settings.gap)
    far = _possibly_hidden(points, grid, baseline_px)
    if len(far) == 0:
        return far
    return points.pixel[far[_is_enclosed(points, grid, far, baseline_px)]]


class _MeasuredPoints(NamedTuple):
    """Hold what is known of the N measured pixels; all arrays are (N,)."""

    pixel: IndexArray  # flat index
    row: IndexArray
    column: IndexArray
    z: Float32Array
    limit: Float32Array  # metres; a neighbour up to this depth is nearer

    @classmethod
    def of(cls, sparse: Float32Array, camera: PinholeCamera) -> _MeasuredPoints:
        flat = sparse.ravel()
        pixel = np.flatnonzero(flat > 0)
        row, column = np.divmod(pixel, camera.width)
        z = flat[pixel]
        return cls(pixel, row, column, z, z * np.float32(1 - _MARGIN))


class _NearestGrid(NamedTuple):
    """Hold the nearest point of each cell of the image, `_RADIUS` cells wider all round."""

    depth: Float32Array  # (rows, columns) metres, inf where no point is
    cell: IndexArray  # (N,) flat index of each point's cell

    @classmethod
    def of(cls, points: _MeasuredPoints, camera: PinholeCamera, gap: float) -> _NearestGrid:
        size = max(1, round(gap * float(camera.K[0, 0]) / (_RADIUS + 0.5)))
        rows = camera.height // size + 1 + 2 * _RADIUS
        columns = camera.width // size + 1 + 2 * _RADIUS
        cell = (points.row // size + _RADIUS) * columns + points.column // size + _RADIUS
        depth = np.full(rows * columns, np.inf, np.float32)
        np.minimum.at(depth, cell, points.z)
        return cls(depth.reshape(rows, columns), cell)


def _possibly_hidden(
    points: _MeasuredPoints, grid: _NearestGrid, baseline_px: np.float32
) -> IndexArray:
    """Find points with nearer ones on both sides, nearer by a parallax of a pixel or more."""
    import cv2

    def nearest_around(rows: int, columns: int, aside: int) -> Float32Array:
        nearest = cv2.erode(grid.depth, np.ones((rows, columns), np.uint8)).ravel()
        return np.maximum(nearest[grid.cell - aside], nearest[grid.cell + aside])

    # Windows of three cells by seven that end where the point's own cell begins.
    whole, aside = 2 * _RADIUS + 1, (_RADIUS + 1) // 2
    beside = nearest_around(whole, _RADIUS, aside)
    above_and_below = nearest_around(_RADIUS, whole, aside * grid.depth.shape[1])
    nearest = np.minimum(beside, above_and_below)
    is_moved = baseline_px * (points.z - nearest) >= nearest * points.z
    return np.flatnonzero(is_moved & (nearest < points.limit))


def _is_enclosed(
    points: _MeasuredPoints,
    grid: _NearestGrid,
    far: IndexArray,
    baseline_px: np.float32,
) -> NDArray[np.bool_]:
    """Tell of each far point whether nearer ones lie within their parallax on opposite sides."""
    near, owner = _nearer_neighbours(points, grid, far)
    z_near, z_far = points.z[near], points.z[far][owner]
    dx = (points.column[near] - points.column[far][owner]).astype(np.float32)
    dy = (points.row[near] - points.row[far][owner]).astype(np.float32)
    in_reach = np.flatnonzero(
        np.sqrt(dx * dx + dy * dy) * z_near * z_far <= baseline_px * (z_far - z_near)
    )
    # Eight directions, the first around +x: opposite are those 135, 180 and 225 degrees apart.
    direction = np.rint(np.arctan2(dy[in_reach], dx[in_reach]) * np.float32(4 / np.pi))
    has_near = np.zeros((8, len(far)), np.bool_)
    has_near[direction.astype(np.intp) % 8, owner[in_reach]] = True
    apart_135, apart_180 = np.roll(has_near, 3, axis=0), np.roll(has_near, 4, axis=0)
    enclosed: NDArray[np.bool_] = np.any(has_near & (apart_135 | apart_180), axis=0)
    return enclosed


def _nearer_neighbours(
    points: _MeasuredPoints, grid: _NearestGrid, far: IndexArray
) -> tuple[IndexArray, IndexArray]:
    """Pair far points with the nearest point of each cell around that is nearer than they.

    Returns:
        Two arrays of one length: index of the nearer point, and which of `far` it belongs to.
    """
    depth, cell = grid.depth.ravel(), grid.cell
    steps = _NEIGHBOURS @ np.array([grid.depth.shape[1], 1])
    is_nearer = depth[cell[far] + steps[:, None]] < points.limit[far]
    step, owner = np.divmod(np.flatnonzero(is_nearer), len(far))
    nearest = np.flatnonzero(points.z == depth[cell])
    point_of = np.zeros(depth.size, np.intp)
    point_of[cell[nearest]] = nearest
    return point_of[cell[far[owner]] + steps[step]], owner
