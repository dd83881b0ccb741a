"""Make the moving picture of the README: camera, LiDAR points, dense depth, confidence.

    python demo/make_overview.py docs/overview.gif [SOURCE] [--network fill] [--frames 24]

Without SOURCE it renders the synthetic street. Needs OpenCV 4.11 or newer for animations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from depth_completion_ros import Frame, open_completer, open_source
from depth_completion_ros.completers import Completer
from depth_completion_ros.evaluation.pictures import (
    colorize_confidence,
    colorize_depth,
    draw_sparse,
    stack_panels,
)
from depth_completion_ros.share import find_share_file


def draw_frame(completer: Completer, frame: Frame, width: int) -> np.ndarray:
    """Complete one frame and lay the four pictures out two by two.

    Args:
        completer: gives depth and confidence.
        frame: image and points.
        width: of one picture, in pixels.

    Returns:
        (rows, 2 * width, 3) uint8 RGB.
    """
    dense = completer.complete(frame)
    pictures = (
        ("camera", frame.image),
        ("LiDAR", draw_sparse(frame.image, dense.sparse)),
        ("dense depth", colorize_depth(dense.depth)),
        ("confidence", colorize_confidence(dense.confidence)),
    )
    size = (width, round(frame.camera.height * width / frame.camera.width))
    small = [
        (title, cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        for title, picture in pictures
    ]
    return stack_panels(small, columns=2)


def main() -> None:
    """Read the arguments and write the animation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--network", default="auto")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--width", type=int, default=414)
    args = parser.parse_args()
    dataset = open_source(args.source or find_share_file("config/synthetic/street.yaml"))
    indices = np.linspace(0, len(dataset) - 1, min(args.frames, len(dataset))).astype(int)
    with open_completer(args.network) as completer:
        sheets = [draw_frame(completer, dataset[int(i)], args.width) for i in indices]
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(sheet[..., ::-1]) for sheet in sheets]
    animation.durations = np.full(len(sheets), 150, np.int32)
    if not cv2.imwriteanimation(str(args.out), animation):
        raise SystemExit(f"{args.out}: cannot be written")
    print(f"{args.out}: {len(sheets)} frames, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
