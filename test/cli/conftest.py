"""A tiny source of three frames, and a way to run the command line as a user does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_completion_ros.cli.main import main

NAMES = ("street_01", "street_02", "street_03")
WIDTH, HEIGHT = 96, 64


def write_frame(folder: Path, name: str, *, seed: int = 0, with_truth: bool = True) -> None:
    """Write a slanted ground plane with a wall, measured on every eighth row."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.where(rows > 30, 1020 / np.maximum(rows - 29.0, 1), 60.0)
    depth = np.where((columns > 60) & (rows < 50), 12.0 + seed, depth).clip(2, 60)
    sparse = np.where(rows % 8 == 4, depth, 0)
    image = np.full((HEIGHT, WIDTH, 3), 40 + 20 * seed, np.uint8)
    cv2.imwrite(str(folder / f"{name}_image.png"), image)
    cv2.imwrite(str(folder / f"{name}_sparse.png"), (sparse * 256).astype(np.uint16))
    if with_truth:
        cv2.imwrite(str(folder / f"{name}_gt.png"), (depth * 256).astype(np.uint16))
    calibration = {
        "image_size": [WIDTH, HEIGHT],
        "K": [[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]],
        "D": [0, 0, 0, 0, 0],
        "distortion_model": "plumb_bob",
        "T_camera_lidar": [[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]],
    }
    (folder / f"{name}_calib.json").write_text(json.dumps(calibration))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        write_frame(folder, name, seed=seed)
    return folder


class Run:
    """What a command gave: its exit status and the text it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    def refused(self) -> str:
        """Make sure that it was refused in one line, and give that line."""
        assert self.status == 2
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("depth_completion: error: ")
        return lines[0].removeprefix("depth_completion: error: ")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run `depth_completion` with these arguments in this process."""

    def call(*arguments: object) -> Run:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Run(status, captured.out, captured.err)

    return call
