"""`overlay`: the first thing to look at with one's own sensors.

Not here: drawing (`evaluation/pictures.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    add_extrinsics_flag,
    add_json_flag,
    add_motion_flag,
    add_projection_flags,
    add_source,
    projection_settings,
    source_options,
)

_DESCRIPTION = """
Draws the LiDAR's depth over the camera image, near red, far blue. Edges of poles and cars in depth
and image must coincide; if they do not, calibration or time stamps are off. The see-through filter
is on, as in a completion: --projection.occlusion_filter.enabled false shows every point.
"""
_EXAMPLES = """
depth_completion overlay my_bag overlay.png
depth_completion overlay 2011_09_26_drive_0009_sync overlay.png --camera image_03 --frame 12
depth_completion overlay my_bag overlay.png --calibration.file calib.json --frame 100
depth_completion overlay my_bag overlay.png --calibration.T_camera_lidar \
    "0 -1 0 0.06  0 0 -1 -0.08  1 0 0 -0.27  0 0 0 1"
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "overlay",
        summary="Draw the sparse depth over the image to check the calibration.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser)
    add_extrinsics_flag(parser)
    parser.add_argument("out", metavar="OUT.png", help="picture to write (.png or .jpg)")
    parser.add_argument("--frame", default="0", help="name or index of the frame (default: 0)")
    add_projection_flags(parser)
    add_motion_flag(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Draw one frame and say what the points say about the calibration."""
    import numpy as np

    from ..completers.base import sparse_depth_of
    from ..evaluation.pictures import draw_legend, draw_sparse
    from ..geometry.projection import question_extrinsics
    from .frames import SourceReader
    from .output import print_json

    settings = projection_settings(args)
    encode = _encoder(Path(args.out))
    with SourceReader(args.source, **source_options(args)) as reader:
        index = frame_index(reader.dataset.names, args.frame)
        frame = reader.read_one(index)
    sparse = sparse_depth_of(frame, settings)
    drawn = sparse[sparse > 0]
    high = float(np.clip(np.percentile(drawn, 98), 5, 80)) if drawn.size else 80.0
    picture = draw_legend(draw_sparse(frame.image, sparse, 0.0, high), 0.0, high)
    encode(picture)
    doubt = None
    if frame.points is not None and frame.T_camera_lidar is not None:
        doubt = question_extrinsics(frame.points, frame.camera, frame.T_camera_lidar)
    report = {
        "frame": frame.name,
        "out": args.out,
        "points": None if frame.points is None else len(frame.points),
        "pixels": int(drawn.size),
        "share_of_image": drawn.size / sparse.size,
        "nearest_m": float(drawn.min()) if drawn.size else None,
        "farthest_m": float(drawn.max()) if drawn.size else None,
        "doubt": doubt,
    }
    if args.json:
        print_json(report)
        return 0
    origin = "measured pixels" if frame.points is None else f"of {len(frame.points)} points"
    print(f"{args.out}: frame {frame.name}, {drawn.size} {origin} in the image", end="")
    if drawn.size:
        share = 100 * drawn.size / sparse.size
        print(f" ({share:.1f} % of the pixels), {drawn.min():.1f} to {drawn.max():.1f} m")
    else:
        print("; is the LiDAR looking where the camera looks?")
    if doubt:
        print(f"doubt: {doubt}")
    return 0


def frame_index(frame_names: Iterable[str], wanted: str) -> int:
    """Find a frame by its name, else by its index (negative counts from the end).

    Raises:
        InputError: there is no such frame.
    """
    from ..errors import InputError

    names = list(frame_names)
    if wanted in names:
        return names.index(wanted)
    if wanted.lstrip("-").isdecimal() and -len(names) <= int(wanted) < len(names):
        return int(wanted) % len(names)
    msg = (
        f"--frame: found {wanted!r}, expected an index below {len(names)} or a name such as "
        f"{names[0]}"
    )
    raise InputError(msg)


def _encoder(path: Path) -> Any:
    """Check the picture's name before any work is done; give what writes it."""
    from ..datasets.whole_file import write_whole
    from ..errors import InputError

    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        msg = f"{path}: found suffix {path.suffix!r}, expected .png or .jpg"
        raise InputError(msg)

    def write(picture: Any) -> None:
        import cv2

        _, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        write_whole(path, bytes(data))

    return write
