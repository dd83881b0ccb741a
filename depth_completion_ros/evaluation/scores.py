"""Scores of many frames: what `evaluate` prints, as numbers.

Not here: the metrics themselves (`metrics.py`, `confidence.py`) and the layout of the table
(`cli/evaluate.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from ..data import Float32Array
from .confidence import (
    Coverage,
    Reliability,
    Sparsification,
    reliability,
    sigma_coverage,
    sparsify,
)
from .metrics import (
    DISTANCE_BANDS,
    BandSums,
    KittiMetrics,
    NyuMetrics,
    band_sums,
    kitti_metrics,
    nyu_metrics,
)


@dataclass(frozen=True)
class FrameScore:
    """Hold everything that was measured on one frame; None where there was nothing to measure.

    `by_confidence` and `by_sigma` are sparsifications in those orders; `baselines` the metrics of
    other methods on the same pixels, by name.
    """

    name: str
    metrics: KittiMetrics
    bands: BandSums
    by_confidence: Sparsification | None = None
    by_sigma: Sparsification | None = None
    reliability: Reliability | None = None
    coverage: Coverage | None = None
    nyu: NyuMetrics | None = None
    baselines: dict[str, KittiMetrics] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Name the drive or rig: the frame's name up to its last underscore."""
        return self.name.rpartition("_")[0]

    def as_dict(self) -> dict[str, Any]:
        """Give plain numbers for JSON."""
        row: dict[str, Any] = {"name": self.name, **self.metrics._asdict()}
        row |= _ause_dict(self)
        if self.nyu:
            row["nyu"] = self.nyu._asdict()
        if self.baselines:
            row["baselines"] = {k: m._asdict() for k, m in self.baselines.items()}
        return row


def score_frame(
    name: str,
    depth: Float32Array,
    truth: Float32Array,
    *,
    confidence: Float32Array | None = None,
    sigma: Float32Array | None = None,
    is_indoor: bool = False,
    baselines: dict[str, Float32Array] | None = None,
) -> FrameScore:
    """Measure one frame in every way its maps allow.

    Args:
        name: the frame's name in its source.
        depth: (H, W) metres, 0 = no estimate.
        truth: (H, W) metres, 0 = unknown.
        confidence: (H, W) in [0, 1].
        sigma: (H, W) metres, +inf = no estimate.
        is_indoor: also give NYUv2's metrics.
        baselines: depth of other methods by name.

    Raises:
        InputError: sizes differ, or no pixel has ground truth.
    """
    return FrameScore(
        name,
        kitti_metrics(depth, truth),
        band_sums(depth, truth),
        by_confidence=None if confidence is None else sparsify(depth, truth, confidence),
        by_sigma=None if sigma is None else sparsify(depth, truth, -sigma),
        reliability=None if confidence is None else reliability(depth, truth, confidence),
        coverage=None if sigma is None else sigma_coverage(depth, truth, sigma),
        nyu=nyu_metrics(depth, truth) if is_indoor else None,
        baselines={k: kitti_metrics(d, truth) for k, d in (baselines or {}).items()},
    )


