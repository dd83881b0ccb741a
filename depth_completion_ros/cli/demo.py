"""`depth_completion demo`: player, node and recorder over real DDS, then a table and a picture.

Not here: the nodes themselves, which are started as a user would start them. This process imports
no ROS; it reads what the recorder wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ..data import Frame
from ..datasets import Dataset, open_source
from ..errors import InputError
from ..settings import flatten
from ..share import find_share_file
from .arguments import (
    add_command,
    add_completer_flags,
    add_json_flag,
    completer_settings,
    number_from,
    whole_number,
)
from .demo_processes import (
    NAMESPACE,
    RECORDED,
    console_script,
    describe_failure,
    ros_environment,
    started,
    stop,
    wait_for,
)
from .demo_report import (
    draw_overview,
    format_report,
    read_ground_truth,
    read_recording,
    summarise,
)
from .output import print_json
from .progress import ProgressCounter

_DESCRIPTION = """
Starts kitti_player and depth_completion_node as two processes over real DDS at the recorded rate,
records the outputs into a bag, checks that every frame came through, and ends in a table and a
picture, OUT/overview.png.
"""
_EXAMPLES = """
depth_completion demo
depth_completion demo --drive 2011_09_26/2011_09_26_drive_0009_sync --network fill
"""
# Nothing outlives these: a hanging process is a failed demo, not a hanging terminal.
_READY_SECONDS = 90.0
_DRAIN_SECONDS = 2.0


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "demo",
        summary="Play a drive through the real node and show what comes out.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--drive", help="KITTI raw drive or any other source; default: a synthetic street"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for results")
    parser.add_argument(
        "--rate", type=number_from(0.01), default=1.0, help="speed of the player (default: 1)"
    )
    parser.add_argument("--frames", type=whole_number(1), help="play only so many frames")
    parser.add_argument(
        "--ground-truth",
        metavar="PREFIX",
        help="depth PNGs of the frames, named PREFIXname_gt.png or PREFIXname.png",
    )
    add_completer_flags(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0 if every frame came through, 1 if some did not.

    Raises:
        InputError: the source cannot be read, or a process did not start.
    """
    source = args.drive or str(find_share_file("config/synthetic/street.yaml"))
    with ProgressCounter("render, once") as counter:
        dataset = open_source(source, progress=counter.show)
    frames = min(args.frames or len(dataset), len(dataset))
    first = dataset[0]
    out = Path(args.out)
    bag = out / "bag"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(bag, ignore_errors=True)
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); choose another --out"
        raise InputError(msg) from None
    truth = read_ground_truth(dataset, args.ground_truth, frames)
    calibration = _write_calibration(first, out / "calibration.yaml")
    _play_and_record(args, dataset, frames, calibration, bag)
    recording = read_recording(bag)
    report = summarise(recording, dataset, frames, truth)
    picture = out / "overview.png"
    draw_overview(recording, dataset, truth, picture)
    report["picture"] = str(picture)
    report["bag"] = str(bag)
    (out / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    if args.json:
        print_json(report)
    else:
        print(format_report(report))
    return 0 if report["published"] == report["frames_in"] == frames else 1


def _play_and_record(
    args: argparse.Namespace, dataset: Dataset, frames: int, calibration: Path, bag: Path
) -> None:
    out = bag.parent
    namespace = ["-r", f"__ns:={NAMESPACE}"]
    player = [
        *console_script("kitti_player", "kitti_player"),
        *["--ros-args", *namespace],
        *["-p", f"drive:={dataset.path}", "-p", "stamps:=now", "-p", "start_paused:=true"],
        *["-p", f"rate:={float(args.rate)}", "-p", f"end:={frames}"],
    ]
    node = [
        *console_script("depth_completion_node", "completion_node"),
        *["--ros-args", *namespace],
        *_parameters(args),
        *["-p", "calibration.source:=file", "-p", f"calibration.file:={calibration}"],
    ]
    recorder = [sys.executable, "-m", "depth_completion_ros.node.recorder", "--out", str(bag)]
    for topic, kind in RECORDED.items():
        recorder += ["--topic", f"{topic}:{kind}"]
    for topic in ("depth/image", "camera_info", "image"):
        recorder += ["--wait-for-publisher", topic]
    for topic in ("image", "points", "camera_info"):
        recorder += ["--wait-for-subscriber", topic]
    recorder += ["--unpause", "kitti_player/pause", "--ros-args", *namespace]
    environment = ros_environment()
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(started(name, command, environment, out))
            for name, command in (("node", node), ("player", player), ("recorder", recorder))
        }
        seconds = _READY_SECONDS + 0.1 * frames / args.rate * 2
        wait_for(running, "player", seconds, out)
        time.sleep(_DRAIN_SECONDS)
        for name in ("recorder", "node"):
            stop(running[name])
            if running[name].returncode != 0:
                raise InputError(describe_failure(name, running[name].returncode, out))


def _parameters(args: argparse.Namespace) -> list[str]:
    """Hand the completer's flags on as parameters of the node."""
    words = []
    for name, _, value in flatten(completer_settings(args)):
        if value:
            words += ["-p", f"{name}:={value}"]
    return words


def _write_calibration(frame: Frame, path: Path) -> Path:
    import yaml

    camera = frame.camera
    if frame.points is None or frame.T_camera_lidar is None:
        msg = (
            "demo: the source has no point clouds to play, only depth maps; give a KITTI raw "
            "drive, a bag or a folder with NAME_points files, or use `complete`"
        )
        raise InputError(msg)
    T_camera_lidar = frame.T_camera_lidar.copy()
    T_camera_lidar[:3, 3] += camera.shift
    content = {
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "K": camera.K.tolist(),
            "D": camera.D.tolist(),
            "distortion_model": camera.distortion_model,
        },
        "T_camera_lidar": T_camera_lidar.tolist(),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
