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

# A point is behind another from this multiple of its depth on: well above range noise.
BEHIND = np.float32(1.05)

# Extrinsics say how far the two stand apart; scan and image are taken a moment apart besides, and
# edges are as wide as the beam. With twice the distance, low robots lose points of the floor.
_BASELINE_TOLERANCE = 1.5

# The neighbourhood of a point is searched in cells, seven wide: finer cells cost more than they
# find. The cells are sorted by direction, which is one of eight, the first around +x.
RADIUS = 3

# Cells: a point may lie anywhere in its cell. With less, a low robot loses points of the floor.
_CELL_TOLERANCE = 0.7


def _neighbour_cells() -> tuple[IndexArray, IndexArray, Float32Array]:
    """Give the cells of a disc as (row, column), the first of each direction, their distances.

    The distances are in cells, and on the safe side by `_CELL_TOLERANCE`.
    """
    row, column = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].reshape(2, -1)
    distance = np.hypot(row, column)
    direction = np.rint(np.arctan2(row, column) * (4 / np.pi)).astype(np.intp) % 8
    order = np.argsort(direction, kind="stable")
    order = order[(distance[order] > 0) & (distance[order] < RADIUS + 0.5)]
    first = np.searchsorted(direction[order], np.arange(8))
    at_most = (distance[order] + _CELL_TOLERANCE).astype(np.float32)
    return np.column_stack((row, column))[order], first, at_most


CELLS, FIRST_OF_DIRECTION, DISTANCE = _neighbour_cells()


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


class Search(NamedTuple):
    """Say in which cells the neighbours of a point are searched, and how far.

    Attributes:
        rows, columns: of the cells, with `RADIUS` empty ones all round.
        cells_per_pixel: at most 1.
        parallax: metres of depth, times the parallax in cells between it and infinity; with 0
            nothing is found.
    """

    rows: int
    columns: int
    cells_per_pixel: np.float32
    parallax: np.float32


def plan_search(
    camera: PinholeCamera,
    settings: OcclusionFilterSettings,
    T_camera_lidar: Float64Array | None,
) -> Search:
    """Divide the image into cells; arguments are those of `see_through_mask`."""
    baseline = settings.baseline
    if T_camera_lidar is not None:
        apart = float(np.linalg.norm(T_camera_lidar[:3, 3] + camera.shift))
        baseline = min(baseline, apart * _BASELINE_TOLERANCE)
    focal_length = float(camera.K[0, 0])
    scale = min(1.0, (RADIUS + 0.5) / (settings.gap * focal_length))
    cells_per_pixel = np.float32(scale)
    rows, columns = (
        int(side * cells_per_pixel) + 1 + 2 * RADIUS for side in (camera.height, camera.width)
    )
    return Search(rows, columns, cells_per_pixel, np.float32(baseline * focal_length * scale))


def cells_of_pixels(pixel: IndexArray, camera: PinholeCamera, search: Search) -> IndexArray:
    """Give the flat index of the cell in which each pixel, a flat index too, lies."""
    row, column = (
        (index.astype(np.float32) * search.cells_per_pixel).astype(np.intp)
        for index in np.divmod(pixel, camera.width)
    )
    cell: IndexArray = row * search.columns + column + RADIUS * (search.columns + 1)
    return cell


def _hidden_pixels(
    sparse: Float32Array,
    camera: PinholeCamera,
    settings: OcclusionFilterSettings,
    T_camera_lidar: Float64Array | None,
) -> IndexArray:
    """Give the flat indices of what `see_through_mask` marks."""
    search = plan_search(camera, settings, T_camera_lidar)
    pixel = np.flatnonzero(sparse.ravel() > 0)
    if search.parallax == 0 or len(pixel) == 0:
        return pixel[:0]
    z = sparse.ravel()[pixel]
    parallax = search.parallax
    cell = cells_of_pixels(pixel, camera, search)
    nearest = np.full(search.rows * search.columns, np.inf, np.float32)
    np.minimum.at(nearest, cell, z)
    grid = nearest.reshape(search.rows, search.columns)
    candidate = _possibly_hidden(grid, cell, z, parallax)
    hidden = _is_enclosed(grid, cell[candidate], z[candidate], parallax)
    return pixel[candidate[hidden]]


def _possibly_hidden(
    nearest: Float32Array, cell: IndexArray, z: Float32Array, parallax: np.float32
) -> IndexArray:
    """Find the few points with nearer ones left and right, or above and below."""
    import cv2

    def nearest_on_both_sides(rows: int, columns: int, aside: int) -> Float32Array:
        window = np.ones((rows, columns), np.uint8)
        nearest_around: Float32Array = cv2.erode(nearest, window).ravel()
        farther: Float32Array = np.maximum(
            nearest_around[cell - aside], nearest_around[cell + aside]
        )
        return farther

    # Windows of three by seven cells that end beside the point's own cell.
    beside = nearest_on_both_sides(2 * RADIUS + 1, 3, 2)
    above_and_below = nearest_on_both_sides(3, 2 * RADIUS + 1, 2 * nearest.shape[1])
    return np.flatnonzero(
        _is_nearer(np.minimum(beside, above_and_below), z, DISTANCE.min(), parallax)
    )


def _is_enclosed(
    nearest: Float32Array, cell: IndexArray, z: Float32Array, parallax: np.float32
) -> NDArray[np.bool_]:
    """Tell of each point whether nearer ones lie within their parallax on opposite sides."""
    steps = CELLS @ np.array([nearest.shape[1], 1])
    around = nearest.ravel()[cell + steps[:, None]]  # (cells, points)
    is_nearer = _is_nearer(around, z, DISTANCE[:, None], parallax)
    toward = np.logical_or.reduceat(is_nearer, FIRST_OF_DIRECTION, axis=0)  # (8, points)
    opposite = np.roll(toward, 4, axis=0) | np.roll(toward, 3, axis=0)  # 180, 135 degrees apart
    enclosed: NDArray[np.bool_] = np.any(toward & opposite, axis=0)
    return enclosed


def _is_nearer(
    near: Float32Array, z: Float32Array, distance: Float32Array | np.float32, parallax: np.float32
) -> NDArray[np.bool_]:
    """Tell whether `distance` is at most parallax * (1 / near - 1 / z), and z clearly behind."""
    is_nearer: NDArray[np.bool_] = near * np.maximum(1 + distance * (z / parallax), BEHIND) <= z
    return is_nearer
