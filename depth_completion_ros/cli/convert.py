"""`convert`: a source as a bag, as a folder of frames, or (from a recipe) as a KITTI raw drive.

Not here: the writers (`datasets/`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DepthCompletionError, InputError
from .arguments import (
    add_command,
    add_json_flag,
    add_projection_flags,
    add_resume_flag,
    add_source,
    projection_settings,
    read_topics,
    source_options,
)
from .output import one_line, print_failures, print_json
from .progress import ProgressCounter

if TYPE_CHECKING:
    from ..data import Float32Array, Frame

_FORMATS = ("mcap", "sqlite3", "folder", "kitti")
_STORAGES = {".mcap": "mcap", ".db3": "sqlite3"}

_DESCRIPTION = """
--to mcap (the default) and --to sqlite3 write a bag as `ros2 bag` does, a folder with
metadata.yaml; OUT.mcap and OUT.db3 choose by the name. It holds the images, camera_info, clouds
with per-point time and the extrinsics in /tf_static. --to folder writes NAME_image.png,
NAME_sparse.png (or, with --points, NAME_points.bin), NAME_calib.json and NAME_gt.png. A recipe of
a synthetic drive is rendered in KITTI's raw layout (--to kitti).
"""
_EXAMPLES = """
depth_completion convert 2011_09_26_drive_0009_sync bag
depth_completion convert 2011_09_26_drive_0009_sync bag.db3 --compressed
depth_completion convert my_bag frames --to folder --topics image=/cam/image_raw
depth_completion convert config/synthetic/street.yaml drives
depth_completion convert drive bag --bag-topics image=/kitti/camera_color_left/image_raw
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "convert",
        summary="Write a source as a bag, as a folder of frames, or render a recipe.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser)
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--to", choices=_FORMATS, help="format (default: by OUT's name)")
    parser.add_argument(
        "--compressed", action="store_true", help="images of a bag as PNG (lossless)"
    )
    parser.add_argument(
        "--bag-topics",
        nargs="+",
        metavar="ROLE=TOPIC",
        help="topics of the bag to write; roles: image, camera_info, points",
    )
    parser.add_argument(
        "--points",
        action="store_true",
        help="whole scans in a folder of frames instead of sparse maps",
    )
    add_resume_flag(parser)
    add_projection_flags(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Convert all frames."""
    out, form = Path(args.out), _format(args)
    _check_flags(args, form)
    if form == "kitti":
        report = _render(args.source, out)
    elif form == "folder":
        report = _write_folder(args, out)
    else:
        report = _write_bag(args, out, form)
    failed = report["failed"]
    report = {"source": args.source, "format": form, **report}
    if args.json:
        print_json(report)
    else:
        before = f", {report['done_before']} were done before" if report["done_before"] else ""
        lost = f", {len(failed)} failed" if failed else ""
        print(f"{report['out']}: {report['completed']} frames written as {form}{before}{lost}")
        print_failures(failed)
    return 1 if failed else 0


def _format(args: argparse.Namespace) -> str:
    by_name = _STORAGES.get(Path(args.out).suffix.lower())
    if args.to and by_name and args.to != by_name:
        msg = f"--to: found {args.to}, but {args.out} is named as {by_name}; choose one of them"
        raise InputError(msg)
    if args.to or by_name:
        return str(args.to or by_name)
    return "kitti" if _is_recipe(Path(args.source)) else "mcap"


def _is_recipe(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml") and path.name != "metadata.yaml"


def _check_flags(args: argparse.Namespace, form: str) -> None:
    """Refuse flags that would have no effect."""
    is_bag = form in ("mcap", "sqlite3")
    for flag, is_given, fits in (
        ("--compressed", args.compressed, is_bag),
        ("--bag-topics", args.bag_topics, is_bag),
        ("--points", args.points, form == "folder"),
        ("--resume", args.resume, not is_bag),
    ):
        if is_given and not fits:
            msg = f"{flag}: means nothing for {form}; leave it out"
            raise InputError(msg)
    if form == "kitti" and not _is_recipe(Path(args.source)):
        msg = f"{args.source}: found no recipe (.yaml); only recipes are written as kitti"
        raise InputError(msg)


def _render(source: str, out: Path) -> dict[str, Any]:
    from ..datasets.synthetic import read_recipe, render_drive

    recipe = read_recipe(source)
    with ProgressCounter("render") as counter:
        drive = render_drive(recipe, out, progress=counter.show)
    before = recipe.frames if counter.done == 0 else 0
    return {
        "out": str(drive),
        "completed": recipe.frames - before,
        "done_before": before,
        "failed": {},
    }


def _write_bag(args: argparse.Namespace, out: Path, storage: str) -> dict[str, Any]:
    from ..datasets import open_source
    from ..datasets.bag_writer import BagNames, write_bag

    names = BagNames(**read_topics(args.bag_topics, "--bag-topics"))
    failed: dict[str, str] = {}
    with (
        open_source(args.source, **source_options(args)) as dataset,
        ProgressCounter("convert") as counter,
    ):

        def note(index: int, error: Exception | None) -> None:
            counter.show(index + 1, len(dataset))
            if error is not None:
                failed[dataset.names[index]] = one_line(error)

        count = write_bag(
            dataset,
            out,
            storage=storage,
            compressed=args.compressed,
            names=names,
            on_frame=note,
        )
    return {"out": str(out), "completed": count, "done_before": 0, "failed": failed}


def _write_folder(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    from .frames import BackgroundWriter, SourceReader
    from .progress import show_progress

    settings = projection_settings(args)
    failed: dict[str, str] = {}
    with SourceReader(args.source, **source_options(args)) as reader:
        names = reader.dataset.names
        done = {n for n in names if args.resume and (out / f"{n}_image.png").is_file()}
        todo = [i for i, name in enumerate(names) if name not in done]
        frames = reader.read(
            todo, lambda dataset, i: (reader.get_frame(dataset, i), dataset.ground_truth(i))
        )
        with BackgroundWriter() as writer:
            for name, result in show_progress(frames, len(todo), "convert"):
                if isinstance(result, DepthCompletionError):
                    failed[name] = one_line(result)
                    continue
                frame, truth = result
                writer.submit(_write_one, out, frame, truth, settings, args.points)
            writer.finish()
    if failed and len(failed) == len(names):
        name, reason = next(iter(failed.items()))
        msg = f"{args.source}: all {len(names)} frames failed; {name}: {reason}"
        raise InputError(msg)
    return {
        "out": str(out),
        "completed": len(todo) - len(failed),
        "done_before": len(done),
        "failed": failed,
    }


def _write_one(
    out: Path, frame: Frame, truth: Float32Array | None, settings: Any, with_points: bool
) -> None:
    """Write one frame; what was measured stays as it was, see-through points included."""
    from ..datasets.folder_writer import write_frame
    from ..geometry.projection import project_points

    sparse = frame.sparse_depth
    if sparse is None and not with_points:
        assert frame.points is not None
        assert frame.T_camera_lidar is not None
        sparse = project_points(
            frame.points,
            frame.camera,
            frame.T_camera_lidar,
            min_depth=settings.min_depth,
            max_depth=settings.max_depth,
        )
    write_frame(out, frame, sparse_depth=sparse, ground_truth=truth)
