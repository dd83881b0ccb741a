"""How far to trust the depth that `fill.py` gives: confidence and sigma from a calibrated table.

Not here: how the table was made (`demo/calibrate_fill.py`) and how it is checked
(`evaluation/confidence.py`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import Float32Array
from .fill import Filled, Points, enlarge_grid, find_points, resize_grid

# Nothing can be checked outside the hull of the measurements or far from any: the contract's cap.
UNCHECKED_CONFIDENCE = np.float32(0.2)
# A pixel is far from any measurement if none is within this many of their spacings, neither to the
# sides nor up and down.
FAR_SPACINGS = 8.0
# Spacings above the topmost and below the lowest measurement around a column where the hull ends,
# about the distance of two beams, and spacings to either side that belong to a column.
_HULL_MARGIN = 1.0
_COLUMN_WIDTH = 2.0

# A kernel that falls with this power of the distance turns a sum of weights into a distance.
_KERNEL_POWER = 5.2
_LEAST_SPREAD = np.float32(1e-3)

# Logistic regression of "right" on `confidence_features`, then isotonic tables of its score.
# Constant first, then one weight per feature; confidence and sigma (in tolerances) by score.
# python demo/calibrate_fill.py ../shared/kitti/completion ../shared/kitti/places
_WEIGHTS = (-2.12, -2.53, -1.32, -11.2)
_SCORES = (-4.0, 8.0)
_CONFIDENCE = (
    0.094, 0.0959, 0.11, 0.125, 0.139, 0.189, 0.267, 0.408, 0.561, 0.678, 0.773, 0.811, 0.86,
    0.9, 0.932, 0.961, 0.983, 0.993, 0.997, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999,
)  # fmt: skip
_SIGMA = (
    10, 10, 9.75, 9.51, 9.25, 7.67, 6.17, 5.25, 4.28, 3.16, 2.21, 1.67, 1.22, 0.937, 0.732,
    0.502, 0.349, 0.262, 0.22, 0.193, 0.159, 0.153, 0.153, 0.153, 0.153,
)  # fmt: skip

_STEPS = 256
# Rows and columns of pixels in the cells in which `cap_unchecked` decides.
_CAP_CELL = (2, 2)


def estimate_confidence(filled: Filled) -> tuple[Float32Array, Float32Array]:
    """Predict how likely an estimate is right, and how far off it may be.

    Args:
        filled: result of `fill_depth`.

    Returns:
        Confidence, (H, W) float32: P(abs(error) <= max(0.3 m, 5 % of the true depth)), at most
        0.2 outside the hull of the measurements and where none is within `FAR_SPACINGS` of their
        spacings; and sigma, (H, W) float32 metres, standard deviation of the error.
    """
    cell, shape = filled.surface.cell, filled.points.shape
    score = confidence_scores(filled)
    first, last = _SCORES
    step = np.clip((score - first) * ((_STEPS - 1) / (last - first)), 0, _STEPS - 1)
    index = step.astype(np.uint8)
    confidence = cv2.LUT(index, _CONFIDENCE_TABLE)
    unchecked = _is_unchecked(filled.points, confidence.shape, cell)
    np.minimum(confidence, UNCHECKED_CONFIDENCE, out=confidence, where=unchecked)
    confidence = enlarge_grid(confidence, cell, shape)
    sigma = cv2.LUT(index, _SIGMA_TABLE) * tolerance(np.reciprocal(filled.surface.inverse))
    return confidence, enlarge_grid(sigma, cell, shape)


def cap_unchecked(confidence: Float32Array, sparse: Float32Array) -> Float32Array:
    """Lower the confidence of others, too, where nothing can be checked.

    Args:
        confidence: (H, W) float32.
        sparse: (H, W) metres, 0 = none.

    Returns:
        (H, W) float32, at most 0.2 where `estimate_confidence` gives that, too.
    """
    points = find_points(sparse)
    if points is None:
        return np.asarray(np.minimum(confidence, UNCHECKED_CONFIDENCE))
    height, width = sparse.shape
    rows, columns = _CAP_CELL
    unchecked = _is_unchecked(points, (-(-height // rows), -(-width // columns)), _CAP_CELL)
    cap = np.where(unchecked, UNCHECKED_CONFIDENCE, np.float32(1)).astype(np.float32)
    h, w = cap.shape
    enlarged = cv2.resize(cap, (w * columns, h * rows), interpolation=cv2.INTER_NEAREST)
    return np.asarray(np.minimum(confidence, enlarged[:height, :width]))


def tolerance(depth: Float32Array) -> Float32Array:
    """Give the largest error that counts as right, metres, for depths in metres."""
    largest: Float32Array = np.maximum(depth * np.float32(0.05), np.float32(0.3))
    return largest


def confidence_scores(filled: Filled) -> Float32Array:
    """Weigh the features up: (h, w) float32 on the surface's grid, larger is more certain."""
    features = confidence_features(filled)
    score = np.full(features[0].shape, _WEIGHTS[0], np.float32)
    for weight, feature in zip(_WEIGHTS[1:], features, strict=True):
        score = cv2.scaleAdd(feature, float(weight), score)
    return score


