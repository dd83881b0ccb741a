"""Whether confidence and sigma tell the truth: sparsification, reliability, coverage.

Not here: the errors themselves (`metrics.py`).
Only pixels with ground truth and an estimate count: where there is no estimate there is nothing
to trust.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data import Float32Array, Float64Array
from .metrics import is_right

_BINS = 10
_STEPS = 100


class Sparsification(NamedTuple):
    """Hold what happens to the RMSE when the least certain pixels are taken away.

    Attributes:
        removed: (S,) share of the pixels taken away, 0 to just under 1.
        rmse_mm: (S,) of the pixels that stay, in the order of the confidence.
        oracle_mm: (S,) the same in the order of the true error, the best there is.
        ause_mm: area between the two curves.
        ause_relative: that area as a share of a random ordering's; 0 is perfect, 1 is worthless.
    """

    removed: Float64Array
    rmse_mm: Float64Array
    oracle_mm: Float64Array
    ause_mm: float
    ause_relative: float


class Reliability(NamedTuple):
    """Hold the sums of a reliability diagram; tables of several frames add up.

    Each is (B,) float64 for B equal bins of the confidence from 0 to 1.
    """

    pixels: Float64Array
    confidence: Float64Array
    right: Float64Array

    def plus(self, other: Reliability) -> Reliability:
        """Add another frame."""
        return Reliability(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def expected_calibration_error(self) -> float:
        """Give the mean distance of confidence and share of right pixels, weighted by pixels."""
        total = self.pixels.sum()
        return float(np.abs(self.confidence - self.right).sum() / total) if total else float("nan")


class Coverage(NamedTuple):
    """Hold how many pixels have an error within one and two sigma; adds up over frames.

    A Gaussian error gives 68.3 % and 95.4 %.
    """

    pixels: int
    within_one: int
    within_two: int

    def plus(self, other: Coverage) -> Coverage:
        """Add another frame."""
        return Coverage(*(a + b for a, b in zip(self, other, strict=True)))


def sparsify(
    depth: Float32Array, truth: Float32Array, trust: Float32Array, steps: int = _STEPS
) -> Sparsification | None:
    """Measure how well an ordering finds the large errors.

    Args:
        depth: (H, W) metres, 0 = no estimate.
        truth: (H, W) metres, 0 = unknown.
        trust: (H, W), larger is more certain: the confidence, or minus sigma.
        steps: points of the curves.

    Returns:
        Curves and areas; None if no pixel has both an estimate and ground truth. Pixels of equal
        trust go in no order: each counts with the mean squared error of its group.

    Source: Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks", ECCV 2018 (AUSE).
    """
    valid = (truth > 0) & (depth > 0)
    if not valid.any():
        return None
    squared = (depth[valid].astype(np.float64) - truth[valid]) ** 2
    kept = len(squared) - (np.arange(steps) * len(squared)) // steps
    rmse = _rmse_of_first(_ordered_by_trust(squared, trust[valid]), kept)
    oracle = _rmse_of_first(np.sort(squared), kept)
    area = float(np.mean(rmse - oracle))
    random_area = float(np.mean(rmse[0] - oracle))
    relative = area / random_area if random_area > 0 else 0.0
    return Sparsification(np.arange(steps) / steps, rmse, oracle, area, relative)


def reliability(
    depth: Float32Array, truth: Float32Array, confidence: Float32Array, bins: int = _BINS
) -> Reliability:
    """Count, by confidence, how many estimates are right.

    Args:
        depth: (H, W) metres, 0 = no estimate.
        truth: (H, W) metres, 0 = unknown.
        confidence: (H, W) in [0, 1].
        bins: equal parts of [0, 1]; the last one includes 1.

    Returns:
        Sums per bin of pixels, of their confidence and of those that are right.
    """
    valid = (truth > 0) & (depth > 0)
    c = confidence[valid].astype(np.float64)
    right = is_right(depth[valid], truth[valid])
    index = np.minimum((c * bins).astype(np.intp), bins - 1)
    columns = (np.ones_like(c), c, right.astype(np.float64))
    return Reliability(
        *(np.bincount(index, column, minlength=bins).astype(np.float64) for column in columns)
    )


def sigma_coverage(depth: Float32Array, truth: Float32Array, sigma: Float32Array) -> Coverage:
    """Count the pixels whose error is within one and two sigma.

    Args:
        depth: (H, W) metres, 0 = no estimate.
        truth: (H, W) metres, 0 = unknown.
        sigma: (H, W) metres, +inf = no estimate.
    """
    valid = (truth > 0) & (depth > 0)
    error = np.abs(depth[valid].astype(np.float64) - truth[valid])
    s = sigma[valid].astype(np.float64)
    return Coverage(len(error), int((error <= s).sum()), int((error <= 2 * s).sum()))


def _ordered_by_trust(squared: Float64Array, trust: Float32Array) -> Float64Array:
    """Sort squared errors from most to least trusted, evened out among equals."""
    order = np.argsort(-trust, kind="stable")
    squared, trust = squared[order], trust[order]
    starts = np.flatnonzero(np.r_[True, trust[1:] != trust[:-1]])
    sizes = np.diff(np.r_[starts, len(trust)])
    return np.repeat(np.add.reduceat(squared, starts) / sizes, sizes)


def _rmse_of_first(squared: Float64Array, counts: np.ndarray) -> Float64Array:
    """RMSE in millimetres of the first n squared errors, for every n in `counts`."""
    rmse: Float64Array = 1e3 * np.sqrt(np.cumsum(squared)[counts - 1] / counts)
    return rmse
