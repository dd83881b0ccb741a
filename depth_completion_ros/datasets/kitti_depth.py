"""KITTI's depth completion benchmark: its folders of 16-bit depth PNGs.

Two layouts. The drives: `{train,val}/DRIVE_sync/proj_depth/{velodyne_raw,groundtruth}/image_0X/`
with the raw data set's images and calibration somewhere beside them. The selection:
`val_selection_cropped` and `test_depth_completion_anonymous` with `image`, `velodyne_raw`,
`groundtruth_depth` and one text file of intrinsics per image.

Source: Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017, and the benchmark's devkit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ..data import Float32Array, Frame
from ..errors import InputError
from .base import Dataset
from .calibration import KITTI_LIDAR_FRAME, Calibration, check_kitti_camera, read_calibration
from .depth_png import read_depth_png
from .image_file import read_image_file
from .kitti_layout import IMAGE_SUFFIXES, numbered_files

_SPLITS = ("train", "val")


class KittiDepthSelection(Dataset):
    """`val_selection_cropped` or `test_depth_completion_anonymous`: images cropped to 1216x352."""

    kind = "kitti_depth"
    lidar_frame = KITTI_LIDAR_FRAME

    def __init__(self, path: Path, *, calibration: Calibration | None = None) -> None:
        """Look through the folder; files are read later.

        Args:
            path: the folder with `image` and `velodyne_raw`.
            calibration: used for all images instead of `intrinsics/NAME.txt`.

        Raises:
            InputError: there is no image in it.
        """
        images = {p.stem: p for p in sorted((path / "image").glob("*.png"))}
        if not images:
            msg = f"{path}: found no image/*.png"
            raise InputError(msg)
        super().__init__(path, list(images))
        self._images = images
        self._calibration = calibration
        self.has_ground_truth = (path / "groundtruth_depth").is_dir()

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read `groundtruth_depth/NAME.png`; see `Dataset.ground_truth`."""
        path = self._partner(self.names[self._checked_index(index)], "groundtruth_depth")
        return read_depth_png(path) if path.is_file() else None

    def _partner(self, name: str, kind: str) -> Path:
        # val_selection_cropped names the kind of file within the file's name.
        return self.path / kind / f"{name.replace('_sync_image_', f'_sync_{kind}_')}.png"

    def _read_frame(self, index: int) -> Frame:
        name = self.names[index]
        image = read_image_file(self._images[name])
        intrinsics = self.path / "intrinsics" / f"{name}.txt"
        calibration = self._calibration or read_calibration(intrinsics)
        return Frame(
            image=image,
            camera=calibration.camera_for(image.shape[1], image.shape[0]),
            T_camera_lidar=calibration.T_camera_lidar,
            sparse_depth=read_depth_png(self._partner(name, "velodyne_raw")),
            stamp=int(self.times[index]),
            name=name,
        )


