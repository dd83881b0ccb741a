"""What a recording of the demo says: counts, latencies, errors, a table and a picture.

Not here: making the recording (`demo.py`, `demo_processes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Float32Array
from ..datasets import Dataset
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
from .demo_processes import NAMESPACE, RECORDED


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


def read_recording(bag: Path) -> Recording:
    """Read the recorder's bag.

    Args:
        bag: folder of a rosbag2 with the topics of the demo.

    Returns:
        What came in and out, by image stamp.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    recording = Recording(maps={name: {} for name in RECORDED if name.endswith("/image")})
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


def read_ground_truth(
    dataset: Dataset, prefix: str | None, frames: int
) -> dict[int, Float32Array]:
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


def draw_overview(
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


def format_report(report: dict[str, Any]) -> str:
    """Lay the figures of `summarise` out as a table for people."""
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
