"""Folders of single frames: `NAME_image.{jpg,png}` and what was measured for it.

Beside each image lie `NAME_sparse.png` or `NAME_points.{bin,npy}`, `NAME_calib.json` (or one
`calib.json` for all), and optionally `NAME_gt.png`. Frames with ground truth and no measurements
are read with an empty sparse depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import Float32Array, Frame
from ..errors import InputError
from .base import Dataset
from .calibration import Calibration, read_calibration
from .depth_png import read_depth_png
from .image_file import read_image_file
from .scan_file import SCAN_SUFFIXES, read_scan

IMAGE_ENDINGS = ("_image.jpg", "_image.png", "_image.jpeg")


class FrameFolder(Dataset):
    """A folder of single frames, in the order of their names."""

    kind = "folder"

    def __init__(self, path: Path, *, calibration: Calibration | None = None) -> None:
        """Look through the folder; files are read later.

        Args:
            path: the folder.
            calibration: used for all frames instead of the JSON files.

        Raises:
            InputError: there is no image, or nothing measured beside any.
        """
        self._images = find_images(path)
        if not self._images:
            msg = f"{path}: found no NAME_image.jpg or NAME_image.png"
            raise InputError(msg)
        super().__init__(path, list(self._images))
        self._calibration = calibration
        self._measured = {name: self._find_measurement(name) for name in self.names}
        self._truths = {n: p for n in self.names if (p := path / f"{n}_gt.png").is_file()}
        self.has_ground_truth = bool(self._truths)
        self.has_measurements = any(self._measured.values())
        if not self.has_measurements and not self.has_ground_truth:
            msg = (
                f"{path}: found {len(self)} images, but no NAME_sparse.png, NAME_points.bin, "
                "NAME_points.npy or NAME_gt.png beside them"
            )
            raise InputError(msg)

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read `NAME_gt.png`; see `Dataset.ground_truth`."""
        path = self._truths.get(self.names[self._checked_index(index)])
        return None if path is None else read_depth_png(path)

    def _find_measurement(self, name: str) -> Path | None:
        endings = ("_sparse.png", *(f"_points{suffix}" for suffix in SCAN_SUFFIXES))
        return next((p for end in endings if (p := self.path / f"{name}{end}").is_file()), None)

    def _read_frame(self, index: int) -> Frame:
        name = self.names[index]
        image = read_image_file(self._images[name])
        height, width = image.shape[:2]
        calibration = self._calibration or self._read_calibration(name)
        path = self._measured[name]
        points = sparse_depth = None
        if path is None and self.has_measurements:
            expected = f"{name}_sparse.png, {name}_points.bin or {name}_points.npy"
            msg = f"{self._images[name]}: found nothing measured beside it, expected {expected}"
            raise InputError(msg)
        if path is None:
            sparse_depth = np.zeros((height, width), np.float32)
        elif path.suffix in SCAN_SUFFIXES:
            points = read_scan(path)
        else:
            sparse_depth = read_depth_png(path)
        if points is not None and calibration.T_camera_lidar is None:
            msg = f"{calibration.path}: found no T_camera_lidar, expected one with {path}"
            raise InputError(msg)
        return Frame(
            image=image,
            camera=calibration.camera_for(width, height),
            T_camera_lidar=calibration.T_camera_lidar,
            points=points,
            sparse_depth=sparse_depth,
            stamp=int(self.times[index]),
            name=name,
        )

    def _read_calibration(self, name: str) -> Calibration:
        own, shared = self.path / f"{name}_calib.json", self.path / "calib.json"
        if not own.is_file() and not shared.is_file():
            msg = f"{own}: not found, and no {shared.name} either"
            raise InputError(msg)
        return read_calibration(own if own.is_file() else shared)


def find_images(path: Path) -> dict[str, Path]:
    """Map frame names to the `NAME_image.*` files of a folder, in the order of the names."""
    images = {}
    for file in sorted(path.iterdir()):
        ending = next((e for e in IMAGE_ENDINGS if file.name.lower().endswith(e)), None)
        if ending and len(file.name) > len(ending):
            images[file.name[: -len(ending)]] = file
    return dict(sorted(images.items()))
