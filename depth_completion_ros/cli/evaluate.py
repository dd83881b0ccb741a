"""`evaluate`: how good the depth is, and how true the confidence.

Not here: the metrics (`evaluation/`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DepthCompletionError, InputError
from .arguments import (
    add_command,
    add_completer_flags,
    add_extrinsics_flag,
    add_json_flag,
    add_motion_flag,
    add_source,
    open_completer_of,
    source_options,
    whole_number,
)
from .output import format_table, one_line, print_failures, print_json

if TYPE_CHECKING:
    from ..data import Float32Array, Frame
    from ..datasets import Dataset
    from ..evaluation.metrics import KittiMetrics
    from ..evaluation.scores import FrameScore, Scores
    from .frames import SourceReader

_HOLD_OUTS = ("stripes", "points", "patches")

_DESCRIPTION = """
Prints KITTI's four metrics per frame and their mean, errors by distance, and how well confidence
and sigma find the errors. Errors are over the pixels with ground truth: RMSE and MAE in mm, of
inverse depth in 1/km. A pixel without an estimate counts with its full depth, and as infinitely
far in iRMSE and iMAE. Frames without ground truth are left out and counted.

Without PREDICTIONS, or with --hold-out, the frames are completed here and now. --hold-out takes a
part of the LiDAR away, completes from the rest and scores on what was taken, for sources without
ground truth: stripes (every fourth elevation stripe, two beams high), points (a random half, or
all but --count), patches (rectangles). A source with ground truth and no measurements is completed
from 500 random pixels of it (--hold-out points).

AUSE is the area between the RMSE that remains when the least certain pixels are dropped and the
best possible curve: 0 % is perfect, 100 % is a random order.
"""
_EXAMPLES = """
depth_completion complete kitti/validation out && depth_completion evaluate kitti/validation out
depth_completion evaluate kitti/validation --network fill --baselines
depth_completion evaluate my_bag --hold-out stripes
depth_completion evaluate nyuv2/val --hold-out points --count 500
depth_completion evaluate kitti/validation out --json > scores.json
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "evaluate",
        summary="Compare dense depth with ground truth or with held-out measurements.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser)
    add_extrinsics_flag(parser)
    parser.add_argument(
        "predictions", metavar="PREDICTIONS", nargs="?", help="folder that `complete` wrote"
    )
    parser.add_argument(
        "--hold-out", choices=_HOLD_OUTS, help="score on a part of the measurements"
    )
    parser.add_argument(
        "--count",
        type=whole_number(1),
        help="measurements that stay with --hold-out points (default: half of them, 500 pixels "
        "of the ground truth where nothing was measured)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="of --hold-out (default: 0)"
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also score IP-Basic, nearest neighbour and (with scipy) linear interpolation",
    )
    add_completer_flags(parser)
    add_motion_flag(parser)
    add_json_flag(parser)


class _Case(NamedTuple):
    """One frame to score: its truth and what is needed to get an estimate."""

    frame: Frame | None
    truth: Float32Array


class _Estimate(NamedTuple):
    depth: Float32Array
    confidence: Float32Array | None
    sigma: Float32Array | None


def run(args: argparse.Namespace) -> int:
    """Score all frames that can be scored and print the tables."""
    from ..evaluation.scores import Scores
    from .frames import SourceReader
    from .progress import show_progress

    if args.predictions and args.hold_out:
        msg = "found both PREDICTIONS and --hold-out; --hold-out completes by itself"
        raise InputError(msg)
    if args.count and args.hold_out != "points":
        msg = "found --count without --hold-out points; only points can be counted"
        raise InputError(msg)
    with SourceReader(args.source, **source_options(args)) as reader:
        dataset = reader.dataset
        _check_truth(dataset, args)
        with _Estimator(args) as estimator:
            results: list[FrameScore] = []
            failed: dict[str, str] = {}
            without_truth = 0
            cases = reader.read(range(len(dataset)), _case_reader(reader, args))
            for name, case in show_progress(cases, len(dataset), "evaluate"):
                if case is None:
                    without_truth += 1
                    continue
                try:
                    if isinstance(case, DepthCompletionError):
                        raise case
                    results.append(_score(name, case, estimator, dataset.kind == "nyuv2", args))
                except DepthCompletionError as error:
                    failed[name] = one_line(error)
            method = estimator.description
    if not results:
        _refuse_nothing(args.source, failed, without_truth)
    scores = Scores(results)
    counts = {"without_ground_truth": without_truth, "failed": failed}
    if args.json:
        print_json({"source": args.source, **method, **counts, **scores.as_dict()})
    else:
        _print_report(scores, method, without_truth, args)
        print_failures(failed)
    return 1 if failed else 0


