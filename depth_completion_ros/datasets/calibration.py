"""Calibration files to a camera and the LiDAR's place before it.

Read are, by what they hold: KITTI's raw folders (`calib_cam_to_cam.txt`, `calib_velo_to_cam.txt`),
KITTI's object, odometry and depth benchmark files, this project's YAML and JSON, the YAML of ROS's
camera_calibration, and `calib.json` of koide3/direct_visual_lidar_calibration.
Not here: CameraInfo messages (`data.PinholeCamera`) and tf (the node, `rosbag2.py`).

This project's YAML, of which each half may be missing::

    camera:
      width: 1242
      height: 375
      K: [721.5, 0, 609.6, 0, 721.5, 172.9, 0, 0, 1]
      D: [0, 0, 0, 0, 0]
      distortion_model: plumb_bob
    T_camera_lidar:                 # or a 4x4 matrix; T_lidar_camera is the other direction
      translation: [0.06, -0.08, -0.27]
      rotation: [0.5, -0.5, 0.5, 0.5]       # quaternion x y z w
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..data import Float64Array, PinholeCamera, checked_transform
from ..errors import CalibrationError, InputError
from ..geometry.transforms import invert_transform, transform_from_quaternion
from .whole_file import read_text

CAMERAS = ("image_00", "image_01", "image_02", "image_03")
# The frame names that kitti2bag made common.
KITTI_CAMERA_FRAMES = {
    "image_00": "camera_gray_left",
    "image_01": "camera_gray_right",
    "image_02": "camera_color_left",
    "image_03": "camera_color_right",
}
KITTI_LIDAR_FRAME = "velo_link"
_EXPECTED = (
    "a KITTI calib folder or file, YAML with camera or T_camera_lidar, a ROS camera_calibration "
    "YAML, or calib.json"
)
# Names of direct_visual_lidar_calibration that sensor_msgs spells differently.
_KOIDE_MODELS = {
    "plumb_bob": "plumb_bob",
    "fisheye": "equidistant",
    "equidistant": "equidistant",
    "rational_polynomial": "rational_polynomial",
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Hold what a calibration file tells; what it does not tell is None.

    Attributes:
        T_camera_lidar: (4, 4) float64 rigid: p_camera = T_camera_lidar @ p_lidar.
        K: (3, 3) float64 intrinsics.
        D: (n,) float64 distortion coefficients.
        distortion_model: as in `PinholeCamera`.
        size: width and height of the image the intrinsics belong to, pixels.
        shift: (3,) metres, as in `PinholeCamera`.
        frame_id: optical frame of the camera, empty where the file does not name it.
        path: file or folder all this was read from, for messages.
    """

    T_camera_lidar: Float64Array | None = None
    K: Float64Array | None = None
    D: Float64Array = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = ""
    size: tuple[int, int] | None = None
    shift: Float64Array = field(default_factory=lambda: np.zeros(3))
    frame_id: str = ""
    path: Path = Path()

    @property
    def camera(self) -> PinholeCamera | None:
        """The camera, if the file holds intrinsics and the image's size."""
        if self.K is None or self.size is None:
            return None
        return self.camera_for(*self.size)

    def camera_for(self, width: int, height: int) -> PinholeCamera:
        """Give the camera of an image of this size.

        Raises:
            CalibrationError: the file holds no intrinsics, or those of another size.
        """
        if self.K is None:
            msg = f"{self.path}: found no intrinsics of the camera, expected K"
            raise CalibrationError(msg)
        if self.size is not None and self.size != (width, height):
            msg = (
                f"{self.path}: found the calibration of a {self.size[0]}x{self.size[1]} image, "
                f"expected {width}x{height}; does it belong to these images?"
            )
            raise CalibrationError(msg)
        try:
            return PinholeCamera(
                width, height, self.K, self.D, self.distortion_model, self.frame_id, self.shift
            )
        except CalibrationError as error:
            raise _at(self.path, error) from error


