"""`benchmark`: how long each stage of a completion takes on this machine.

Not here: errors (`evaluate.py`). Ratios to plain reference code are taken in the same run, one
frame of each in turn, because times on a busy machine wander and ratios do not.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .arguments import (
    add_command,
    add_completer_flags,
    add_json_flag,
    add_source,
    open_completer_of,
    projection_settings,
    source_options,
    whole_number,
)
from .output import format_table, print_json

if TYPE_CHECKING:
    from ..completers import Completer
    from ..data import Float32Array, Frame

_STAGES = ("upload", "project", "prepare", "infer", "refine", "download", "total")
_SIZE = "1242x375"
_POINTS = 120_000
_REFERENCE_THREADS = 2

_DESCRIPTION = """
Completes one frame again and again and prints median and 95th percentile of every stage. Without
SOURCE the frame is made up: a street with walls and boxes, seen by a camera of KITTI's field of
view and a scanner with 64 beams that looks all around. In turn with it run two references: the
projection as plain numpy (transform, then np.minimum.at), and single-scale IP-Basic on the same
sparse map; the ratios to them are printed. With --reference a third one runs: a plain U-Net of
297,181 random weights at 1248x384 through ONNX Runtime with 2 threads, whose time tells how fast
a machine is at networks.
"""
_EXAMPLES = """
depth_completion benchmark --network fill
depth_completion benchmark --size 1920x1080 --points 200000
depth_completion benchmark --network redc_lite --reference
depth_completion benchmark 2011_09_26_drive_0009_sync --frame 11 --json
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "benchmark",
        summary="Time every stage of a completion on this machine.",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_source(parser, optional=True)
    parser.add_argument("--frame", default="0", help="name or index of SOURCE's frame")
    parser.add_argument(
        "--size", default=_SIZE, metavar="WxH", help=f"of the made-up image (default: {_SIZE})"
    )
    parser.add_argument(
        "--points",
        type=whole_number(64),
        default=_POINTS,
        help=f"in the made-up scan (default: {_POINTS})",
    )
    parser.add_argument(
        "--repeat", type=whole_number(1), default=50, help="timed completions (default: 50)"
    )
    parser.add_argument(
        "--warm-up", type=whole_number(0), default=5, help="completions before (default: 5)"
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="compare with a plain U-Net, too; needs torch, onnx and onnxruntime",
    )
    add_completer_flags(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Time the stages and the references, and print what they took."""
    frame = _read_frame(args) if args.source else street_frame(*_size(args.size), args.points)
    with open_completer_of(args) as completer:
        seconds = _measure(completer, frame, args)
        report = {
            "network": completer.name,
            "backend": completer.backend,
            "device": completer.device,
            "frame": _describe(frame, args),
            "repeat": args.repeat,
            "stages": {name: _percentiles(seconds[name]) for name in _STAGES if seconds[name]},
            "references": {n: _percentiles(s) for n, s in seconds.items() if n not in _STAGES},
            "ratios": _ratios(seconds),
            "machine": _machine(completer.backend),
        }
    if args.json:
        print_json(report)
    else:
        _print_report(report)
    return 0


def street_frame(width: int, height: int, points: int, seed: int = 0) -> Frame:
    """Make up a frame that is as much work as a real one, without any data.

    Args:
        width, height: of the image in pixels.
        points: returns of the scan all around, about one in six of them in the image.
        seed: of noise, boxes and image.
    """
    import numpy as np

    from ..data import Frame, PinholeCamera

    random = np.random.default_rng(seed)
    beams = 64
    columns = -(-points // beams)
    elevation, azimuth = np.meshgrid(
        np.deg2rad(np.linspace(-24.8, 2.0, beams)),
        np.linspace(-np.pi, np.pi, columns, endpoint=False),
        indexing="ij",
    )
    cosine = np.cos(elevation)
    ray = np.stack((cosine * np.cos(azimuth), cosine * np.sin(azimuth), np.sin(elevation)), -1)
    ray = ray.reshape(-1, 3)[:points]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Ground 1.73 m below, walls 9 m beside, the end of the street 70 m ahead and behind.
        distance = np.minimum(9 / np.abs(ray[:, 1]), 70 / np.abs(ray[:, 0]))
        distance = np.where(ray[:, 2] < 0, np.minimum(distance, -1.73 / ray[:, 2]), distance)
        for x, y in random.uniform((-50, -7), (50, 7), (30, 2)):
            near = (x - 1) / ray[:, 0]
            hit = near[:, None] * ray
            on_box = (near > 3) & (np.abs(hit[:, 1] - y) < 0.9) & (hit[:, 2] < -0.1)
            distance = np.where(on_box, np.minimum(distance, near), distance)
    distance += random.normal(0, 0.02, len(distance))
    scan = np.column_stack((ray * distance[:, None], random.random(len(ray)))).astype(np.float32)
    focal = 0.581 * width
    K = np.array([[focal, 0, 0.49 * width], [0, focal, 0.46 * height], [0, 0, 1.0]])
    T = np.array([[0, -1, 0, 0.06], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    return Frame(image, PinholeCamera(width, height, K), T, scan, name="street")


def project_plainly(frame: Frame) -> Float32Array:
    """Project as one would write it down first; the yardstick for the projection's speed."""
    import numpy as np

    assert frame.points is not None
    assert frame.T_camera_lidar is not None
    camera = frame.camera
    T, K = frame.T_camera_lidar.astype(np.float32), camera.K.astype(np.float32)
    x, y, z = T[:3, :3] @ frame.points[:, :3].T + T[:3, 3:]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.rint(K[0, 0] * (x / z) + K[0, 2])
        v = np.rint(K[1, 1] * (y / z) + K[1, 2])
    seen = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    depth = np.full(camera.height * camera.width, np.inf, np.float32)
    # On a flat map: with two index arrays numpy takes a path that is thirty times slower.
    index = v[seen].astype(np.intp) * camera.width + u[seen].astype(np.intp)
    np.minimum.at(depth, index, z[seen])
    depth[np.isinf(depth)] = 0
    return depth.reshape(camera.height, camera.width)


def _measure(
    completer: Completer, frame: Frame, args: argparse.Namespace
) -> dict[str, list[float]]:
    """Run completion and references in turn; give the seconds of each run by name."""
    from ..completers.base import sparse_depth_of
    from ..completers.ip_basic import fill_ip_basic

    sparse = sparse_depth_of(frame, projection_settings(args))
    seconds: dict[str, list[float]] = {name: [] for name in _STAGES}
    references: dict[str, Callable[[], object]] = {"ip_basic": lambda: fill_ip_basic(sparse)}
    if frame.points is not None:
        references["plain_projection"] = lambda: project_plainly(frame)
    if args.reference:
        references["reference_unet"] = _reference_unet()
    for run_number in range(args.warm_up + args.repeat):
        is_timed = run_number >= args.warm_up
        dense = completer.complete(frame)
        for name in _STAGES:
            if is_timed and name in dense.timings:
                seconds[name].append(dense.timings[name])
        for name, reference in references.items():
            start = time.perf_counter()
            reference()
            if is_timed:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return seconds


def _reference_unet() -> Callable[[], object]:
    """Make a function that runs the yardstick among networks once.

    Raises:
        ModelFileError, BackendError: torch, onnx or ONNX Runtime are missing.
    """
    import tempfile

    import numpy as np

    from ..backends.onnx_ import open_session
    from ..backends.torch_ import require_torch

    require_torch()
    from ..networks import reference_unet as reference

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.onnx"
        reference.export_reference(path)
        session = open_session(path, ["CPUExecutionProvider"], threads=_REFERENCE_THREADS)
    shape = (
        1,
        reference.REFERENCE_CHANNELS,
        reference.REFERENCE_HEIGHT,
        reference.REFERENCE_WIDTH,
    )
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    return lambda: session.run(None, {"x": x})


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Compare medians: the projection with plain numpy, the rest with IP-Basic."""
    import numpy as np

    ratios = {}
    if seconds.get("plain_projection") and seconds["project"]:
        plain = np.median(seconds["plain_projection"])
        ratios["project_to_plain_projection"] = float(np.median(seconds["project"]) / plain)
    if seconds["project"]:
        rest = np.subtract(seconds["total"], seconds["project"])
        ratio = np.median(rest) / np.median(seconds["ip_basic"])
        ratios["total_without_project_to_ip_basic"] = float(ratio)
    if seconds.get("reference_unet"):
        unet = np.median(seconds["reference_unet"])
        ratios["total_to_reference_unet"] = float(np.median(seconds["total"]) / unet)
    return ratios


def _percentiles(seconds: list[float]) -> dict[str, float]:
    import numpy as np

    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def _describe(frame: Frame, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "source": args.source or "made up",
        "name": frame.name,
        "width": frame.camera.width,
        "height": frame.camera.height,
        "points": None if frame.points is None else len(frame.points),
    }


def _machine(backend: str) -> dict[str, Any]:
    import cv2
    import numpy as np

    from ..share import __version__

    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "opencv_threads": cv2.getNumThreads(),
        "load": round(os.getloadavg()[0], 2),
        "depth_completion": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    distribution = {"onnxruntime": "onnxruntime", "torch": "torch", "tensorrt": "tensorrt"}
    if backend in distribution:
        machine[backend] = _distribution_version(distribution[backend])
    return machine


def _distribution_version(name: str) -> str:
    from importlib import metadata

    for candidate in (name, f"{name}-gpu"):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 15 and int(height) > 15):
        msg = f"--size: found {text!r}, expected WIDTHxHEIGHT in pixels, 16x16 or more"
        raise InputError(msg)
    return int(width), int(height)


def _read_frame(args: argparse.Namespace) -> Frame:
    from .frames import SourceReader
    from .overlay import frame_index

    with SourceReader(args.source, **source_options(args)) as reader:
        return reader.read_one(frame_index(reader.dataset.names, args.frame))


def _print_report(report: dict[str, Any]) -> None:
    frame, machine = report["frame"], report["machine"]
    points = "a sparse map" if frame["points"] is None else f"{frame['points']} points"
    print(
        f"{report['network']} on {report['backend']} ({report['device']}), {frame['width']}x"
        f"{frame['height']}, {points}, {report['repeat']} runs"
    )
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}")
    known = ("depth_completion", "python", "numpy", "opencv", "onnxruntime", "torch", "tensorrt")
    print(", ".join(f"{name} {machine[name]}" for name in known if name in machine))
    rows = [
        (name.replace("_", " "), f"{times['p50_ms']:.2f}", f"{times['p95_ms']:.2f}")
        for name, times in {**report["stages"], **report["references"]}.items()
    ]
    print("\n" + format_table(("stage", "median ms", "95 % ms"), rows))
    ratios = report["ratios"]
    if "project_to_plain_projection" in ratios:
        ratio = ratios["project_to_plain_projection"]
        print(f"\nproject / plain projection: {ratio:.2f} (see-through filter included)")
    if "total_without_project_to_ip_basic" in ratios:
        ratio = ratios["total_without_project_to_ip_basic"]
        print(f"total without project / IP-Basic: {ratio:.2f}")
    if "total_to_reference_unet" in ratios:
        print(f"total / reference U-Net: {ratios['total_to_reference_unet']:.2f}")