class _Estimator:
    """Get estimates from a folder of predictions, or from a completer."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.completer = None if args.predictions else open_completer_of(args)
        self._results = _open_results(args.predictions) if args.predictions else None
        self.description: dict[str, Any] = {"hold_out": args.hold_out}
        if self.completer is None:
            self.description["predictions"] = args.predictions
        else:
            self.description["network"] = self.completer.name
            self.description["backend"] = self.completer.backend
            self.description["device"] = self.completer.device

    def estimate(self, name: str, case: _Case) -> _Estimate:
        if self._results is not None:
            return _Estimate(
                self._results.depth(name),
                self._results.confidence(name),
                self._results.sigma(name),
            )
        assert self.completer is not None
        assert case.frame is not None
        dense = self.completer.complete(case.frame)
        return _Estimate(dense.depth, dense.confidence, dense.sigma)

    def __enter__(self) -> _Estimator:
        return self

    def __exit__(self, *_: object) -> None:
        if self.completer is not None:
            self.completer.close()


def _open_results(folder: str) -> Any:
    from ..datasets.results import ResultReader

    return ResultReader(Path(folder))


def _check_truth(dataset: Dataset, args: argparse.Namespace) -> None:
    if not args.hold_out and not dataset.has_ground_truth:
        msg = (
            f"{args.source}: found no ground truth in it; --hold-out stripes scores on a part of "
            "its own measurements"
        )
        raise InputError(msg)
    if not dataset.has_measurements and args.hold_out != "points" and not args.predictions:
        msg = (
            f"{args.source}: found ground truth but no measurements; --hold-out points completes "
            "from 500 pixels of it"
        )
        raise InputError(msg)


def _case_reader(
    reader: SourceReader, args: argparse.Namespace
) -> Callable[[Dataset, int], _Case | None]:
    """Make what reads one case: the frame, and the truth to score it on."""
    needs_frame = not args.predictions or args.baselines

    def read(dataset: Dataset, index: int) -> _Case | None:
        from ..evaluation.hold_out import hold_out

        if args.hold_out:
            frame = reader.get_frame(dataset, index)
            truth = None if dataset.has_measurements else dataset.ground_truth(index)
            if truth is None and not dataset.has_measurements:
                return None
            rest, target = hold_out(
                frame, args.hold_out, seed=args.seed, count=args.count, ground_truth=truth
            )
            return _Case(rest, target)
        truth = dataset.ground_truth(index)
        if truth is None:
            return None
        return _Case(reader.get_frame(dataset, index) if needs_frame else None, truth)

    return read


def _score(
    name: str, case: _Case, estimator: _Estimator, is_indoor: bool, args: argparse.Namespace
) -> FrameScore:
    from ..evaluation.baselines import complete_baselines
    from ..evaluation.hold_out import measured_depth
    from ..evaluation.scores import score_frame

    estimate = estimator.estimate(name, case)
    baselines = None
    if args.baselines:
        assert case.frame is not None
        baselines = complete_baselines(measured_depth(case.frame))
    return score_frame(
        name,
        estimate.depth,
        case.truth,
        confidence=estimate.confidence,
        sigma=estimate.sigma,
        is_indoor=is_indoor,
        baselines=baselines,
    )


def _refuse_nothing(source: str, failed: dict[str, str], without_truth: int) -> None:
    if failed:
        name, reason = next(iter(failed.items()))
        msg = f"{source}: all {len(failed)} frames failed; {name}: {reason}"
        raise InputError(msg)
    msg = f"{source}: found no ground truth for any of {without_truth} frames"
    raise InputError(msg)


def _print_report(
    scores: Scores, method: dict[str, Any], without_truth: int, args: argparse.Namespace
) -> None:
    print(_frame_table(scores))
    print()
    print(_band_table(scores))
    for title, table in _more_tables(scores):
        print(f"\n{title}\n{table}")
    what = method.get("predictions") or f"{method['network']} on {method['backend']}"
    truth = f"held-out {args.hold_out}" if args.hold_out else "ground truth"
    left_out = f", {without_truth} without ground truth left out" if without_truth else ""
    print(f"\n{what}: {len(scores.frames)} frames against {truth}{left_out}")


_RATIOS = ("<1.02", "<1.05", "<1.10", "<1.25", "<1.25^2", "<1.25^3")
_NYU_HEADER = ("RMSE m", "REL", "log10", *_RATIOS)
_FRAME_HEADER = ("frame", "RMSE mm", "MAE mm", "iRMSE 1/km", "iMAE 1/km", "bias mm", "estimated")


def _frame_table(scores: Scores) -> str:
    """One line per frame, per group, and the mean."""
    has_ause = scores.mean_ause("by_confidence") is not None
    header = (*_FRAME_HEADER, "AUSE mm", "of random") if has_ause else _FRAME_HEADER

    def row(name: str, metrics: KittiMetrics, ause: tuple[float, float] | None) -> list[str]:
        cells = [name, *_metric_cells(metrics)]
        if has_ause:
            cells += [f"{ause[0]:.1f}", f"{100 * ause[1]:.0f} %"] if ause else ["-", "-"]
        return cells

    rows = []
    for frame in scores.frames:
        curve = frame.by_confidence
        ause = (curve.ause_mm, curve.ause_relative) if curve else None
        rows.append(row(frame.name, frame.metrics, ause))
    groups = {**scores.groups(), "": scores}
    for name, group in groups.items():
        label = f"mean of {name} ({len(group.frames)})" if name else f"mean ({len(group.frames)})"
        rows.append(row(label, group.mean(), group.mean_ause("by_confidence")))
    return format_table(header, rows)


def _metric_cells(metrics: KittiMetrics) -> list[str]:
    return [
        f"{metrics.rmse_mm:.1f}",
        f"{metrics.mae_mm:.1f}",
        f"{metrics.irmse_per_km:.2f}",
        f"{metrics.imae_per_km:.2f}",
        f"{metrics.signed_mm:+.1f}",
        f"{100 * metrics.estimated_share:.1f} %",
    ]


def _band_table(scores: Scores) -> str:
    rows = []
    total = sum(frame.metrics.pixels for frame in scores.frames)
    for band in scores.bands():
        low, high = band["from_m"], band["to_m"]
        rows.append(
            (
                f"{low:g} m and more" if high == float("inf") else f"{low:g} to {high:g} m",
                f"{band['rmse_mm']:.1f}",
                f"{band['mae_mm']:.1f}",
                f"{band['signed_mm']:+.1f}",
                f"{100 * band['estimated_share']:.1f} %",
                f"{100 * band['pixels'] / total:.1f} %",
            )
        )
    header = ("true depth", "RMSE mm", "MAE mm", "bias mm", "estimated", "of all pixels")
    return format_table(header, rows)


def _more_tables(scores: Scores) -> Iterator[tuple[str, str]]:
    """Give what only some sources have: baselines, confidence, sigma, NYUv2's metrics."""
    rows = [
        [f"{method} on {group}" if group else method, *_metric_cells(metrics)]
        for group, part in {**scores.groups(), "": scores}.items()
        for method, metrics in part.mean_baselines().items()
    ]
    if rows:
        yield "other methods on the same pixels", format_table(("", *_FRAME_HEADER[1:]), rows)
    table = scores.reliability()
    if table is not None:
        rows = [
            [
                f"{i / len(table.pixels):.1f} to {(i + 1) / len(table.pixels):.1f}",
                f"{table.confidence[i] / n:.3f}",
                f"{table.right[i] / n:.3f}",
                f"{100 * n / table.pixels.sum():.1f} %",
            ]
            for i, n in enumerate(table.pixels)
            if n
        ]
        title = (
            "confidence: right means within max(0.3 m, 5 %); expected calibration error "
            f"{table.expected_calibration_error:.3f}"
        )
        yield title, format_table(("confidence", "mean", "right", "of all pixels"), rows)
    coverage, ause = scores.coverage(), scores.mean_ause("by_sigma")
    if coverage and coverage.pixels and ause:
        one, two = (100 * n / coverage.pixels for n in coverage[1:])
        row = [f"{one:.1f} %", f"{two:.1f} %", f"{ause[0]:.1f}", f"{100 * ause[1]:.0f} %"]
        header = ("within 1 sigma", "within 2 sigma", "AUSE mm", "of random")
        yield "sigma (a Gaussian error has 68.3 % and 95.4 %)", format_table(header, [row])
    nyu = scores.mean_nyu()
    if nyu:
        yield "NYUv2", format_table(_NYU_HEADER, [[f"{value:.4f}" for value in nyu]])