class KittiDepthDrive(Dataset):
    """One drive of the benchmark's training or validation part."""

    kind = "kitti_depth"
    lidar_frame = KITTI_LIDAR_FRAME

    def __init__(
        self,
        path: Path,
        *,
        opened: Path | None = None,
        camera: str = "image_02",
        calibration: Calibration | None = None,
    ) -> None:
        """Look for the drive's depth maps, images and calibration.

        Args:
            path: a `DRIVE_sync` folder with `proj_depth` in it.
            opened: what the user opened; images are looked for around it. Default: `path`.
            camera: `image_02` or `image_03`.
            calibration: used instead of the files of the date's folder.

        Raises:
            InputError: there are no sparse maps, images or calibration files.
            CalibrationError: the calibration cannot be true.
        """
        check_kitti_camera(camera)
        drive = path.name
        places = list(_places(opened or path, drive))
        # data_depth_velodyne and data_depth_annotated are two downloads, often kept apart.
        sparse = _first_files(places, f"proj_depth/velodyne_raw/{camera}", (".png",))
        truth = _first_files(places, f"proj_depth/groundtruth/{camera}", (".png",))
        if not sparse:
            msg = f"{path}: found no proj_depth/velodyne_raw/{camera}/*.png in it or beside it"
            raise InputError(msg)
        images = _first_files(places, f"{camera}/data", IMAGE_SUFFIXES)
        if not images:
            msg = (
                f"{path}: found no raw images, expected {drive[:10]}/{drive}/{camera}/data/*.png "
                "in a folder beside it (the KITTI raw data of this drive)"
            )
            raise InputError(msg)
        super().__init__(path, [name for name in sparse if name in images] or list(sparse))
        self.skipped = {name: "no image of this number" for name in sparse if name not in images}
        self._sparse, self._truths, self._images = sparse, truth, images
        self._calibration = calibration or _find_calibration(places, drive, camera)
        self.has_ground_truth = bool(truth)

    def ground_truth(self, index: int) -> Float32Array | None:
        """Read `proj_depth/groundtruth`; see `Dataset.ground_truth`."""
        path = self._truths.get(self.names[self._checked_index(index)])
        return None if path is None else read_depth_png(path)

    def _read_frame(self, index: int) -> Frame:
        name = self.names[index]
        image = read_image_file(self._images[name])
        return Frame(
            image=image,
            camera=self._calibration.camera_for(image.shape[1], image.shape[0]),
            T_camera_lidar=self._calibration.T_camera_lidar,
            sparse_depth=read_depth_png(self._sparse[name]),
            stamp=int(self.times[index]),
            name=name,
        )


def is_selection(path: Path) -> bool:
    """Tell whether a folder is laid out like `val_selection_cropped`."""
    return (path / "image").is_dir() and (path / "velodyne_raw").is_dir()


def find_selections(path: Path) -> list[Path]:
    """List the selection folders at a path: itself, or those directly in it."""
    return [path] if is_selection(path) else [p for p in _subfolders(path) if is_selection(p)]


def find_depth_drives(path: Path) -> list[Path]:
    """List the drives with `proj_depth` at a path or up to two folders below, each once."""
    levels = [[path]]
    for _ in range(3):
        levels.append([p for folder in levels[-1] for p in _subfolders(folder)])
        levels[-1] = [p for p in levels[-1] if p.name not in ("proj_depth", "data")]
    drives: dict[str, Path] = {}
    for folder in itertools.chain(*levels):
        # With its scans beside them it is a raw drive, whose points say more.
        if (folder / "proj_depth").is_dir() and not (folder / "velodyne_points").is_dir():
            drives.setdefault(folder.name, folder)
    return [drives[name] for name in sorted(drives)]


def _places(opened: Path, drive: str) -> Iterator[Path]:
    """Go through the folders in which something of a drive may lie, nearest first."""
    date = drive[:10]
    for ancestor in _surroundings(opened.resolve(), drive):
        if ancestor.name == drive:
            yield ancestor
        for folder in (ancestor, *_subfolders(ancestor)):
            for split in ("", *_SPLITS, date):
                place = folder / split / drive
                if place.is_dir():
                    yield place


def _surroundings(opened: Path, drive: str) -> Iterator[Path]:
    """Go up to the folder that the downloads share, and no further: others' data lies there."""
    folder = opened
    yield folder
    while folder.name in (drive, *_SPLITS):
        folder = folder.parent
        yield folder
    if any((folder / split).is_dir() for split in _SPLITS):
        yield folder.parent


def _first_files(places: list[Path], below: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
    for place in places:
        files = numbered_files(place / below, suffixes)
        if files:
            return files
    return {}


def _find_calibration(places: list[Path], drive: str, camera: str) -> Calibration:
    date = drive[:10]
    for place in places:
        for folder in (place.parent, place.parent / date, place.parent.parent / date):
            if (folder / "calib_cam_to_cam.txt").is_file():
                return read_calibration(folder, camera=camera)
    msg = f"{places[0]}: found no {date}/calib_cam_to_cam.txt with the raw images of this drive"
    raise InputError(msg)


def _subfolders(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        # Somebody else's folder beside the data says nothing about the data.
        return []