def read_calibration(
    path: str | Path, *, camera: str = "image_02", projection_model: str = "rectified"
) -> Calibration:
    """Read a calibration file of any known kind.

    Args:
        path: the file; for KITTI raw the date's folder or either of its two files.
        camera: which camera of a KITTI file, `image_00` to `image_03`.
        projection_model: `rectified` or `raw`, which of P and K a ROS camera_calibration YAML
            gives; other files hold one camera only.

    Returns:
        What the file holds.

    Raises:
        InputError: the file is missing, cannot be read or is of no known kind.
        CalibrationError: a part is missing in it or cannot be true.
    """
    path = Path(path)
    check_kitti_camera(camera)
    try:
        calibration = _read(path, camera, projection_model)
        if calibration.T_camera_lidar is not None:
            checked_transform(calibration.T_camera_lidar)
        if calibration.K is not None:
            calibration.camera_for(*(calibration.size or (1, 1)))
    except CalibrationError as error:
        raise _at(path, error) from error
    return calibration


def read_imu_calibration(path: Path) -> Float64Array:
    """Read KITTI's `calib_imu_to_velo.txt`.

    Returns:
        (4, 4) float64 T_lidar_imu.

    Raises:
        InputError: the file is missing or cannot be read.
        CalibrationError: a part is missing in it or cannot be true.
    """
    values = _read_kitti_lines(path)
    T = _rigid(_numbers(path, values, "R", (3, 3)), _numbers(path, values, "T", (3,)))
    return checked_transform(T, f"{path}: T_lidar_imu")


def check_kitti_camera(camera: str) -> None:
    """Refuse a camera that no KITTI car has.

    Raises:
        InputError: names the four.
    """
    if camera not in CAMERAS:
        msg = f"camera: found {camera!r}, expected one of {', '.join(CAMERAS)}"
        raise InputError(msg)


def _read(path: Path, camera: str, projection_model: str) -> Calibration:
    if path.is_dir() or path.name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        return _read_kitti_raw(path if path.is_dir() else path.parent, camera)
    if path.suffix.lower() == ".txt":
        return _read_kitti_text(path, camera)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return _read_tree(path, projection_model)
    read_text(path)
    msg = f"{path}: found a file of unknown kind, expected {_EXPECTED}"
    raise InputError(msg)


def _read_kitti_raw(folder: Path, camera: str) -> Calibration:
    number = camera[-2:]
    path = folder / "calib_cam_to_cam.txt"
    cameras = _read_kitti_lines(path)
    # R_rect_00 and not the camera's own: all rectified cameras share the axes of camera 0.
    P = _numbers(path, cameras, f"P_rect_{number}", (3, 4))
    R_rect = _numbers(path, cameras, "R_rect_00", (3, 3))
    width, height = _numbers(path, cameras, f"S_rect_{number}", (2,))
    path = folder / "calib_velo_to_cam.txt"
    lidar = _read_kitti_lines(path)
    T_cam0_lidar = _rigid(_numbers(path, lidar, "R", (3, 3)), _numbers(path, lidar, "T", (3,)))
    K, shift = _split_projection(path, P)
    return Calibration(
        T_camera_lidar=shift @ _rigid(R_rect, np.zeros(3)) @ T_cam0_lidar,
        K=K,
        size=(int(width), int(height)),
        frame_id=KITTI_CAMERA_FRAMES[camera],
        path=folder,
    )


def _read_kitti_text(path: Path, camera: str) -> Calibration:
    """Read the one file of the object, odometry and depth benchmarks."""
    frame_id = KITTI_CAMERA_FRAMES[camera]
    text = read_text(path)
    if ":" not in text:
        # Intrinsics of val_selection_cropped: nine numbers and nothing else.
        K = _numbers(path, {"K": text.split()}, "K", (3, 3))
        return Calibration(K=K, frame_id=frame_id, path=path)
    values = _read_kitti_lines(path)
    P = _numbers(path, values, f"P{int(camera[-2:])}", (3, 4))
    K, shift = _split_projection(path, P)
    if "Tr" in values:
        T_rect_lidar = np.vstack((_numbers(path, values, "Tr", (3, 4)), (0, 0, 0, 1)))
    else:
        # Devkits before 2017 spell it without the underscore's other half.
        rectification = "R0_rect" if "R0_rect" in values else "R_rect"
        lidar = "Tr_velo_to_cam" if "Tr_velo_to_cam" in values else "Tr_velo_cam"
        R_rect = _numbers(path, values, rectification, (3, 3))
        T_cam0_lidar = np.vstack((_numbers(path, values, lidar, (3, 4)), (0, 0, 0, 1)))
        T_rect_lidar = _rigid(R_rect, np.zeros(3)) @ T_cam0_lidar
    return Calibration(T_camera_lidar=shift @ T_rect_lidar, K=K, frame_id=frame_id, path=path)


