"""The types every part of the package shares: what goes into a completion and what comes out.

Not here: reading them from files or messages, and geometry on them.
Look next at `geometry/` for what is done with them and at `datasets/` for where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationError, InputError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]

# Coefficient counts of sensor_msgs/distortion_models.hpp and OpenCV; () means "no distortion".
DISTORTION_COEFFICIENTS = {
    "": (0,),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}

# A rotation read from a text file with four digits is orthonormal to about 1e-3.
_RIGID_TOLERANCE = 5e-3


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """Describe how a point in front of the camera becomes a pixel.

    Attributes:
        width, height: size of the image in pixels.
        K: (3, 3) float64 intrinsics, pixel centres at integers, as in sensor_msgs/CameraInfo.
        D: (n,) float64 distortion coefficients; empty or all zero for a rectified image.
        distortion_model: `plumb_bob`, `rational_polynomial`, `equidistant`, or empty for none.
        frame_id: optical frame (x right, y down, z forward).
        shift: (3,) float64 metres from the origin of `frame_id` to the centre of projection:
            p_projection = p_frame + shift. Zero but for the P[:, 3] of a rectified stereo camera.

    Raises:
        CalibrationError: the size, K or D cannot be true.
    """

    width: int
    height: int
    K: Float64Array
    D: Float64Array = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = ""
    frame_id: str = ""
    shift: Float64Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        """Check the numbers and make them read-only."""
        for name, shape in (("K", (3, 3)), ("D", (-1,)), ("shift", (3,))):
            object.__setattr__(self, name, _constant(name, getattr(self, name), shape))
        if not (_is_count(self.width) and _is_count(self.height)):
            msg = f"camera size: found {self.width}x{self.height}, expected positive integers"
            raise CalibrationError(msg)
        object.__setattr__(self, "width", int(self.width))
        object.__setattr__(self, "height", int(self.height))
        if not (self.K[0, 0] > 0 and self.K[1, 1] > 0):
            msg = (
                f"K: found focal lengths {self.K[0, 0]:g} and {self.K[1, 1]:g}, expected positive "
                "ones; is the camera calibrated?"
            )
            raise CalibrationError(msg)
        if self.K[1, 0] != 0 or not np.allclose(self.K[2], (0, 0, 1)):
            msg = "K: expected an upper triangular matrix with last row 0 0 1; is it transposed?"
            raise CalibrationError(msg)
        counts = DISTORTION_COEFFICIENTS.get(self.distortion_model)
        if counts is None:
            known = ", ".join(name for name in DISTORTION_COEFFICIENTS if name)
            msg = f"distortion_model: found {self.distortion_model!r}, expected one of {known}"
            raise CalibrationError(msg)
        if self.is_distorted and len(self.D) not in counts:
            expected = " or ".join(str(n) for n in counts)
            msg = (
                f"D: found {len(self.D)} coefficients for {self.distortion_model!r}, "
                f"expected {expected}"
            )
            raise CalibrationError(msg)

    @property
    def is_distorted(self) -> bool:
        """Tell whether the lens bends rays at all; an ideal fisheye does without coefficients."""
        is_fisheye = self.distortion_model == "equidistant" and len(self.D) > 0
        return is_fisheye or bool(np.any(self.D != 0))

    def __eq__(self, other: object) -> bool:
        """Compare all numbers exactly, to notice a changed camera_info."""
        if not isinstance(other, PinholeCamera):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        """Hash what `__eq__` compares."""
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        arrays = (self.K.tobytes(), self.D.tobytes(), self.shift.tobytes())
        return (self.width, self.height, self.distortion_model, self.frame_id, *arrays)

    @classmethod
    def from_camera_info(cls, msg: Any, model: str = "rectified") -> PinholeCamera:
        """Read a CameraInfo for images that are rectified, or for those as they were taken.

        Args:
            msg: anything with the fields of sensor_msgs/CameraInfo (`k, d, p` or `K, D, P`).
            model: `rectified` takes P's left 3x3 without distortion and turns P[:, 3] into
                `shift`; `raw` takes K and D.

        Returns:
            The camera of the published image, after region of interest and binning.

        Raises:
            CalibrationError: the camera is not calibrated, or `model` is unknown.

        Source: sensor_msgs/CameraInfo; image_pipeline's order of region of interest and binning.
        """
        if model not in ("rectified", "raw"):
            msg_ = f"projection_model: found {model!r}, expected rectified or raw"
            raise CalibrationError(msg_)
        K: Float64Array = _numbers(msg, "k", 9).reshape(3, 3)
        P = _numbers(msg, "p", 12).reshape(3, 4)
        shift: Float64Array = np.zeros(3)
        D: Float64Array = np.zeros(0)
        distortion_model = ""
        if model == "raw":
            D = _numbers(msg, "d", None)
            # Drivers name what they like where nothing is distorted; a fisheye always is.
            if np.any(D != 0) or msg.distortion_model == "equidistant":
                distortion_model = str(msg.distortion_model)
        else:
            if not P[0, 0] > 0 and K[0, 0] > 0:
                msg_ = (
                    "camera_info: P is not set but K is; set projection_model to raw if the "
                    "image is not rectified, or fill P"
                )
                raise CalibrationError(msg_)
            K = P[:, :3]
            if np.any(P[:, 3] != 0) and P[0, 0] > 0:
                shift[:] = np.linalg.solve(K, P[:, 3])
        if not K[0, 0] > 0:
            msg_ = (
                f"camera_info: found focal length {K[0, 0]:g}, expected a positive one; "
                "the camera is not calibrated (run camera_calibration or set its camera_info_url)"
            )
            raise CalibrationError(msg_)
        K, width, height = _published_part(msg, K)
        frame_id = str(msg.header.frame_id)
        return cls(width, height, K, D, distortion_model, frame_id, shift)


@dataclass(frozen=True, eq=False)
class Frame:
    """Hold what one completion needs: an image and the LiDAR measurements that belong to it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        camera: model of exactly this image.
        T_camera_lidar: (4, 4) float64 rigid: p_camera = T_camera_lidar @ p_lidar; may be None
            only where `sparse_depth` is given.
        points: (N, 3) or (N, 4) float32 metres in the LiDAR frame, the fourth column intensity.
            Non-finite rows are allowed and ignored. Exactly one of points and sparse_depth is set.
        sparse_depth: (H, W) float32 metres along z, 0 where nothing was measured.
        stamp: nanoseconds, acquisition of the image.
        points_stamp: nanoseconds, acquisition of the cloud; None takes the image's.
        point_times: (N,) float64 seconds after `points_stamp`, optional.
        name: name of the frame in its source, for files and messages.

    Raises:
        InputError: an array has a shape, type or value that cannot be used.
        CalibrationError: the transform is not rigid.
    """

    image: UInt8Array
    camera: PinholeCamera
    T_camera_lidar: Float64Array | None = None
    points: Float32Array | None = None
    sparse_depth: Float32Array | None = None
    stamp: int = 0
    points_stamp: int | None = None
    point_times: Float64Array | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check all of it once, so that the pipeline can trust it."""
        size = (self.camera.height, self.camera.width)
        _check_array("image", self.image, np.uint8, (*size, 3))
        if (self.points is None) == (self.sparse_depth is None):
            found = "neither" if self.points is None else "both"
            msg = f"frame: found {found} of points and sparse_depth, expected exactly one"
            raise InputError(msg)
        if self.sparse_depth is not None:
            _check_array("sparse_depth", self.sparse_depth, np.float32, size)
            if not np.all(np.isfinite(self.sparse_depth)) or np.any(self.sparse_depth < 0):
                msg = "sparse_depth: found NaN, infinite or negative values, expected 0 for none"
                raise InputError(msg)
        if self.T_camera_lidar is not None:
            object.__setattr__(self, "T_camera_lidar", checked_transform(self.T_camera_lidar))
        if self.points is not None:
            if self.T_camera_lidar is None:
                msg = "frame: points without T_camera_lidar; where does the LiDAR stand?"
                raise InputError(msg)
            _check_points(self.points)
        if self.point_times is not None:
            count = 0 if self.points is None else len(self.points)
            _check_array("point_times", self.point_times, np.float64, (count,))
        object.__setattr__(self, "stamp", int(self.stamp))
        points_stamp = self.stamp if self.points_stamp is None else int(self.points_stamp)
        object.__setattr__(self, "points_stamp", points_stamp)


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """Hold what one completion gives; all maps are (H, W) float32 and line up with the image.

    Attributes:
        depth: metres along z, 0 = no estimate.
        sigma: metres, standard deviation of the error, +inf = no estimate.
        confidence: P(abs(error) <= max(0.3 m, 5 % of the depth)) in [0, 1], 0 = no estimate.
        sparse: metres, the measurements that were used (after the see-through filter), 0 = none.
        stamp: nanoseconds, the image's.
        timings: seconds by stage: upload, project, prepare, infer, refine, download, total.
    """

    depth: Float32Array
    sigma: Float32Array
    confidence: Float32Array
    sparse: Float32Array
    stamp: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes and types; values are the completer's promise and its tests' business."""
        for name in ("depth", "sigma", "confidence", "sparse"):
            _check_array(name, getattr(self, name), np.float32, self.depth.shape)
        if self.depth.ndim != 2:
            msg = f"depth: found shape {self.depth.shape}, expected (H, W)"
            raise InputError(msg)


def checked_transform(T: Any, name: str = "T_camera_lidar") -> Float64Array:
    """Make sure that a matrix is a rigid transform, before anything is moved by it.

    Args:
        T: (4, 4) numbers: rotation and translation in metres, last row 0 0 0 1.
        name: what the matrix is called in the message.

    Returns:
        (4, 4) float64, read-only.

    Raises:
        CalibrationError: the matrix is no rigid transform; the message says in what.
    """
    matrix = _constant(name, T, (4, 4))
    R = matrix[:3, :3]
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
        msg = f"{name}: found last row {matrix[3].tolist()}, expected 0 0 0 1"
        raise CalibrationError(msg)
    if not np.allclose(R @ R.T, np.eye(3), atol=_RIGID_TOLERANCE):
        scale = float(np.cbrt(abs(np.linalg.det(R))))
        msg = (
            f"{name}: its left upper 3x3 is no rotation (R @ R.T differs from 1 by "
            f"{np.abs(R @ R.T - np.eye(3)).max():.3g}, scale {scale:.3g}); expected a rigid "
            "transform in metres"
        )
        raise CalibrationError(msg)
    if np.linalg.det(R) < 0:
        msg = f"{name}: its rotation mirrors (determinant -1); is an axis flipped?"
        raise CalibrationError(msg)
    return matrix


def _constant(name: str, value: Any, shape: tuple[int, ...]) -> Float64Array:
    try:
        array: Float64Array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        msg = f"{name}: found {value!r}, expected numbers"
        raise CalibrationError(msg) from None
    fits = array.ndim == 1 if shape == (-1,) else array.shape == shape
    if not fits:
        expected = "(n,)" if shape == (-1,) else str(shape)
        msg = f"{name}: found shape {array.shape}, expected {expected}"
        raise CalibrationError(msg)
    if not np.all(np.isfinite(array)):
        msg = f"{name}: found NaN or infinite numbers, expected finite ones"
        raise CalibrationError(msg)
    array.setflags(write=False)
    return array


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and int(value) > 0


def _numbers(msg: Any, name: str, count: int | None) -> Float64Array:
    """Read a field that ROS 2 spells in lower case and ROS 1 in upper case."""
    value = getattr(msg, name, None)
    if value is None:
        value = getattr(msg, name.upper(), ())
    numbers = np.asarray(value, dtype=np.float64).ravel()
    if count is not None and len(numbers) != count:
        text = f"camera_info.{name}: found {len(numbers)} numbers, expected {count}"
        raise CalibrationError(text)
    return numbers


def _published_part(msg: Any, K: Float64Array) -> tuple[Float64Array, int, int]:
    """Move K to the part of the sensor that the image shows, at the size it has."""
    K, width, height = K.copy(), int(msg.width), int(msg.height)
    roi = getattr(msg, "roi", None)
    if roi is not None and roi.width > 0 and roi.height > 0:
        K[0, 2] -= roi.x_offset
        K[1, 2] -= roi.y_offset
        width, height = int(roi.width), int(roi.height)
    for row, binning in ((0, getattr(msg, "binning_x", 0)), (1, getattr(msg, "binning_y", 0))):
        if binning > 1:
            K[row] /= binning
    width //= max(int(getattr(msg, "binning_x", 0)), 1)
    height //= max(int(getattr(msg, "binning_y", 0)), 1)
    return K, width, height


def _check_array(name: str, array: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        msg = f"{name}: found {type(array).__name__}, expected a numpy array"
        raise InputError(msg)
    if array.dtype != dtype or array.shape != shape:
        expected = f"{shape} {np.dtype(dtype).name}"
        msg = f"{name}: found {array.shape} {array.dtype}, expected {expected}"
        if name == "image" and array.shape[:2] != shape[:2]:
            msg += "; image and camera_info differ in size"
        raise InputError(msg)


def _check_points(points: Any) -> None:
    if not isinstance(points, np.ndarray):
        msg = f"points: found {type(points).__name__}, expected a numpy array"
        raise InputError(msg)
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] not in (3, 4):
        msg = f"points: found {points.shape} {points.dtype}, expected (N, 3) or (N, 4) float32"
        raise InputError(msg)
