"""Errors of dense depth against ground truth, in the units of the benchmarks.

Not here: whether a confidence is true (`confidence.py`) and scores of many frames (`scores.py`).
Every function looks at the pixels that have ground truth (> 0) and at nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data import Float32Array, Float64Array
from ..errors import InputError

# Metres; a pixel belongs to the band that its true depth falls into: low <= truth < high.
DISTANCE_BANDS = (0.0, 10.0, 20.0, 40.0, 80.0, float("inf"))

# What counts as right: the definition of the confidence.
RIGHT_ABSOLUTE = 0.3
RIGHT_RELATIVE = 0.05

_NYU_RATIOS = (1.02, 1.05, 1.10, 1.25, 1.25**2, 1.25**3)


class KittiMetrics(NamedTuple):
    """Hold KITTI's four metrics of one frame and what they do not show.

    Attributes:
        rmse_mm, mae_mm: millimetres; a pixel without an estimate counts with its full depth.
        irmse_per_km, imae_per_km: 1/km of inverse depth; a pixel without an estimate counts as
            infinitely far (inverse depth 0), so leaving pixels out never helps.
        signed_mm: mean of estimate - truth over the estimated pixels; positive = too far.
        estimated_share: share of the ground-truth pixels that have an estimate, in [0, 1].
        pixels: number of ground-truth pixels.
    """

    rmse_mm: float
    mae_mm: float
    irmse_per_km: float
    imae_per_km: float
    signed_mm: float
    estimated_share: float
    pixels: int


class NyuMetrics(NamedTuple):
    """Hold the indoor metrics of one frame.

    Attributes:
        rmse_m, rel: metres, and mean of abs(error) / truth; no estimate counts as depth 0.
        log10: mean of abs(log10(estimate / truth)) over the estimated pixels.
        delta_1_02 ... delta_1_25_3: share of the pixels with max(estimate / truth,
            truth / estimate) under 1.02, 1.05, 1.10, 1.25, 1.25^2, 1.25^3; a pixel without an
            estimate is never under.
    """

    rmse_m: float
    rel: float
    log10: float
    delta_1_02: float
    delta_1_05: float
    delta_1_10: float
    delta_1_25: float
    delta_1_25_2: float
    delta_1_25_3: float


class BandSums(NamedTuple):
    """Hold sums by distance band, so that frames can be added up before dividing.

    Each is (B,) float64 for B bands; errors in metres.
    """

    pixels: Float64Array
    estimated: Float64Array
    absolute: Float64Array
    squared: Float64Array
    signed: Float64Array

    def plus(self, other: BandSums) -> BandSums:
        """Add another frame."""
        return BandSums(*(a + b for a, b in zip(self, other, strict=True)))


def kitti_metrics(depth: Float32Array, truth: Float32Array) -> KittiMetrics:
    """Measure one frame as the KITTI depth completion benchmark does.

    Args:
        depth: (H, W) float32 metres, 0 = no estimate.
        truth: (H, W) float32 metres, 0 = unknown.

    Returns:
        The four metrics, the signed error and the share of pixels that were estimated.

    Raises:
        InputError: shapes differ, or no pixel has ground truth.

    Source: Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017; the benchmark's development kit.
    """
    d, g = _pairs(depth, truth)
    error = d - g
    known = d > 0
    inverse = np.divide(1.0, d, out=np.zeros_like(d), where=known) - 1.0 / g
    signed = error[known].mean() if known.any() else np.nan
    return KittiMetrics(
        rmse_mm=1e3 * float(np.sqrt(np.mean(error**2))),
        mae_mm=1e3 * float(np.mean(np.abs(error))),
        irmse_per_km=1e3 * float(np.sqrt(np.mean(inverse**2))),
        imae_per_km=1e3 * float(np.mean(np.abs(inverse))),
        signed_mm=1e3 * float(signed),
        estimated_share=float(known.mean()),
        pixels=len(g),
    )


def nyu_metrics(depth: Float32Array, truth: Float32Array) -> NyuMetrics:
    """Measure one frame with the metrics of the NYUv2 papers.

    Args:
        depth: (H, W) float32 metres, 0 = no estimate.
        truth: (H, W) float32 metres, 0 = unknown.

    Raises:
        InputError: shapes differ, or no pixel has ground truth.

    Source: Ma and Karaman, "Sparse-to-Dense", ICRA 2018, with the finer ratios of later work.
    """
    d, g = _pairs(depth, truth)
    error = np.abs(d - g)
    known = d > 0
    logarithm = np.abs(np.log10(d[known] / g[known]))
    ratio = np.full(len(g), np.inf)
    ratio[known] = np.maximum(d[known] / g[known], g[known] / d[known])
    return NyuMetrics(
        float(np.sqrt(np.mean(error**2))),
        float(np.mean(error / g)),
        float(logarithm.mean()) if len(logarithm) else float("nan"),
        *(float(np.mean(ratio < limit)) for limit in _NYU_RATIOS),
    )


def band_sums(
    depth: Float32Array, truth: Float32Array, edges: tuple[float, ...] = DISTANCE_BANDS
) -> BandSums:
    """Sum the errors of one frame by true distance.

    Args:
        depth: (H, W) float32 metres, 0 = no estimate, which counts with its full depth.
        truth: (H, W) float32 metres, 0 = unknown.
        edges: B + 1 rising limits in metres.

    Returns:
        Sums for B bands; `signed` over the estimated pixels only.

    Raises:
        InputError: shapes differ, or no pixel has ground truth.
    """
    d, g = _pairs(depth, truth)
    band = np.searchsorted(np.asarray(edges[1:-1]), g, side="right")
    error = d - g
    known = d > 0

    def total(values: Float64Array) -> Float64Array:
        sums: Float64Array = np.bincount(band, values, minlength=len(edges) - 1).astype(np.float64)
        return sums

    return BandSums(
        pixels=total(np.ones_like(g)),
        estimated=total(known.astype(np.float64)),
        absolute=total(np.abs(error)),
        squared=total(error**2),
        signed=total(np.where(known, error, 0.0)),
    )


def is_right(depth: Float32Array, truth: Float32Array) -> np.ndarray:
    """Tell which estimates are right by the definition of the confidence.

    Args:
        depth, truth: metres, equal shapes; only meaningful where both are > 0.

    Returns:
        bool, same shape: abs(error) <= max(0.3 m, 5 % of the true depth).
    """
    d, g = depth.astype(np.float64), truth.astype(np.float64)
    right: np.ndarray = np.abs(d - g) <= np.maximum(RIGHT_ABSOLUTE, RIGHT_RELATIVE * g)
    return right


def _pairs(depth: Float32Array, truth: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Give estimate and truth of the pixels with ground truth, as two (n,) float64."""
    if depth.shape != truth.shape:
        msg = (
            f"ground truth: found {truth.shape[1]}x{truth.shape[0]}, expected the size of the "
            f"estimate, {depth.shape[1]}x{depth.shape[0]}; do they belong to the same frame?"
        )
        raise InputError(msg)
    valid = truth > 0
    if not valid.any():
        msg = "ground truth: no pixel has a value; expected metres x 256 in a 16 bit PNG"
        raise InputError(msg)
    return depth[valid].astype(np.float64), truth[valid].astype(np.float64)