class Scores:
    """Collect frames and average them as the benchmark does: each frame counts the same."""

    def __init__(self, frames: Sequence[FrameScore]) -> None:
        """Keep the frames in order; there is at least one."""
        self.frames = tuple(frames)

    def mean(self) -> KittiMetrics:
        """Average over the frames; `pixels` is the sum."""
        return _mean_metrics([frame.metrics for frame in self.frames])

    def mean_baselines(self) -> dict[str, KittiMetrics]:
        """Average other methods over the same frames."""
        names = self.frames[0].baselines
        return {name: _mean_metrics([f.baselines[name] for f in self.frames]) for name in names}

    def mean_nyu(self) -> NyuMetrics | None:
        """Average NYUv2's metrics."""
        rows = [frame.nyu for frame in self.frames if frame.nyu]
        return NyuMetrics(*_column_means(rows)) if rows else None

    def mean_ause(self, order: str) -> tuple[float, float] | None:
        """Average AUSE in mm and as a share of a random ordering's.

        Args:
            order: `by_confidence` or `by_sigma`.
        """
        curves = [c for c in (getattr(frame, order) for frame in self.frames) if c is not None]
        if not curves:
            return None
        return (
            float(np.mean([c.ause_mm for c in curves])),
            float(np.mean([c.ause_relative for c in curves])),
        )

    def bands(self) -> list[dict[str, float]]:
        """Give the errors by true distance over all pixels of all frames, empty bands left out."""
        sums = reduce(BandSums.plus, (frame.bands for frame in self.frames))
        rows = []
        for i, low in enumerate(DISTANCE_BANDS[:-1]):
            pixels, estimated, absolute, squared, signed = (float(column[i]) for column in sums)
            if not pixels:
                continue
            rows.append(
                {
                    "from_m": low,
                    "to_m": DISTANCE_BANDS[i + 1],
                    "rmse_mm": 1e3 * (squared / pixels) ** 0.5,
                    "mae_mm": 1e3 * absolute / pixels,
                    "signed_mm": 1e3 * signed / estimated if estimated else float("nan"),
                    "estimated_share": estimated / pixels,
                    "pixels": int(pixels),
                }
            )
        return rows

    def reliability(self) -> Reliability | None:
        """Add up the reliability tables."""
        tables = [frame.reliability for frame in self.frames if frame.reliability]
        return reduce(Reliability.plus, tables) if tables else None

    def coverage(self) -> Coverage | None:
        """Add up how many errors are within one and two sigma."""
        counts = [frame.coverage for frame in self.frames if frame.coverage]
        return reduce(Coverage.plus, counts) if counts else None

    def groups(self) -> dict[str, Scores]:
        """Split by drive or rig; empty where that says nothing (one group, or one per frame)."""
        names = list(dict.fromkeys(frame.group for frame in self.frames))
        if len(names) < 2 or len(names) == len(self.frames):
            return {}
        return {name: Scores([f for f in self.frames if f.group == name]) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Give plain numbers for JSON."""
        result: dict[str, Any] = {"mean": self._means()}
        groups = self.groups()
        if groups:
            result["groups"] = {name: scores._means() for name, scores in groups.items()}
        result["bands"] = self.bands()
        table = self.reliability()
        if table is not None:
            result["reliability"] = {
                key: column.tolist() for key, column in table._asdict().items()
            }
        result["frames"] = [frame.as_dict() for frame in self.frames]
        return result

    def _means(self) -> dict[str, Any]:
        row: dict[str, Any] = {"frames": len(self.frames), **self.mean()._asdict()}
        for order in ("by_confidence", "by_sigma"):
            ause = self.mean_ause(order)
            if ause:
                row[f"ause_{order}_mm"], row[f"ause_{order}_relative"] = ause
        table, coverage, nyu = self.reliability(), self.coverage(), self.mean_nyu()
        if table is not None:
            row["expected_calibration_error"] = table.expected_calibration_error
        if coverage and coverage.pixels:
            row["within_one_sigma"] = coverage.within_one / coverage.pixels
            row["within_two_sigma"] = coverage.within_two / coverage.pixels
        if nyu:
            row["nyu"] = nyu._asdict()
        baselines = self.mean_baselines()
        if baselines:
            row["baselines"] = {name: m._asdict() for name, m in baselines.items()}
        return row


def _ause_dict(frame: FrameScore) -> dict[str, float]:
    row = {}
    for order in ("by_confidence", "by_sigma"):
        curve = getattr(frame, order)
        if curve is not None:
            row[f"ause_{order}_mm"] = curve.ause_mm
            row[f"ause_{order}_relative"] = curve.ause_relative
    return row


def _mean_metrics(rows: Sequence[KittiMetrics]) -> KittiMetrics:
    rmse, mae, irmse, imae, signed, share, _ = _column_means(rows)
    pixels = sum(row.pixels for row in rows)
    return KittiMetrics(rmse, mae, irmse, imae, signed, share, pixels)


def _column_means(rows: Sequence[tuple[float, ...]]) -> list[float]:
    """Average column by column; a frame without a value for one (NaN) is left out there."""
    columns = np.array(rows, np.float64).T
    return [float(c[~np.isnan(c)].mean()) if (~np.isnan(c)).any() else np.nan for c in columns]
