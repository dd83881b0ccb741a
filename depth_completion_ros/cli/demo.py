"""`depth_completion demo`: player, node and recorder over real DDS, then a table and a picture.

Not here: the nodes themselves, which are started as a user would start them. This process imports
no ROS; it reads what the recorder wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float32Array, Frame
from ..datasets import Dataset, open_source
from ..errors import InputError
from ..evaluation.metrics import kitti_metrics
from ..evaluation.pictures import (
    colorize_confidence,
    colorize_depth,
    colorize_error,
    draw_sparse,
    stack_panels,
)
from ..messages.headers import stamp_ns
from ..messages.image import read_depth_image
from ..share import find_share_file
from .arguments import add_command, add_json_flag
from .output import print_json

_DESCRIPTION = """
Starts kitti_player and depth_completion_node as two processes over real DDS at the recorded rate,
records the outputs into a bag, checks that every frame came through, and ends in a table and a
picture, OUT/overview.png.
"""
_EXAMPLES = """
depth_completion demo
depth_completion demo --drive 2011_09_26/2011_09_26_drive_0009_sync --network fill
"""
NAMESPACE = "/depth_completion"
# Nothing outlives these: a hanging process is a failed demo, not a hanging terminal.
_READY_SECONDS = 90.0
_STOP_SECONDS = 15.0
_DRAIN_SECONDS = 2.0

_RECORDED = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "depth/image": "sensor_msgs/msg/Image",
    "confidence/image": "sensor_msgs/msg/Image",
    "sparse_depth/image": "sensor_msgs/msg/Image",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}


@dataclass
class Recording:
    """Hold what the recorder saw, stamps in nanoseconds.

    Attributes:
        inputs: stamps of the camera_info messages the player sent, ascending.
        latencies: image stamp -> seconds from stamp to publication of the depth.
        maps: topic -> image stamp -> (H, W) float32.
        diagnostics: last value of every diagnostic key of the node.
    """

    inputs: list[int] = field(default_factory=list)
    latencies: dict[int, float] = field(default_factory=dict)
    maps: dict[str, dict[int, Float32Array]] = field(default_factory=dict)
    diagnostics: dict[str, str] = field(default_factory=dict)


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
    parser.add_argument("--network", default="auto", help="completer by name (default: auto)")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the player")
    parser.add_argument("--frames", type=int, default=-1, help="play only so many frames")
    parser.add_argument(
        "--ground-truth",
        metavar="PREFIX",
        help="depth PNGs of the frames, named PREFIXname_gt.png or PREFIXname.png",
    )
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0 if every frame came through, 1 if some did not.

    Raises:
        InputError: the source cannot be read, or a process did not start.
    """
    source = args.drive or str(find_share_file("config/synthetic/street.yaml"))
    dataset = open_source(source)
    frames = len(dataset) if args.frames < 0 else min(args.frames, len(dataset))
    out = Path(args.out)
    bag = out / "bag"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(bag, ignore_errors=True)
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); choose another --out"
        raise InputError(msg) from None
    truth = _ground_truth(dataset, args.ground_truth, frames)
    calibration = _write_calibration(dataset[0], out / "calibration.yaml")
    _play_and_record(args, dataset, frames, calibration, bag)
    recording = read_recording(bag)
    report = summarise(recording, dataset, frames, truth)
    picture = out / "overview.png"
    _draw(recording, dataset, truth, picture)
    report["picture"] = str(picture)
    report["bag"] = str(bag)
    (out / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    if args.json:
        print_json(report)
    else:
        print(_table(report))
    return 0 if report["published"] == report["frames_in"] == frames else 1


def _play_and_record(
    args: argparse.Namespace, dataset: Dataset, frames: int, calibration: Path, bag: Path
) -> None:
    out = bag.parent
    namespace = ["-r", f"__ns:={NAMESPACE}"]
    player = [
        *_console_script("kitti_player", "kitti_player"),
        *["--ros-args", *namespace],
        *["-p", f"drive:={dataset.path}", "-p", "stamps:=now", "-p", "start_paused:=true"],
        *["-p", f"rate:={float(args.rate)}", "-p", f"end:={frames}"],
    ]
    node = [
        *_console_script("depth_completion_node", "completion_node"),
        *["--ros-args", *namespace, "-p", f"network:={args.network}"],
        *["-p", "calibration.source:=file", "-p", f"calibration.file:={calibration}"],
    ]
    recorder = [sys.executable, "-m", "depth_completion_ros.node.recorder", "--out", str(bag)]
    for topic, kind in _RECORDED.items():
        recorder += ["--topic", f"{topic}:{kind}"]
    for topic in ("depth/image", "camera_info", "image"):
        recorder += ["--wait-for-publisher", topic]
    for topic in ("image", "points", "camera_info"):
        recorder += ["--wait-for-subscriber", topic]
    recorder += ["--unpause", "kitti_player/pause", "--ros-args", *namespace]
    environment = ros_environment()
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(_process(name, command, environment, out))
            for name, command in (("node", node), ("player", player), ("recorder", recorder))
        }
        seconds = _READY_SECONDS + 0.1 * frames / args.rate * 2
        _wait_for(running, "player", seconds, out)
        time.sleep(_DRAIN_SECONDS)
        for name in ("recorder", "node"):
            _stop(running[name])
            if running[name].returncode != 0:
                raise InputError(_failure(name, running[name].returncode, out))


