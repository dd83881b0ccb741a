"""Dense depth from sparse depth by geometry alone: near surfaces first, planes between points.

Not here: how far to trust the result (`fill_confidence.py`).
Everything is done in inverse depth, in which a plane of the world is a plane over the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.floating[Any]]

# Lengths are in multiples of the typical distance of neighbouring points, so that one set of
# numbers serves every scanner and image size. They were chosen on KITTI's `completion` and
# `places` and on other rigs and scenes; KITTI's `validation` had no part in it.

# Every so many points are asked how close their neighbours are.
_SAMPLE = 8
# Columns and rows of the window in which a nearer surface hides what lies between its points.
_WINDOW = (2.0, 3.3)
# It is no wider than this share of the image: where points are farther apart, what lies between
# them is not known to be hidden.
_WIDEST_WINDOW = 0.0065
# A point this much behind the surface that is closed around it was seen through a gap of it.
_HIDDEN = np.float32(0.9)
# Least weight of a point beside a nearer one; else the fourth power of the ratio of depths.
_LEAST_WEIGHT = np.float32(0.01)

# Weight of a pyramid level against the next finer one. A kernel's weight falls with the distance
# to the power of log2(decay) - 2: -5.2 around a value, -6 around a slope.
_VALUE_DECAY = 1 / 9
_SLOPE_DECAY = 1 / 16
# Size of the cells in which slopes are fitted, not below so many pixels (it takes time only), and
# the variance of a position within a cell, in cells: it keeps points close together from deciding.
_CELL = 0.8
_LEAST_CELL = 5.0
_RIDGE = np.float32(0.02)
# A slope changes a value by at most this share of it.
_MOST_BEND = np.float32(0.5)
# A measurement that agrees with the surface to this share stays as it was measured.
_AGREES = np.float32(0.1)

# Values are averaged in cells of so many rows and columns of pixels: in fine ones where points are
# close, in slim ones where they stand in rows, with wider gaps between the rows than along them.
_WIDE_SPACING = 6.0
_CELLS_CLOSE, _CELLS_IN_ROWS, _CELLS_WIDE = (2, 2), (4, 2), (4, 4)
# Points stand in rows if a grid of this cell size, in spacings, has so many times more steps
# between empty and other cells from row to row than from column to column. Random points have a
# ratio of 1, of the scanners at hand those in rows 4.5 to 18 and all others 0.9 to 1.6.
_ROW_CELL = 0.7
_ROW_STEPS = 2.5
# Pixels, of the blur by which measurements correct the interpolated surface around them.
_CORRECTION_BLUR = 1.0

_TINY = np.float32(1e-30)


class Points(NamedTuple):
    """Hold measurements of a map of `shape`.

    Attributes:
        shape: (H, W) of the map.
        pixel: (N,) flat indices.
        x, y: (N,) columns and rows.
        inverse: (N,) float32 inverse depths, 1/m.
        spacing: pixels between neighbours, were they on a square grid, where most points are.
    """

    shape: tuple[int, int]
    pixel: IntArray
    x: IntArray
    y: IntArray
    inverse: Float32Array
    spacing: float


class Planes(NamedTuple):
    """Hold local planes of inverse depth on a coarse grid that starts at the image's corner.

    Attributes:
        slope_x, slope_y: (h, w) float32, 1/m per pixel, shrunk where no plane fits.
        spread: (h, w) float32, deviation from the plane as a share of the value.
        cell: size of a grid cell in pixels.
    """

    slope_x: Float32Array
    slope_y: Float32Array
    spread: Float32Array
    cell: float


class Surface(NamedTuple):
    """Hold the averages of the points around each cell of a grid that starts at the corner.

    Attributes:
        inverse: (h, w) float32 inverse depth, 1/m.
        weight: (h, w) float32 metres, sum of the points' weights: the nearer, the larger.
        bend: (h, w) float32, the share of the value that following the slope has added.
        cell: rows and columns of pixels in a cell.
    """

    inverse: Float32Array
    weight: Float32Array
    bend: Float32Array
    cell: tuple[int, int]


class Filled(NamedTuple):
    """Hold a filled map and what its confidence depends on.

    Attributes:
        depth: (H, W) float32 metres along z, without holes.
        points: the measurements that were used.
        planes, surface: on their grids.
    """

    depth: Float32Array
    points: Points
    planes: Planes
    surface: Surface


def fill_depth(sparse: Float32Array) -> Filled | None:
    """Estimate the depth of every pixel from the measured ones.

    Near surfaces win where the gap between their points is small, planes are continued where the
    points around lie on one, and elsewhere the mean by distance decides. All of it follows the
    scale of the measurements: averages are taken over a pyramid, in which the finest level that
    has points near a pixel has the most say.

    Args:
        sparse: (H, W) float32 metres along z, 0 = none.

    Returns:
        A map without holes, or None if there is no measurement at all.
    """
    points = find_points(sparse)
    if points is None:
        return None
    points, weight = _prefer_near(points)
    planes = _fit_planes(points)
    surface = _average(points, weight, planes)
    inverse = _correct(surface, points, weight)
    depth = np.reciprocal(inverse, out=inverse)
    return Filled(depth, points, planes, surface)


def find_points(sparse: Float32Array) -> Points | None:
    """List the measurements of a map (H, W) in metres, 0 = none; None if there are none."""
    height, width = sparse.shape
    pixel = np.flatnonzero(sparse.ravel() > 0)
    if len(pixel) == 0:
        return None
    y, x = np.divmod(pixel, width)
    # Points are counted in blocks of about sixteen; the median over points, not blocks, ignores
    # the empty parts of the image.
    block = int(max(4 * np.sqrt(height * width / len(pixel)), 4))
    index = (y // block) * (width // block + 1) + x // block
    count = np.median(np.bincount(index)[index[::_SAMPLE]])
    spacing = float(block / np.sqrt(count))
    return Points((height, width), pixel, x, y, np.reciprocal(sparse.ravel()[pixel]), spacing)


def _prefer_near(points: Points) -> tuple[Points, Float32Array]:
    """Drop points seen through a nearer surface, and weigh down those close to one.

    Closing the map of inverse depth (dilation, then erosion) raises what nearer points surround
    and leaves slopes alone.

    Returns:
        The points that stay, and (N,) float32 metres, their weights.
    """
    reach = min(points.spacing, _WIDEST_WINDOW * points.shape[1] / min(_WINDOW))
    window = np.ones([int(side * reach) | 1 for side in reversed(_WINDOW)], np.uint8)
    surrounding = cv2.dilate(_draw(points, points.inverse), window)
    closed = cv2.erode(surrounding, window)
    kept = points.inverse >= _HIDDEN * closed.ravel()[points.pixel]
    points = points._replace(
        pixel=points.pixel[kept], x=points.x[kept], y=points.y[kept], inverse=points.inverse[kept]
    )
    nearest = surrounding.ravel()[points.pixel]
    ratio = points.inverse / nearest
    ratio *= ratio
    # Times the depth: so weighed, the mean of inverse depths is the mean of the depths, which has
    # the least squared error.
    weight: Float32Array = np.maximum(ratio * ratio, _LEAST_WEIGHT) / points.inverse
    return points, weight


def _fit_planes(points: Points) -> Planes:
    """Fit a plane of inverse depth around every cell, by moving least squares.

    Where points scatter around the plane (at an edge, in a bush) its slope says little: it is
    scaled by the share of the variance that the plane explains.
    """
    cell = max(_CELL * points.spacing, _LEAST_CELL)
    h, w = (int(-(-side // cell)) for side in points.shape)
    index = (points.y / cell).astype(np.intp) * w + (points.x / cell).astype(np.intp)
    # From the middle, as float32 would lose the variances beside large squares.
    u = (points.x + 0.5) / cell - w / 2
    v = (points.y + 0.5) / cell - h / 2
    q = points.inverse.astype(np.float64)
    p = 1 / q  # the weight, as in `_prefer_near`
    pu, pv, one = p * u, p * v, np.ones_like(q)

    def average(*values: FloatArray) -> Sequence[Float32Array]:
        sums = _sum_in_cells(index, (h, w), values)
        return cv2.split(_spread_over_scales(sums, _SLOPE_DECAY, 0.8))

    # Names as of means: u, v, q and their products; p * q is one.
    total, mean_u, mean_v, mean_q = average(p, pu, pv, one)
    uu, uv, vv, qq = average(pu * u, pu * v, pv * v, q)
    uq, vq = average(u, v)
    scale = 1 / np.maximum(total, _TINY)
    for sums in (mean_u, mean_v, mean_q, uu, uv, vv, qq, uq, vq):
        sums *= scale
    # From means of products to covariances.
    uu += _RIDGE - mean_u * mean_u
    vv += _RIDGE - mean_v * mean_v
    uv -= mean_u * mean_v
    uq -= mean_u * mean_q
    vq -= mean_v * mean_q
    variance = np.maximum(qq - mean_q * mean_q, 0)
    # Rounding must not make it less than it is for a single point.
    determinant = np.maximum(uu * vv - uv * uv, _RIDGE * _RIDGE)
    slope_u = np.divide(vv * uq - uv * vq, determinant)
    slope_v = np.divide(uu * vq - uv * uq, determinant)
    explained = np.clip(slope_u * uq + slope_v * vq, 0, variance)
    trust = np.divide(explained, np.maximum(variance, _TINY))
    trust *= np.float32(1 / cell)
    spread = np.divide(np.sqrt(variance - explained), np.maximum(mean_q, _TINY))
    return Planes(slope_u * trust, slope_v * trust, spread, cell)


def _average(points: Points, weight: Float32Array, planes: Planes) -> Surface:
    """Average the points around each cell and move the mean along the local plane."""
    cell = rows, columns = _choose_cell(points)
    h, w = -(-points.shape[0] // rows), -(-points.shape[1] // columns)
    index = (points.y // rows) * w + points.x // columns
    u = (points.x + 0.5) / columns - w / 2
    v = (points.y + 0.5) / rows - h / 2
    sums = _sum_in_cells(index, (h, w), (weight, weight * points.inverse, weight * u, weight * v))
    total, mean, mean_u, mean_v = cv2.split(_spread_over_scales(sums, _VALUE_DECAY, 0.6))
    scale = 1 / np.maximum(total, _TINY)
    for sums in (mean, mean_u, mean_v):
        sums *= scale
    ahead_u = np.arange(0.5 - w / 2, w / 2, dtype=np.float32) - mean_u
    ahead_v = np.arange(0.5 - h / 2, h / 2, dtype=np.float32)[:, None] - mean_v
    ratio = planes.cell / rows, planes.cell / columns
    ahead_u *= np.float32(columns)
    ahead_v *= np.float32(rows)
    bend = ahead_u * resize_grid(planes.slope_x, ratio, (h, w))
    bend += ahead_v * resize_grid(planes.slope_y, ratio, (h, w))
    bend /= mean
    np.clip(bend, -_MOST_BEND, _MOST_BEND, out=bend)
    mean += mean * bend
    # Nothing is taken to be nearer or farther than all that was measured.
    np.clip(mean, points.inverse.min(), points.inverse.max(), out=mean)
    return Surface(mean, total, bend, cell)


def _choose_cell(points: Points) -> tuple[int, int]:
    if points.spacing < _WIDE_SPACING:
        return _CELLS_CLOSE
    size = _ROW_CELL * points.spacing
    has_point = np.zeros([int(side / size) + 1 for side in points.shape], np.bool_)
    has_point[(points.y / size).astype(np.intp), (points.x / size).astype(np.intp)] = True
    down = np.count_nonzero(has_point[1:] != has_point[:-1])
    across = np.count_nonzero(has_point[:, 1:] != has_point[:, :-1])
    return _CELLS_IN_ROWS if down > _ROW_STEPS * across else _CELLS_WIDE


def _correct(surface: Surface, points: Points, weight: Float32Array) -> Float32Array:
    """Enlarge the surface to the size of the map and pull it to the measurements.

    Returns:
        (H, W) float32 inverse depth, 1/m.
    """
    inverse = enlarge_grid(surface.inverse, surface.cell, points.shape)
    error = points.inverse - inverse.ravel()[points.pixel]
    blur = (5, 5), _CORRECTION_BLUR
    correction = cv2.GaussianBlur(_draw(points, weight * error), *blur)
    near = cv2.GaussianBlur(_draw(points, weight), *blur)
    # What lies farther off takes part with the weight it has one level up.
    around = np.maximum(surface.weight * np.float32(_VALUE_DECAY), _TINY)
    near += enlarge_grid(around, surface.cell, points.shape)
    correction /= near
    inverse += correction
    np.clip(inverse, points.inverse.min(), points.inverse.max(), out=inverse)
    filled = inverse.ravel()[points.pixel]
    agrees = np.abs(points.inverse - filled) < _AGREES * filled
    inverse.ravel()[points.pixel[agrees]] = points.inverse[agrees]
    return inverse


def enlarge_grid(
    grid: Float32Array, cell: tuple[int, int], shape: tuple[int, int]
) -> Float32Array:
    """Interpolate cells of whole pixels bilinearly at pixels; what sticks out is cut off.

    Args:
        grid: (h, w) float32, large enough for `shape`.
        cell: rows and columns of pixels in a cell.
        shape: (H, W) of the result.
    """
    return np.ascontiguousarray(resize_grid(grid, cell, shape))


def resize_grid(
    grid: Float32Array, cell: tuple[float, float], shape: tuple[int, int]
) -> Float32Array:
    """Interpolate a grid bilinearly at the pixels of another, to within one pixel of them.

    Args:
        grid: (h, w) float32.
        cell: height and width of its cells in pixels of the result, may be fractional; the first
            starts at the corner.
        shape: (H, W) of the result.
    """
    width = max(round(grid.shape[1] * cell[1]), shape[1])
    height = max(round(grid.shape[0] * cell[0]), shape[0])
    resized: Float32Array = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized[: shape[0], : shape[1]]


def _draw(points: Points, values: Float32Array) -> Float32Array:
    image = np.zeros(points.shape, np.float32)
    image.ravel()[points.pixel] = values
    return image


def _sum_in_cells(
    index: IntArray, shape: tuple[int, int], values: Sequence[FloatArray]
) -> Float32Array:
    """Sum values by cell: (h, w, C) float32 from (N,) flat indices and C times (N,) values."""
    size = shape[0] * shape[1]
    sums = [np.bincount(index, v, size).reshape(shape).astype(np.float32) for v in values]
    merged: Float32Array = cv2.merge(sums)
    return merged


def _spread_over_scales(sums: Float32Array, decay: float, sigma: float) -> Float32Array:
    """Add to every cell what lies around it, less and less the farther it is.

    The sum of Gaussians of doubling width, each `decay` times the one before, is a kernel that
    falls with a power of the distance: near points decide where there are some, far ones reach
    everywhere else.

    Args:
        sums: (h, w, C) float32, zero where there are no points.
        decay: weight of a level against the next finer one.
        sigma: cells, of the blur at every level.

    Returns:
        (h, w, C) float32, positive everywhere in a channel that is positive at the points.

    Source: Burt, "Moment images, polynomial fit filters, and the problem of surface
    interpolation", CVPR 1988.
    """
    levels = [sums]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    coarsest = levels.pop()
    spread: Float32Array = coarsest + np.float32(decay) * coarsest.mean(
        axis=(0, 1), dtype=np.float32
    )
    for level in reversed(levels):
        spread = cv2.pyrUp(spread, dstsize=(level.shape[1], level.shape[0]))
        spread = cv2.scaleAdd(spread, decay, cv2.GaussianBlur(level, (3, 3), sigma))
    return spread
