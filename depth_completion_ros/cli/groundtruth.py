"""`groundtruth`: semi-dense depth from the scans around each frame.

Not here: accumulation (`evaluation/accumulation.py`) and poses (`evaluation/trajectory.py`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DepthCompletionError, InputError
from .arguments import (
    add_command,
    add_extrinsics_flag,
    add_json_flag,
    add_resume_flag,
    add_source,
    source_options,
    whole_number,
)
from .output import one_line, print_failures, print_json

if TYPE_CHECKING:
    from ..data import Float32Array, Frame
    from ..evaluation.accumulation import Scan
    from ..evaluation.trajectory import Trajectory
    from .frames import SourceReader

_DESCRIPTION = """
Accumulates the scans before and after each frame, drops what the frame's own scan does not
confirm, what moves and what the camera cannot see, and writes OUT/NAME_gt.png (16 bit, metres x
256, 0 = unknown). With --frames the images, sparse maps and calibrations are written beside them,
so that OUT is a source for evaluate and for training.

Poses come from --poses, else from the source (oxts of KITTI raw drives, odometry of bags), else
from LiDAR odometry (kiss-icp, the extra "odometry"), which --poses odometry asks for by name.
"""
_EXAMPLES = """
depth_completion groundtruth 2011_09_26_drive_0009_sync out
depth_completion groundtruth my_bag out --frames --poses odometry
depth_completion groundtruth my_drive out --poses poses.txt --window 10
depth_completion groundtruth 2011_09_26_drive_0009_sync out --compare completion/raw0009_
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "groundtruth",
        summary="Make ground truth by accumulating scans.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser)
    add_extrinsics_flag(parser)
    parser.add_argument("out", metavar="OUT", help="folder for the ground truth")
    parser.add_argument(
        "--poses",
        metavar="FILE|source|odometry",
        help="T_world_lidar of every frame in KITTI or TUM format, the source's own poses, or "
        "LiDAR odometry",
    )
    parser.add_argument(
        "--window",
        type=whole_number(1),
        default=5,
        help="scans before and after each frame (default: 5)",
    )
    parser.add_argument(
        "--min-range",
        type=float,
        default=2.7,
        metavar="METRES",
        help="nearer returns are the own vehicle (default: 2.7, a car with the LiDAR on its roof)",
    )
    parser.add_argument(
        "--frames",
        action="store_true",
        help="write NAME_image.png, NAME_sparse.png and NAME_calib.json as well",
    )
    parser.add_argument(
        "--compare",
        metavar="FOLDER",
        help="say how far it agrees with FOLDER/NAME_gt.png; FOLDER may go on with what stands "
        "before NAME, such as other/drive0009_",
    )
    add_resume_flag(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Accumulate every frame that is not done yet."""
    from .frames import SourceReader

    if not args.min_range >= 0:
        msg = f"--min-range: found {args.min_range}, expected metres from 0 on"
        raise InputError(msg)
    out = Path(args.out)
    if args.compare:
        _check_comparison(args.compare)
    with SourceReader(args.source, **source_options(args)) as reader:
        names = reader.dataset.names
        trajectory = _trajectory(reader, args.poses)
        _start(out, names, _settings(args, trajectory), resume=args.resume)
        done = [name for name in names if _is_done(out, name, args.frames)]
        todo = [i for i, name in enumerate(names) if name not in set(done)]
        failed = _accumulate_all(reader, trajectory, todo, args)
    if failed and len(failed) == len(names):
        name, reason = next(iter(failed.items()))
        msg = f"{args.source}: all {len(names)} frames failed; {name}: {reason}"
        raise InputError(msg)
    written = [name for name in names if name not in failed]
    report = {
        "source": args.source,
        "out": args.out,
        "poses": trajectory.origin,
        "frames": len(names),
        "completed": len(todo) - len(failed),
        "done_before": len(done),
        "failed": failed,
        "coverage": _mean_coverage(out, written),
    }
    if args.compare:
        report["comparison"] = _compare(out, written, args.compare)
    if args.json:
        print_json(report)
    else:
        _print_report(report)
        print_failures(failed)
    return 1 if failed else 0


def _settings(args: argparse.Namespace, trajectory: Trajectory) -> dict[str, Any]:
    """Collect what decides the result; a resumed run must agree."""
    settings = {
        "source": str(Path(args.source).expanduser().resolve()),
        **{key: value for key, value in source_options(args).items() if value is not None},
        "poses": trajectory.origin,
        "window": args.window,
        "min_range": args.min_range,
    }
    # Through JSON, so that tuples compare equal to what is read back.
    result: dict[str, Any] = json.loads(json.dumps(settings))
    return result


def _start(out: Path, names: Sequence[str], settings: dict[str, Any], *, resume: bool) -> None:
    """Note the settings in OUT/run.json; without `resume`, remove what an earlier run has left."""
    from ..datasets.whole_file import unwritable, write_whole

    record = out / "run.json"
    if resume and record.is_file():
        before = _read_settings(record)
        differing = [key for key in settings if before.get(key) != settings[key]]
        if differing:
            key = differing[0]
            msg = (
                f"{out}: was made with {key} {before.get(key)!r}, found {settings[key]!r} now; "
                "resume with the same settings or write to another folder"
            )
            raise InputError(msg)
    if not resume:
        for name in names:
            try:
                (out / f"{name}_gt.png").unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(out, error) from error
    write_whole(record, (json.dumps({"settings": settings}, indent=1) + "\n").encode())


def _read_settings(record: Path) -> dict[str, Any]:
    from ..datasets.whole_file import read_text

    try:
        settings = json.loads(read_text(record))["settings"]
    except (ValueError, KeyError, TypeError):
        msg = f"{record}: found no settings, expected what an earlier run wrote; remove it"
        raise InputError(msg) from None
    return settings if isinstance(settings, dict) else {}


def _trajectory(reader: SourceReader, poses: str | None) -> Trajectory:
    from ..evaluation.trajectory import estimate_trajectory, known_trajectory, read_trajectory
    from .progress import show_progress

    dataset = reader.dataset
    if poses and poses not in ("source", "odometry"):
        return read_trajectory(poses, dataset)
    known = None if poses == "odometry" else reader.call(known_trajectory)
    if known is not None:
        return known
    if poses == "source":
        msg = f"{dataset.path}: found no poses in it; --poses odometry estimates them"
        raise InputError(msg)
    results = reader.read(range(len(dataset)), reader.get_frame)
    frames = (
        None if isinstance(frame, DepthCompletionError) else frame
        for _, frame in show_progress(results, len(dataset), "odometry")
    )
    return estimate_trajectory(frames, dataset.times)


def _accumulate_all(
    reader: SourceReader, trajectory: Trajectory, todo: Sequence[int], args: argparse.Namespace
) -> dict[str, str]:
    """Walk through the source with the scans of one window in memory."""
    from .frames import BackgroundWriter
    from .progress import show_progress

    names, window, out = reader.dataset.names, args.window, Path(args.out)
    last = len(names) - 1
    needed = sorted(
        {j for i in todo for j in range(max(0, i - window), min(last, i + window) + 1)}
    )
    wanted, failed = set(todo), {}
    scans: dict[int, Scan] = {}
    frames: dict[int, Frame] = {}
    pending = list(todo)
    results = reader.read(needed, reader.get_frame)
    with BackgroundWriter() as writer:
        for index, (name, frame) in zip(
            needed, show_progress(results, len(needed), "groundtruth"), strict=True
        ):
            try:
                if isinstance(frame, DepthCompletionError):
                    raise frame
                scans[index] = _scan(frame, trajectory, index, args.min_range)
                frames[index] = frame
            except DepthCompletionError as error:
                if index in wanted:
                    failed[name] = one_line(error)
            while pending and (pending[0] + window <= index or index == needed[-1]):
                centre = pending.pop(0)
                if centre in scans:
                    around = [s for i, s in scans.items() if 0 < abs(i - centre) <= window]
                    depth = _accumulate(frames[centre], scans[centre], around)
                    writer.submit(_write, out, frames[centre], depth, args.frames)
                first = (pending[0] if pending else index) - window
                for old in [i for i in scans if i < first]:
                    del scans[old], frames[old]
        writer.finish()
    return failed


def _scan(frame: Frame, trajectory: Trajectory, index: int, min_range: float) -> Scan:
    import numpy as np

    from ..evaluation.accumulation import Scan
    from ..evaluation.trajectory import compensated_points

    points = compensated_points(frame, trajectory, index)
    points = points[np.linalg.norm(points, axis=1) >= min_range]
    return Scan(points, trajectory.poses[index])


def _accumulate(frame: Frame, centre: Scan, around: Sequence[Scan]) -> Float32Array:
    from ..evaluation.accumulation import accumulate_depth

    assert frame.T_camera_lidar is not None
    return accumulate_depth(centre, around, frame.camera, frame.T_camera_lidar)


def _write(out: Path, frame: Frame, depth: Float32Array, with_frame: bool) -> None:
    from ..datasets.depth_png import write_depth_png
    from ..datasets.folder_writer import write_frame
    from ..evaluation.hold_out import measured_depth

    if with_frame:
        write_frame(out, frame, sparse_depth=measured_depth(frame), ground_truth=depth)
    else:
        write_depth_png(out / f"{frame.name}_gt.png", depth)


def _is_done(out: Path, name: str, with_frame: bool) -> bool:
    parts = ("gt", "image") if with_frame else ("gt",)
    return all((out / f"{name}_{part}.png").is_file() for part in parts)


def _mean_coverage(out: Path, names: Sequence[str]) -> float:
    import numpy as np

    from ..datasets.depth_png import read_depth_png

    return float(np.mean([np.mean(read_depth_png(out / f"{n}_gt.png") > 0) for n in names]))


def _other_path(prefix: str, name: str) -> Path:
    return (
        Path(prefix) / f"{name}_gt.png"
        if Path(prefix).is_dir()
        else Path(f"{prefix}{name}_gt.png")
    )


def _check_comparison(prefix: str) -> None:
    pattern = _other_path(prefix, "*")
    if not any(pattern.parent.glob(pattern.name)):
        msg = f"--compare: found no {pattern} to compare with"
        raise InputError(msg)


def _compare(out: Path, names: Sequence[str], prefix: str) -> dict[str, Any]:
    """Measure how far two ground truths agree where both have a value."""
    import numpy as np

    from ..datasets.depth_png import read_depth_png

    differences, relative, coverage = [], [], []
    for name in names:
        other = _other_path(prefix, name)
        if not other.is_file():
            continue
        ours, theirs = read_depth_png(out / f"{name}_gt.png"), read_depth_png(other)
        if ours.shape != theirs.shape:
            size = f"{theirs.shape[1]}x{theirs.shape[0]}"
            msg = f"{other}: found {size}, expected {ours.shape[1]}x{ours.shape[0]}"
            raise InputError(msg)
        both = (ours > 0) & (theirs > 0)
        difference = np.abs(ours[both] - theirs[both])
        differences.append(difference)
        relative.append(difference / theirs[both])
        coverage.append(((ours > 0).mean(), (theirs > 0).mean(), both.sum() / (theirs > 0).sum()))
    if not differences:
        msg = f"--compare: found no frame with {_other_path(prefix, 'NAME')} of the same name"
        raise InputError(msg)
    difference, share = np.concatenate(differences), np.concatenate(relative)
    ours_mean, theirs_mean, shared = (float(x) for x in np.mean(coverage, axis=0))
    return {
        "with": prefix,
        "frames": len(differences),
        "median_relative_difference": float(np.median(share)),
        "median_difference_m": float(np.median(difference)),
        "percentile_95_m": float(np.percentile(difference, 95)),
        "mae_mm": 1e3 * float(difference.mean()),
        "rmse_mm": 1e3 * float(np.sqrt(np.mean(difference.astype(np.float64) ** 2))),
        "share_beyond_1_m": float(np.mean(difference > 1)),
        "coverage": ours_mean,
        "coverage_there": theirs_mean,
        "share_of_theirs_covered": shared,
    }


def _print_report(report: dict[str, Any]) -> None:
    before = f", {report['done_before']} were done before" if report["done_before"] else ""
    failed = f", {len(report['failed'])} failed" if report["failed"] else ""
    print(
        f"{report['out']}: {report['completed']} of {report['frames']} frames accumulated"
        f"{before}{failed}, {100 * report['coverage']:.1f} % of the pixels; "
        f"poses: {report['poses']}"
    )
    if "comparison" in report:
        c = report["comparison"]
        print(
            f"against {c['with']}, {c['frames']} frames: median difference "
            f"{c['median_relative_difference']:.2%} ({c['median_difference_m']:.3f} m), 95 % "
            f"within {c['percentile_95_m']:.2f} m, MAE {c['mae_mm']:.0f} mm, "
            f"{c['share_beyond_1_m']:.2%} beyond 1 m; coverage {c['coverage']:.1%} against "
            f"{c['coverage_there']:.1%}, {c['share_of_theirs_covered']:.0%} of its pixels"
        )