def ros_environment() -> dict[str, str]:
    """Give the environment that keeps a demo apart from other ROS systems and loses no message.

    The shipped DDS profile is set under the variable names of both distributions unless the user
    chose one; the domain is random so that two runs do not meet.
    """
    profile = str(find_share_file("config/fastdds_profile.xml"))
    environment = dict(os.environ)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        environment.setdefault(name, profile)
    environment.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return environment


def _console_script(name: str, module: str) -> list[str]:
    """Find an executable of this package: the one pip made, else the module itself."""
    script = Path(sysconfig.get_path("scripts")) / name
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-m", f"depth_completion_ros.node.{module}"]


@contextlib.contextmanager
def _process(
    name: str, command: Sequence[str], environment: dict[str, str], out: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a group of its own and leave nothing of it behind."""
    with (out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)


def _wait_for(
    running: dict[str, subprocess.Popen[bytes]], name: str, seconds: float, out: Path
) -> None:
    """Wait until one process ends by itself; any other that ends first is a failure."""
    deadline = time.monotonic() + seconds
    while running[name].poll() is None:
        for other, process in running.items():
            if other != name and process.poll() is not None:
                raise InputError(_failure(other, process.returncode, out))
        if time.monotonic() > deadline:
            msg = f"{name}: still running after {seconds:.0f} s; see {out / f'{name}.log'}"
            raise InputError(msg)
        time.sleep(0.05)
    if running[name].returncode != 0:
        raise InputError(_failure(name, running[name].returncode, out))


def _failure(name: str, status: int, out: Path) -> str:
    log = out / f"{name}.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return f"{name}: ended with status {status} ({last}); see {log}"


def _write_calibration(frame: Frame, path: Path) -> Path:
    import yaml

    camera = frame.camera
    if frame.T_camera_lidar is None:
        msg = "demo: the source has no extrinsics, so no cloud can be played; see `convert`"
        raise InputError(msg)
    content = {
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "K": camera.K.tolist(),
            "D": camera.D.tolist(),
            "distortion_model": camera.distortion_model,
        },
        "T_camera_lidar": frame.T_camera_lidar.tolist(),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def read_recording(bag: Path) -> Recording:
    """Read the recorder's bag.

    Args:
        bag: folder of a rosbag2 with the topics of the demo.

    Returns:
        What came in and out, by image stamp.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    recording = Recording(maps={name: {} for name in _RECORDED if name.endswith("/image")})
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        for connection, time_ns, raw in reader.messages():
            msg: Any = reader.deserialize(raw, connection.msgtype)
            topic = connection.topic.removeprefix(f"{NAMESPACE}/")
            if topic == "/diagnostics":
                for status in msg.status:
                    recording.diagnostics.update({v.key: v.value for v in status.values})
                continue
            stamp = stamp_ns(msg.header.stamp)
            if topic == "camera_info":
                recording.inputs.append(stamp)
                continue
            recording.maps[topic][stamp] = read_depth_image(msg)
            if topic == "depth/image":
                recording.latencies[stamp] = (time_ns - stamp) * 1e-9
    recording.inputs.sort()
    return recording


def _ground_truth(dataset: Dataset, prefix: str | None, frames: int) -> dict[int, Float32Array]:
    """Collect the ground truth of the played frames by index, from the source or from files."""
    from ..datasets.depth_png import read_depth_png

    if prefix is None:
        maps = {index: dataset.ground_truth(index) for index in range(frames)}
        return {index: depth for index, depth in maps.items() if depth is not None}
    truth = {}
    for index in range(frames):
        for suffix in ("_gt.png", ".png"):
            path = Path(f"{prefix}{dataset.names[index]}{suffix}")
            if path.is_file() and index not in truth:
                truth[index] = read_depth_png(path)
    if not truth:
        msg = f"{prefix}: found no {prefix}{dataset.names[0]}_gt.png nor any for another frame"
        raise InputError(msg)
    return truth


def summarise(
    recording: Recording, dataset: Dataset, frames: int, truth: dict[int, Float32Array]
) -> dict[str, Any]:
    """Boil a recording down to the figures of the table.

    Args:
        recording: what the recorder saw.
        dataset: the source that was played.
        frames: number of frames that were played.
        truth: ground truth by frame index.

    Returns:
        Counts, latencies in milliseconds, errors in millimetres.
    """
    latencies = np.array(list(recording.latencies.values())) * 1e3
    report: dict[str, Any] = {
        "source": str(dataset.path),
        "frames": frames,
        "frames_in": len(recording.inputs),
        "published": len(recording.latencies),
        "dropped": {
            key.removeprefix("dropped."): int(value)
            for key, value in recording.diagnostics.items()
            if key.startswith("dropped.") and value != "0"
        },
        "backend": recording.diagnostics.get("backend", "unknown"),
    }
    for percent in (50, 95, 99):
        value = float(np.percentile(latencies, percent)) if len(latencies) else float("nan")
        report[f"stamp_to_publish_p{percent}_ms"] = value
    report |= _errors(recording, truth, 0.0, "")
    # An exact truth covers what no LiDAR measures: roofs, crowns, the street above the top beam.
    report |= _errors(recording, truth, 0.5, "_trusted")
    return report


def _errors(
    recording: Recording, truth: dict[int, Float32Array], confidence: float, suffix: str
) -> dict[str, Any]:
    """Average the errors over the frames, of the pixels with at least this confidence."""
    scores, shares = [], []
    for index, stamp in enumerate(recording.inputs):
        depth = recording.maps["depth/image"].get(stamp)
        trust = recording.maps["confidence/image"].get(stamp)
        if depth is None or trust is None or index not in truth:
            continue
        known = truth[index] > 0
        judged = np.where(trust >= confidence, truth[index], np.float32(0))
        if np.any(judged):
            scores.append(kitti_metrics(depth, judged))
            shares.append(np.count_nonzero(judged) / np.count_nonzero(known))
    if not scores:
        return {}
    return {
        f"frames_with_ground_truth{suffix}": len(scores),
        f"share_judged{suffix}": float(np.mean(shares)),
        f"rmse_mm{suffix}": float(np.mean([score.rmse_mm for score in scores])),
        f"mae_mm{suffix}": float(np.mean([score.mae_mm for score in scores])),
    }


def _draw(
    recording: Recording, dataset: Dataset, truth: dict[int, Float32Array], path: Path
) -> None:
    """Write the overview of one frame, one with ground truth if there is any."""
    import cv2

    depths = recording.maps["depth/image"]
    complete = [i for i, stamp in enumerate(recording.inputs) if stamp in depths]
    if not complete:
        return
    candidates = [i for i in complete if i in truth] or complete
    index = candidates[len(candidates) // 2]
    stamp, frame = recording.inputs[index], dataset[index]
    sparse = recording.maps["sparse_depth/image"].get(stamp)
    confidence = recording.maps["confidence/image"].get(stamp)
    panels = [("camera", frame.image)]
    if sparse is not None:
        panels.append(("LiDAR points (0 to 80 m)", draw_sparse(frame.image, sparse)))
    panels.append(("dense depth (0 to 80 m)", colorize_depth(depths[stamp])))
    if confidence is not None:
        panels.append(("confidence (dark 0, bright 1)", colorize_confidence(confidence)))
    if index in truth:
        error = colorize_error(depths[stamp], truth[index])
        panels.append(("absolute error (0 to 2 m)", error))
    sheet = stack_panels(panels)
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1]))


def _table(report: dict[str, Any]) -> str:
    dropped = ", ".join(f"{n} {reason}" for reason, n in report["dropped"].items()) or "none"
    rows = [
        ("source", report["source"]),
        ("backend", report["backend"]),
        ("frames in", report["frames_in"]),
        ("published", report["published"]),
        ("dropped", dropped),
        (
            "stamp to publish p50 / p95 / p99",
            " / ".join(f"{report[f'stamp_to_publish_p{p}_ms']:.1f}" for p in (50, 95, 99)) + " ms",
        ),
    ]
    for suffix, title in (("", "RMSE / MAE"), ("_trusted", "RMSE / MAE, confidence >= 0.5")):
        if f"rmse_mm{suffix}" in report:
            errors = f"{report[f'rmse_mm{suffix}']:.0f} / {report[f'mae_mm{suffix}']:.0f} mm"
            count = report[f"frames_with_ground_truth{suffix}"]
            share = f"{report[f'share_judged{suffix}']:.0%} of the known pixels"
            rows.append((title, f"{errors} ({count} frames, {share})"))
    rows += [("picture", report["picture"]), ("bag", report["bag"])]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
