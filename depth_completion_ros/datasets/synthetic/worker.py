"""Render a share of a drive's frames in a process of its own, started by `drive.py`.

Usage: python -m depth_completion_ros.datasets.synthetic.worker DRIVE FIRST STEP
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .drive import DriveRenderer
from .recipe import SyntheticRecipe


def main(arguments: list[str]) -> None:
    """Render frames FIRST, FIRST + STEP, ... and write a line after each."""
    import cv2

    cv2.setNumThreads(1)
    drive, first, step = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    values = json.loads((drive / "recipe.json").read_text(encoding="utf-8"))
    values.pop("renderer")
    renderer = DriveRenderer(SyntheticRecipe(**values))
    for index in range(first, renderer.recipe.frames, step):
        renderer.write_frame(drive, index)
        sys.stdout.write(f"{index}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
