"""`complete`: depth, confidence and sigma of every frame of a source, as PNG files.

Not here: file formats (`datasets/results.py`) and methods (`completers/`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DepthCompletionError, InputError
from ..settings import flatten
from .arguments import (
    add_command,
    add_completer_flags,
    add_extrinsics_flag,
    add_json_flag,
    add_motion_flag,
    add_resume_flag,
    add_source,
    open_completer_of,
    projection_settings,
    source_options,
)
from .output import one_line, print_failures, print_json

if TYPE_CHECKING:
    from ..completers import Completer
    from ..datasets.results import ResultWriter
    from .frames import SourceReader

_DESCRIPTION = """
Writes OUT/depth/NAME.png (16 bit, metres x 256, 0 = none), OUT/confidence/NAME.png (8 bit,
0..255 = 0..1), with --sigma OUT/sigma/NAME.png (16 bit, metres x 256, 65535 = none), and
OUT/run.json (settings, versions, timings). Every file is whole or not there: an interrupted run
goes on with --resume. A frame that cannot be completed is listed, and the others are done.
"""
_EXAMPLES = """
depth_completion complete 2011_09_26_drive_0009_sync out
depth_completion complete my_bag out --sigma --network fill
depth_completion complete my_bag out --topics image=/cam/image_raw points=/lidar/points
depth_completion complete kitti/validation out --projection.occlusion_filter.enabled false
depth_completion complete 2011_09_26_drive_0009_sync out --motion.source odometry
depth_completion complete huge_drive out --resume
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "complete",
        summary="Complete the depth of every frame and write it as PNG files.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser)
    add_extrinsics_flag(parser)
    parser.add_argument("out", metavar="OUT", help="folder for the results")
    parser.add_argument("--sigma", action="store_true", help="write sigma as well")
    add_resume_flag(parser)
    add_completer_flags(parser)
    add_motion_flag(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Complete all frames that are not done yet."""
    from ..datasets.results import ResultWriter
    from .frames import SourceReader

    start = time.monotonic()
    with SourceReader(args.source, **source_options(args)) as reader:
        names = reader.dataset.names
        with open_completer_of(args) as completer:
            results = ResultWriter(
                args.out,
                names,
                settings=_run_settings(args, completer),
                with_sigma=args.sigma,
                resume=args.resume,
            )
            with results:
                done_before = results.done
                todo = [i for i, name in enumerate(names) if name not in done_before]
                failed = _complete_all(reader, todo, completer, results)
    if failed and len(failed) == len(names):
        name, reason = next(iter(failed.items()))
        msg = f"{args.source}: all {len(names)} frames failed; {name}: {reason}"
        raise InputError(msg)
    report = {
        "source": args.source,
        "out": args.out,
        "network": completer.name,
        "backend": completer.backend,
        "device": completer.device,
        "frames": len(names),
        "completed": len(todo) - len(failed),
        "done_before": len(done_before),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 3),
    }
    if args.json:
        print_json(report)
    else:
        _print_report(report)
        print_failures(failed)
    return 1 if failed else 0


def _run_settings(args: argparse.Namespace, completer: Completer) -> dict[str, Any]:
    """Collect what decides the results, for run.json; a resumed run must agree."""
    values = vars(args)
    options = {key: value for key, value in source_options(args).items() if value is not None}
    settings = {
        "source": str(Path(args.source).expanduser().resolve()),
        **options,
        "network": completer.name,
        "backend": completer.backend,
        "device": completer.device,
        "precision": values["precision"] or "auto",
        "weights": values["weights"] or "",
    }
    for name, _, value in flatten(projection_settings(args), "projection."):
        settings[name] = value
    return settings


def _complete_all(
    reader: SourceReader, todo: Sequence[int], completer: Completer, results: ResultWriter
) -> dict[str, str]:
    """Complete the frames of these indices; give the reasons of those that failed."""
    from .frames import BackgroundWriter
    from .progress import show_progress

    failed: dict[str, str] = {}
    frames = reader.read(todo, reader.get_frame)
    with BackgroundWriter() as writer:
        for name, frame in show_progress(frames, len(todo), "complete"):
            try:
                if isinstance(frame, DepthCompletionError):
                    raise frame
                dense = completer.complete(frame)
            except DepthCompletionError as error:
                failed[name] = one_line(error)
                results.fail(name, failed[name])
                continue
            writer.submit(results.write, name, dense)
        writer.finish()
    return failed


def _print_report(report: dict[str, Any]) -> None:
    before = f", {report['done_before']} were done before" if report["done_before"] else ""
    failed = f", {len(report['failed'])} failed" if report["failed"] else ""
    print(
        f"{report['out']}: {report['completed']} of {report['frames']} frames completed"
        f"{before}{failed}; {report['network']} on {report['backend']} ({report['device']}), "
        f"{report['seconds']:.1f} s"
    )
