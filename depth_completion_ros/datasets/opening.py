"""Open a source of frames by what it is; the one door to all formats.

Not here: the formats themselves, one file each beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import InputError
from .base import Dataset, JoinedDataset
from .calibration import Calibration, check_kitti_camera, read_calibration, read_tree

_LOOKED_FOR = (
    "a KITTI raw drive (image_0X/data and velodyne_points/data), a KITTI depth benchmark folder "
    "(proj_depth, or image and velodyne_raw), NAME_image.jpg with NAME_sparse.png or "
    "NAME_points.bin, a rosbag2 (metadata.yaml, .mcap, .db3), NYUv2 HDF5 (.h5), a YAML with "
    "'synthetic'"
)


def open_source(
    path: str | Path,
    *,
    camera: str = "image_02",
    calibration: str | Path | Calibration | None = None,
    topics: Mapping[str, str] | None = None,
    projection_model: str = "rectified",
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Open whatever lies at a path as a sequence of frames.

    Args:
        path: file or folder of any known kind.
        camera: which camera of a KITTI source, `image_00` to `image_03`.
        calibration: file to use instead of the calibration that the source holds.
        topics: topics of a bag by role (`image`, `camera_info`, `points`), where the choice made
            by type and name is not the wanted one.
        projection_model: `rectified` or `raw`, how the camera_info of a bag is read.
        progress: called with frames done and frames in all while a recipe is rendered.

    Returns:
        The frames; they are read when asked for.

    Raises:
        InputError: nothing is there, or nothing of a known kind; the message lists what was
            looked for.
        CalibrationError: the calibration cannot be true.
    """
    path = Path(path).expanduser()
    check_kitti_camera(camera)
    if not path.exists():
        msg = f"{path}: no such file or folder; expected {_LOOKED_FOR}"
        raise InputError(msg)
    if calibration is not None and not isinstance(calibration, Calibration):
        calibration = read_calibration(
            calibration, camera=camera, projection_model=projection_model
        )
    try:
        if _is_recipe(path):
            from .synthetic import open_recipe

            return open_recipe(path, camera=camera, progress=progress)
        return _open(path, camera, calibration, topics, projection_model)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})"
        raise InputError(msg) from error


def _open(
    path: Path,
    camera: str,
    calibration: Calibration | None,
    topics: Mapping[str, str] | None,
    projection_model: str,
) -> Dataset:
    from . import nyuv2, rosbag2
    from .bag_storage import is_bag

    if is_bag(path) or path.name == "metadata.yaml":
        return rosbag2.Rosbag(
            path.parent if path.name == "metadata.yaml" else path,
            camera=camera,
            topics=topics,
            calibration=calibration,
            projection_model=projection_model,
        )
    if path.is_file() and path.suffix.lower() in nyuv2.SUFFIXES:
        return nyuv2.NyuV2(path)
    dataset = _open_folder(path, camera, calibration) if path.is_dir() else None
    if dataset is None:
        msg = f"{path}: found no frames in it; looked for {_LOOKED_FOR}"
        raise InputError(msg)
    return dataset


def _is_recipe(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".yaml", ".yml"):
        return False
    return path.name != "metadata.yaml" and "synthetic" in read_tree(path)


def _open_folder(path: Path, camera: str, calibration: Calibration | None) -> Dataset | None:
    from . import kitti_depth, nyuv2
    from .folder import FrameFolder, find_images
    from .kitti_layout import find_drives
    from .kitti_raw import KittiRawDrive

    if find_images(path):
        return FrameFolder(path, calibration=calibration)
    selections = kitti_depth.find_selections(path)
    if len(selections) > 1:
        msg = (
            f"{path}: found {' and '.join(p.name for p in selections)}, expected one of them; "
            f"open {selections[0]} for example"
        )
        raise InputError(msg)
    if selections:
        return kitti_depth.KittiDepthSelection(selections[0], calibration=calibration)
    depth_drives = kitti_depth.find_depth_drives(path)
    if depth_drives:
        return _joined(
            path,
            {
                drive.name: kitti_depth.KittiDepthDrive(
                    drive, opened=path, camera=camera, calibration=calibration
                )
                for drive in depth_drives
            },
        )
    drives = find_drives(path)
    if drives:
        return _joined(
            path,
            {
                drive.name: KittiRawDrive(drive, camera=camera, calibration=calibration)
                for drive in drives
            },
        )
    if nyuv2.find_files(path):
        return nyuv2.NyuV2(path)
    return None


def _joined(path: Path, parts: Mapping[str, Dataset]) -> Dataset:
    return next(iter(parts.values())) if len(parts) == 1 else JoinedDataset(path, parts)
