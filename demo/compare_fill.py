"""Compare `fill` with plain methods, with and without the see-through filter.

    python demo/compare_fill.py ../shared/kitti ../shared/rigs ../shared/scenes
    python demo/compare_fill.py ../shared/rigs --sets panda002 --every 4

Three tables, RMSE / MAE in mm, KITTI's definitions, mean over frames. "Ground truth": against
NAME_gt. "Stripes": every fourth elevation stripe of the LiDAR is taken away and predicted.
"Points": 500 random pixels of dense depth are kept, the others are predicted. `best` is the better
of the plain methods, each metric by itself; a `!` marks where fill is worse than it. The goal of
stripes and points is linear interpolation, so `best` is that there. The plain methods get the
measurements as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from depth_completion_ros import Frame, open_source
from depth_completion_ros.completers.base import sparse_depth_of
from depth_completion_ros.completers.fill import fill_depth
from depth_completion_ros.completers.ip_basic import fill_ip_basic
from depth_completion_ros.evaluation.baselines import fill_linear, fill_nearest
from depth_completion_ros.evaluation.hold_out import hold_out
from depth_completion_ros.evaluation.metrics import kitti_metrics
from depth_completion_ros.settings import OcclusionFilterSettings, ProjectionSettings

# Folder below a PATH, the task there, and the sets: the beginnings of the frames' names.
SETS = (
    ("completion", "Ground truth", ("raw0009", "raw0013", "sfnd")),
    ("validation", "Ground truth", ("odo04",)),
    ("places", "Ground truth", ("k15",)),
    ("places", "Stripes", ("sc", "vlp16")),
    ("rigs", "Ground truth", ("panda002", "mlcc")),
    (
        "rigs",
        "Stripes",
        ("nusc2", "ddad", "sustech", "acfr_vlp", "acfr_os1", "panda002"),
    ),
    (
        "scenes",
        "Points",
        ("hab", "icl", "tum", "red", "hol", "tar_hosp", "mid"),
    ),
)
PLAIN = ("ip_basic", "linear", "nearest", "pull-push")
UNFILTERED = ProjectionSettings(occlusion_filter=OcclusionFilterSettings(enabled=False))
TASKS = ("Ground truth", "Stripes", "Points")


def fill_pull_push(sparse: np.ndarray) -> np.ndarray:
    """Average inverse depth over blocks of two by two, and fill holes from the level above."""
    known = sparse > 0
    inverse = np.divide(1, sparse, out=np.zeros_like(sparse), where=known)
    levels = []
    while min(inverse.shape) > 1:
        levels.append((inverse, known))
        height, width = inverse.shape
        pad = ((0, height % 2), (0, width % 2))
        total, count = (
            sum(padded[i::2, j::2] for i in (0, 1) for j in (0, 1))
            for padded in (np.pad(inverse * known, pad), np.pad(known.astype(np.float32), pad))
        )
        known = count > 0
        inverse = np.divide(total, count, out=np.zeros_like(total), where=known)
    for finer, known in reversed(levels):
        size = (finer.shape[1], finer.shape[0])
        above = cv2.resize(inverse, size, interpolation=cv2.INTER_LINEAR)
        inverse = np.where(known, finer, above)
    return np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > 0)


def linear_or_nearest(sparse: np.ndarray) -> np.ndarray:
    """Interpolate linearly; scipy has to be there."""
    linear = fill_linear(sparse)
    if linear is None:
        raise SystemExit("compare_fill: no scipy, or fewer than three measurements")
    return linear


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ip_basic": fill_ip_basic,
    "linear": linear_or_nearest,
    "nearest": fill_nearest,
    "pull-push": fill_pull_push,
}


def tasks_of(folder: Path, task: str, prefix: str, every: int) -> Iterator[tuple]:
    """Give frame and truth for every n-th frame of a set."""
    dataset = open_source(folder)
    indices = [i for i, name in enumerate(dataset.names) if name.startswith(prefix + "_")]
    if not indices:  # tar_hosp042, vlp16_..., names without an underscore after the prefix
        indices = [i for i, name in enumerate(dataset.names) if name.startswith(prefix)]
    for i in tqdm(indices[::every], desc=f"{task}: {prefix}", disable=None, leave=False):
        truth = dataset.ground_truth(i)
        if task == "Ground truth":
            if truth is not None:
                yield dataset[i], truth
            continue
        kind = "stripes" if task == "Stripes" else "points"
        given = None if task == "Stripes" else truth
        yield hold_out(dataset[i], kind, ground_truth=given)


def score(frame: Frame, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Complete a frame by every method; give (2,) RMSE and MAE in mm by method."""
    raw = sparse_depth_of(frame, UNFILTERED)
    results = {name: METHODS[name](raw) for name in PLAIN}
    for name, settings in (("fill", ProjectionSettings()), ("unfiltered", UNFILTERED)):
        filled = fill_depth(sparse_depth_of(frame, settings))
        results[name] = np.zeros_like(raw) if filled is None else filled.depth
    return {name: np.array(kitti_metrics(d, truth)[:2]) for name, d in results.items()}


def print_line(prefix: str, scores: list[dict[str, np.ndarray]], task: str) -> None:
    """Print the means of one set."""
    mean = {name: np.mean([s[name] for s in scores], axis=0) for name in scores[0]}
    goal = np.min([mean[n] for n in PLAIN], axis=0) if task == "Ground truth" else mean["linear"]
    cells = [f"{mean[name][0]:.0f} / {mean[name][1]:.0f}" for name in PLAIN]
    for name in ("fill", "unfiltered"):
        ratio = mean[name] / goal
        mark = "!" if np.any(ratio > 1) else ""
        cells.append(f"{mean[name][0]:.0f} / {mean[name][1]:.0f}")
        cells.append(f"{ratio[0]:.3f} / {ratio[1]:.3f}{mark}")
    print(f"{prefix:<10}{len(scores):>6} " + "".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="folders that hold the sets' folders")
    parser.add_argument("--sets", nargs="*", help="beginnings of names; all without it")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    head = (*PLAIN, "fill", "of best", "unfiltered", "of best")
    for task in args.tasks:
        print(f"\n{task}\n{'set':<10}{'frames':>6} " + "".join(f"{h:>16}" for h in head))
        for name, task_here, prefixes in SETS:
            for prefix in prefixes:
                if task_here != task or (args.sets and prefix not in args.sets):
                    continue
                for path in args.paths:
                    folder = path if path.name == name else path / name
                    if folder.is_dir():
                        scores = [score(*x) for x in tasks_of(folder, task, prefix, args.every)]
                        print_line(prefix, scores, task)


if __name__ == "__main__":
    main()