def _split_projection(path: Path, P: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Split P = K [1 | t] into K and the transform [1 | t], in which no metre gets lost."""
    K = P[:, :3]
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        msg = f"{path}: found focal lengths {K[0, 0]:g} and {K[1, 1]:g}, expected positive ones"
        raise CalibrationError(msg)
    shift = np.eye(4)
    shift[:3, 3] = np.linalg.solve(K, P[:, 3])
    return K, shift


def _read_kitti_lines(path: Path) -> dict[str, list[str]]:
    values = {}
    for line in read_text(path).splitlines():
        key, separator, rest = line.partition(":")
        if separator:
            values[key.strip()] = rest.split()
    return values


def _read_tree(path: Path, projection_model: str) -> Calibration:
    """Read JSON or YAML by the keys it has."""
    tree = read_tree(path)
    if "camera_matrix" in tree or "projection_matrix" in tree:
        return _read_ros_yaml(path, tree, projection_model)
    if "results" in tree:
        return _read_koide(path, tree)
    transform = _read_transform(path, tree)
    if "image_size" in tree or "K" in tree:
        return _read_frame_json(path, tree, transform)
    camera = tree.get("camera")
    if camera is None and transform is None:
        found = ", ".join(str(key) for key in tree) or "nothing"
        msg = f"{path}: found {found}; expected camera and T_camera_lidar, or one of them"
        raise CalibrationError(msg)
    if camera is None:
        return Calibration(T_camera_lidar=transform, path=path)
    if not isinstance(camera, Mapping):
        msg = f"{path}: camera: found {camera!r}, expected width, height, K, D, distortion_model"
        raise CalibrationError(msg)
    size = [camera[name] for name in ("width", "height") if name in camera]
    return _with_intrinsics(path, camera, transform, size or None)


def _read_frame_json(path: Path, tree: Any, transform: Float64Array | None) -> Calibration:
    return _with_intrinsics(path, tree, transform, tree.get("image_size"))


def _with_intrinsics(
    path: Path, tree: Mapping[str, Any], transform: Float64Array | None, size: Any
) -> Calibration:
    K = _numbers(path, tree, "K", (3, 3))
    D = _numbers(path, tree, "D", (-1,)) if tree.get("D") is not None else np.zeros(0)
    # A rectified image has no distortion whatever the model is called.
    model = str(tree.get("distortion_model") or "plumb_bob") if np.any(D != 0) else ""
    pixels = None
    if size is not None:
        width, height = _numbers(path, {"size": size}, "size", (2,))
        pixels = (int(width), int(height))
    return Calibration(
        T_camera_lidar=transform,
        K=K,
        D=D if model else np.zeros(0),
        distortion_model=model,
        size=pixels,
        frame_id=str(tree.get("frame_id", "")),
        path=path,
    )


def _read_transform(path: Path, tree: Mapping[str, Any]) -> Float64Array | None:
    for name, turn in _DIRECTIONS.items():
        value = tree.get(name)
        if value is None:
            continue
        if isinstance(value, Mapping):
            translation = _numbers(path, value, "translation", (3,))
            T = transform_from_quaternion(translation, _numbers(path, value, "rotation", (4,)))
        else:
            T = _numbers(path, tree, name, (4, 4))
        return turn(checked_transform(T, name))
    return None


def _as_given(T: Float64Array) -> Float64Array:
    return T


_DIRECTIONS: dict[str, Callable[[Float64Array], Float64Array]] = {
    "T_camera_lidar": _as_given,
    "T_lidar_camera": invert_transform,
}


def _read_ros_yaml(path: Path, tree: Mapping[str, Any], projection_model: str) -> Calibration:
    def matrix(name: str, shape: tuple[int, ...]) -> Float64Array:
        part = tree.get(name)
        data = part.get("data") if isinstance(part, Mapping) else part
        return _numbers(path, {name: data}, name, shape).ravel()

    size = [tree.get("image_width"), tree.get("image_height")]
    width, height = _numbers(path, {"image_width, image_height": size}, *_SIZE)
    has_P = "projection_matrix" in tree
    info = SimpleNamespace(
        width=int(width),
        height=int(height),
        k=matrix("camera_matrix", (3, 3)),
        d=matrix("distortion_coefficients", (-1,)) if "distortion_coefficients" in tree else (),
        p=matrix("projection_matrix", (3, 4)) if has_P else np.zeros(12),
        distortion_model=str(tree.get("distortion_model", "plumb_bob")),
        header=SimpleNamespace(frame_id=str(tree.get("frame_id", ""))),
    )
    camera = PinholeCamera.from_camera_info(info, projection_model)
    return Calibration(
        T_camera_lidar=_read_transform(path, tree),
        K=camera.K,
        D=camera.D,
        distortion_model=camera.distortion_model,
        size=(camera.width, camera.height),
        shift=camera.shift,
        frame_id=camera.frame_id,
        path=path,
    )


_SIZE = ("image_width, image_height", (2,))


def _read_koide(path: Path, tree: Mapping[str, Any]) -> Calibration:
    """Read calib.json of direct_visual_lidar_calibration.

    Source: its docs/programs.md: p_lidar = T_lidar_camera * p_camera, x y z qx qy qz qw.
    """
    camera, results = tree.get("camera"), tree.get("results")
    if not isinstance(camera, Mapping) or not isinstance(results, Mapping):
        msg = f"{path}: camera, results: expected the tables of direct_visual_lidar_calibration"
        raise CalibrationError(msg)
    if "T_lidar_camera" not in results:
        guess = any(str(key).startswith("init_T") for key in results)
        found = "only an initial guess" if guess else f"{', '.join(results) or 'nothing'}"
        msg = f"{path}: results: found {found}, expected T_lidar_camera; did `calibrate` run?"
        raise CalibrationError(msg)
    pose = _numbers(path, results, "T_lidar_camera", (7,))
    model = str(camera.get("camera_model"))
    if model not in _KOIDE_MODELS:
        msg = (
            f"{path}: camera_model: found {model!r}, expected one of {', '.join(_KOIDE_MODELS)}; "
            "rectify the images to use another lens"
        )
        raise CalibrationError(msg)
    fx, fy, cx, cy = _numbers(path, camera, "intrinsics", (4,))
    D = _numbers(path, camera, "distortion_coeffs", (-1,))
    T_lidar_camera = transform_from_quaternion(pose[:3], pose[3:])
    return Calibration(
        T_camera_lidar=invert_transform(T_lidar_camera),
        K=np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1))),
        D=D if np.any(D != 0) else np.zeros(0),
        distortion_model=_KOIDE_MODELS[model] if np.any(D != 0) else "",
        path=path,
    )


def read_tree(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file whose top level is a table.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    text = read_text(path)
    tree: Any
    try:
        if path.suffix.lower() == ".json":
            tree = json.loads(text)
        else:
            import yaml

            # OpenCV writes a %YAML:1.0 line, which YAML itself does not know.
            lines = text.splitlines()
            tree = yaml.safe_load("\n".join(lines[1:] if text.startswith("%YAML:") else lines))
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("yaml", "json"):
            raise
        where = " ".join(str(error).split())
        msg = f"{path}: found no valid {path.suffix[1:].upper()} ({where})"
        raise InputError(msg) from error
    if not isinstance(tree, dict):
        msg = f"{path}: found {type(tree).__name__} at the top level, expected keys and values"
        raise InputError(msg)
    return tree


def _numbers(
    path: Path, values: Mapping[str, Any], key: str, shape: tuple[int, ...]
) -> Float64Array:
    """Read finite numbers of a shape; a flat list is brought into it."""
    if values.get(key) is None:
        found = ", ".join(str(name) for name in values) or "nothing"
        msg = f"{path}: found no {key} (found {found})"
        raise CalibrationError(msg)
    try:
        numbers: Float64Array = np.array(values[key], dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        expected = " x ".join(str(n) for n in shape) if shape != (-1,) else "a list of"
        msg = f"{path}: {key}: found {values[key]!r}, expected {expected} numbers"
        raise CalibrationError(msg) from None
    if not np.all(np.isfinite(numbers)):
        msg = f"{path}: {key}: found NaN or infinite values"
        raise CalibrationError(msg)
    return numbers


def _rigid(R: Float64Array, t: Float64Array) -> Float64Array:
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


def _at(path: Path, error: CalibrationError) -> CalibrationError:
    text = str(error)
    return error if str(path) in text else CalibrationError(f"{path}: {text}")