def confidence_features(filled: Filled) -> list[Float32Array]:
    """Say what an error depends on: distance, disagreement, extrapolation.

    Returns:
        (h, w) float32 on the surface's grid each: log of the distance to the measurements that
        decide, in their spacings; log of the measurements' deviation from the local plane, as a
        share of the depth; share of the value that following the slope has added.
    """
    surface, planes = filled.surface, filled.planes
    weight = cv2.log(surface.weight * surface.inverse)
    nearness = np.float32(np.log(np.sqrt(np.prod(surface.cell)) / filled.points.spacing))
    distance = nearness - weight / np.float32(_KERNEL_POWER)
    shape = surface.inverse.shape
    rows, columns = surface.cell
    spread = resize_grid(planes.spread, (planes.cell / rows, planes.cell / columns), shape)
    spread = cv2.log(np.maximum(spread, _LEAST_SPREAD))
    return [distance, spread, np.abs(surface.bend)]


def _is_unchecked(
    points: Points, shape: tuple[int, ...], cell: tuple[int, int]
) -> NDArray[np.bool_]:
    """Tell which cells lie outside the hull of the measurements or far from any of them."""
    row, column = points.y // cell[0], points.x // cell[1]
    spacing = points.spacing / cell[0], points.spacing / cell[1]
    is_near = np.zeros(shape, np.uint8)
    is_near[row, column] = 1
    reach = [2 * int(FAR_SPACINGS * length) + 1 for length in spacing]
    is_near = cv2.dilate(is_near, np.ones(reach, np.uint8))
    unchecked: NDArray[np.bool_] = is_near == 0
    # Points are sorted by row: the last write to a column is its lowest point, or its topmost.
    top = np.full((1, shape[1]), shape[0], np.float32)
    bottom = np.full((1, shape[1]), -1, np.float32)
    top[0, column[::-1]] = row[::-1]
    bottom[0, column] = row
    around = np.ones((1, 2 * int(_COLUMN_WIDTH * spacing[1]) + 1), np.uint8)
    margin = int(_HULL_MARGIN * spacing[0])
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    unchecked |= rows < cv2.erode(top, around) - margin
    unchecked |= rows > cv2.dilate(bottom, around) + margin
    return unchecked


def _tabulate(values: tuple[float, ...]) -> Float32Array:
    at = np.linspace(0, len(values) - 1, _STEPS)
    return np.interp(at, np.arange(len(values)), values).astype(np.float32)


_CONFIDENCE_TABLE = _tabulate(_CONFIDENCE)
_SIGMA_TABLE = _tabulate(_SIGMA)
