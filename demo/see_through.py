"""Show what the see-through filter does to the LiDAR's own error, in numbers and in a picture.

    python demo/see_through.py ../shared/kitti/completion --out see_through.png

SOURCE is a folder of NAME_image, NAME_sparse and NAME_gt, or anything else with ground truth. The
table has one line for each set (the names' part before the first underscore): error of the
measurements against the ground truth before and after, over the pixels that have both.

wrong      measurements more than max(1 m, 5 %) behind the ground truth
precision  share of the removed measurements that are wrong
recall     share of the wrong measurements that are removed
seen past  the same, of those whose parallax is 1.5 px or more; the others were not seen past an
           edge, but through glass, leaves or with the rim of the beam
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from depth_completion_ros import Frame, open_source
from depth_completion_ros.evaluation.pictures import stack_panels
from depth_completion_ros.geometry.occlusion import see_through_mask
from depth_completion_ros.geometry.projection import project_points
from depth_completion_ros.settings import OcclusionFilterSettings

COLUMNS = (
    "set", "frames", "points", "removed", "RMSE mm", "after", "MAE mm", "after", "wrong",
    "precision", "recall", "seen past",
)  # fmt: skip
FORMAT = (
    "{:<10}{:>7}{:>8.0f}{:>9.0f}{:>9.0f}{:>7.0f}{:>8.0f}{:>7.0f}{:>7.0f}{:>10.0%}{:>8.0%}{:>11.0%}"
)


def measure_frame(
    frame: Frame, sparse: np.ndarray, truth: np.ndarray, removed: np.ndarray
) -> dict[str, float]:
    """Compare a frame's measurements with the ground truth, all of them and those that stay."""
    both = (sparse > 0) & (truth > 0)
    error = np.where(both, sparse - truth, 0)
    kept = both & ~removed
    wrong = both & (error > np.maximum(1.0, 0.05 * truth))
    seen_past = wrong & (parallax(frame, sparse, truth) >= 1.5)
    return {
        "points": np.count_nonzero(sparse),
        "removed": np.count_nonzero(removed),
        "rmse_before": 1e3 * float(np.sqrt(np.mean(error[both] ** 2))),
        "rmse_after": 1e3 * float(np.sqrt(np.mean(error[kept] ** 2))),
        "mae_before": 1e3 * float(np.abs(error[both]).mean()),
        "mae_after": 1e3 * float(np.abs(error[kept]).mean()),
        "wrong": np.count_nonzero(wrong),
        "judged": np.count_nonzero(removed & both),
        "found": np.count_nonzero(removed & wrong),
        "seen_past": np.count_nonzero(seen_past),
        "seen_past_found": np.count_nonzero(removed & seen_past),
    }


def parallax(frame: Frame, near_or_far: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give the pixels by which LiDAR and camera see the two depths of a pixel apart."""
    K, origin = frame.camera.K, frame.T_camera_lidar[:3, 3] + frame.camera.shift
    v, u = np.mgrid[: frame.camera.height, : frame.camera.width]
    across = K[0, 0] * origin[0] - (u - K[0, 2]) * origin[2]
    down = K[1, 1] * origin[1] - (v - K[1, 2]) * origin[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.hypot(across, down) * np.abs(1 / truth - 1 / near_or_far)


def print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    """Print one line per set: means over frames, shares over all points."""
    print("{:<10}{:>7}{:>8}{:>9}{:>9}{:>7}{:>8}{:>7}{:>7}{:>10}{:>8}{:>11}".format(*COLUMNS))
    for name, frames in rows.items():
        mean = {key: float(np.mean([frame[key] for frame in frames])) for key in frames[0]}
        print(
            FORMAT.format(
                name, len(frames), mean["points"], mean["removed"],
                mean["rmse_before"], mean["rmse_after"], mean["mae_before"], mean["mae_after"],
                mean["wrong"], mean["found"] / max(mean["judged"], 1e-9),
                mean["found"] / max(mean["wrong"], 1e-9),
                mean["seen_past_found"] / max(mean["seen_past"], 1e-9),
            )
        )  # fmt: skip


def draw(frame: Frame, sparse: np.ndarray, removed: np.ndarray, width: int = 330) -> np.ndarray:
    """Lay the part of the image with most removed points out before and after the filter."""
    height, scale = width * 5 // 8, 3
    density = cv2.boxFilter(removed.astype(np.float32), -1, (width, height), normalize=False)
    v, u = np.unravel_index(np.argmax(density), density.shape)
    top = int(np.clip(v - height // 2, 0, max(frame.camera.height - height, 0)))
    left = int(np.clip(u - width // 2, 0, max(frame.camera.width - width, 0)))
    part = np.s_[top : top + height, left : left + width]
    big = cv2.resize(frame.image[part], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    measured = sparse[part]
    nearness = 1 / np.maximum(measured, 1e-3)
    low, high = np.percentile(nearness[measured > 0], (2, 98))
    shade = np.uint8(255 * np.clip((nearness - low) / (high - low), 0, 1))
    colors = cv2.applyColorMap(shade, cv2.COLORMAP_TURBO)[..., ::-1]
    before, after = big.copy() // 2, big.copy() // 2
    for row, column in np.argwhere(measured > 0):
        color = tuple(int(value) for value in colors[row, column])
        centre = (scale * column + scale // 2, scale * row + scale // 2)
        cv2.circle(before, centre, 3, color, cv2.FILLED, cv2.LINE_AA)
        if removed[part][row, column]:
            cv2.circle(before, centre, 5, (255, 255, 255), 1, cv2.LINE_AA)
        else:
            cv2.circle(after, centre, 3, color, cv2.FILLED, cv2.LINE_AA)
    titles = ("before; removed ones circled", "after")
    return stack_panels(list(zip(titles, (before, after), strict=True)), columns=2)


def main() -> None:
    """Read the arguments, print the table and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--out", type=Path, help="picture of the frame that loses most points")
    parser.add_argument("--frame", help="name of the frame to draw instead")
    defaults = OcclusionFilterSettings()
    parser.add_argument("--gap", type=float, default=defaults.gap, help="rad")
    parser.add_argument("--baseline", type=float, default=defaults.baseline, help="m")
    arguments = parser.parse_args()
    settings = OcclusionFilterSettings(gap=arguments.gap, baseline=arguments.baseline)

    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    most, picture = -1, None
    source = open_source(arguments.source)
    for i in tqdm(range(len(source)), disable=None):
        truth = source.ground_truth(i)
        if truth is None:
            continue
        frame = source[i]
        sparse = frame.sparse_depth
        if sparse is None:
            sparse = project_points(frame.points, frame.camera, frame.T_camera_lidar)
        removed = see_through_mask(sparse, frame.camera, settings, frame.T_camera_lidar)
        rows[frame.name.split("_")[0]].append(measure_frame(frame, sparse, truth, removed))
        count = np.count_nonzero(removed)
        if (
            arguments.out
            and (frame.name == arguments.frame or not arguments.frame)
            and count > most
        ):
            most, picture = count, draw(frame, sparse, removed)
    print_table(rows)
    if picture is not None:
        cv2.imwrite(str(arguments.out), picture[..., ::-1])


if __name__ == "__main__":
    main()
