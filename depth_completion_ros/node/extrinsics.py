"""Where the LiDAR stands: extrinsics from a file, from parameters or from tf.

Not here: reading calibration files (`datasets/calibration.py`). Only `TfExtrinsics` needs ROS, and
it imports tf2_ros when it is made. Look next at `pipeline.py` for who asks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data import Float64Array, PinholeCamera, checked_transform
from ..errors import CalibrationError
from ..settings import CalibrationSettings

if TYPE_CHECKING:
    from ..datasets.calibration import Calibration
    from ..datasets.transform_tree import TransformTree

_POLL_SECONDS = 0.002
_LOOK_AGAIN_SECONDS = 5.0


class Extrinsics(Protocol):
    """Answer where the LiDAR stands."""

    @property
    def origin(self) -> str:
        """Where the answer comes from."""

    @property
    def camera(self) -> PinholeCamera | None:
        """The camera that came with it."""

    def look_up(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_camera_lidar, (4, 4) float64.

        Args:
            camera_frame, lidar_frame: as in the headers of image and cloud.
            stamp_ns: nanoseconds, the moment of interest.
            give_up: tells that waiting makes no sense any more.

        Raises:
            CalibrationError: not known; the message names both frames and what is missing.
        """
        ...

    def without_shift(self, camera: PinholeCamera, camera_frame: str) -> PinholeCamera:
        """Drop the camera's shift where T_camera_lidar holds it already.

        Args:
            camera: of the last camera_info.
            camera_frame: as for `look_up`, which has given an answer before.
        """
        ...


@dataclass(frozen=True, eq=False)
class FixedExtrinsics:
    """Extrinsics that were given once, whatever the frames are called.

    Attributes:
        T_camera_lidar: (4, 4) float64 rigid.
        origin: where it comes from, for the log.
    """

    T_camera_lidar: Float64Array
    origin: str
    camera: PinholeCamera | None = None

    def look_up(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_camera_lidar."""
        return self.T_camera_lidar

    def without_shift(self, camera: PinholeCamera, camera_frame: str) -> PinholeCamera:
        """Give the camera as it is."""
        return camera


def given_extrinsics(settings: CalibrationSettings) -> Extrinsics | None:
    """Read the extrinsics that the settings hold or point to.

    Args:
        settings: with source, file and T_camera_lidar.

    Returns:
        The extrinsics, or None if they come from tf.

    Raises:
        CalibrationError, InputError: what is asked for is missing or cannot be true.
    """
    source = settings.source
    if source == "auto":
        source = "file" if settings.file else "parameters" if settings.T_camera_lidar else "tf"
    if source == "tf":
        return None
    if source == "parameters":
        if not settings.T_camera_lidar:
            msg = (
                "calibration.T_camera_lidar: found nothing, expected 16 numbers row by row "
                "because calibration.source is parameters"
            )
            raise CalibrationError(msg)
        matrix = np.reshape(settings.T_camera_lidar, (4, 4))
        T = checked_transform(matrix, "calibration.T_camera_lidar")
        return FixedExtrinsics(T, "parameter calibration.T_camera_lidar")
    if not settings.file:
        msg = (
            "calibration.file: found nothing, expected the path of a calibration file because "
            "calibration.source is file"
        )
        raise CalibrationError(msg)
    return FileExtrinsics(Path(settings.file), settings)


class FileExtrinsics:
    """Extrinsics, and perhaps the camera, of a calibration file.

    KITTI's files hold four cameras: the one whose frame_id the images carry is taken, `image_02`
    for a frame_id that is none of KITTI's.

    Attributes:
        origin: where it comes from, for the log.
        camera: the camera of the file, if it holds one.
    """

    def __init__(self, path: Path, settings: CalibrationSettings) -> None:
        """Read the file.

        Raises:
            CalibrationError, InputError: it cannot be used.
        """
        self.origin = f"file {path}"
        self._path = path
        self._model = settings.projection_model
        self._by_camera: dict[str, Calibration] = {}
        self.camera = self._read(settings.camera_frame).camera

    def look_up(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_camera_lidar."""
        T: Float64Array | None = self._read(camera_frame).T_camera_lidar
        assert T is not None  # _read makes sure.
        return T

    def without_shift(self, camera: PinholeCamera, camera_frame: str) -> PinholeCamera:
        """Give the camera as it is."""
        return camera

    def _read(self, camera_frame: str) -> Calibration:
        from ..datasets.calibration import KITTI_CAMERA_FRAMES, read_calibration

        names = {frame: camera for camera, frame in KITTI_CAMERA_FRAMES.items()}
        camera = names.get(camera_frame, "image_02")
        if camera not in self._by_camera:
            found = read_calibration(self._path, camera=camera, projection_model=self._model)
            if found.T_camera_lidar is None:
                msg = f"{self._path}: found no T_camera_lidar, expected the LiDAR's place in it"
                raise CalibrationError(msg)
            self._by_camera[camera] = found
        return self._by_camera[camera]


class TfExtrinsics:
    """Look extrinsics up in tf, with a bounded wait outside of the executor."""

    origin = "tf"
    camera = None

    def __init__(self, node: Any, timeout: float) -> None:
        """Listen to /tf and /tf_static.

        Args:
            node: the node that subscribes.
            timeout: seconds, longest wait of one look-up.

        Raises:
            CalibrationError: tf2_ros is not installed.
        """
        try:
            import tf2_ros
        except ImportError as error:
            msg = (
                f"calibration.source: tf needs tf2_ros, which does not import here ({error}); "
                "install ros-$ROS_DISTRO-tf2-ros, or give calibration.file or "
                "calibration.T_camera_lidar"
            )
            raise CalibrationError(msg) from None
        self._tf2_ros = tf2_ros
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._timeout = timeout
        self._shifted: tuple[PinholeCamera, str] | None = None
        self._fitting: PinholeCamera | None = None
        self._looked = 0.0

    def look_up(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, give_up: Callable[[], bool]
    ) -> Float64Array:
        """Give T_camera_lidar at a moment; waits until tf knows it, at most the timeout."""
        return self.between(camera_frame, stamp_ns, lidar_frame, stamp_ns, camera_frame, give_up)

    def between(
        self,
        target_frame: str,
        target_ns: int,
        source_frame: str,
        source_ns: int,
        fixed_frame: str,
        give_up: Callable[[], bool],
    ) -> Float64Array:
        """Give the transform from one frame at one time to another frame at another time.

        Args:
            target_frame, target_ns: where points are taken to, nanoseconds.
            source_frame, source_ns: where points come from, nanoseconds.
            fixed_frame: frame that stands still between the two times.
            give_up: tells that waiting makes no sense any more.

        Returns:
            (4, 4) float64 T_target_source.

        Raises:
            CalibrationError: tf does not know it within the timeout.
        """
        from rclpy.time import Time

        from ..messages.transforms import read_transform

        times = Time(nanoseconds=target_ns), Time(nanoseconds=source_ns)
        # A steady clock: with use_sim_time and a paused bag, ROS time would never run out.
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                found = self._buffer.lookup_transform_full(
                    target_frame, times[0], source_frame, times[1], fixed_frame
                )
                return checked_transform(read_transform(found.transform))
            except self._tf2_ros.TransformException as error:
                if time.monotonic() >= deadline or give_up():
                    msg = (
                        f"tf: no transform from {source_frame!r} to {target_frame!r} at "
                        f"{source_ns / 1e9:.3f} s within {self._timeout * 1e3:.0f} ms: {error}"
                    )
                    raise CalibrationError(msg) from None
            time.sleep(_POLL_SECONDS)

    def without_shift(self, camera: PinholeCamera, camera_frame: str) -> PinholeCamera:
        """Drop the camera's shift if tf leads to the centre of projection already.

        Bags of kitti2bag hold P_rect_02, whose fourth column shifts from camera 0, and transforms
        to camera 2 itself; some stereo drivers do the same.
        """
        if not np.any(camera.shift):
            return camera
        now = time.monotonic()
        is_known = self._fitting is not None and self._shifted == (camera, camera_frame)
        # The other camera's frame may come later than this one's.
        if not is_known or (self._fitting == camera and now - self._looked > _LOOK_AGAIN_SECONDS):
            self._shifted, self._looked = (camera, camera_frame), now
            tree = self._tree_around(camera_frame)
            has_shift = tree.has_shift(replace(camera, frame_id=camera_frame))
            self._fitting = replace(camera, shift=np.zeros(3)) if has_shift else camera
        assert self._fitting is not None
        return self._fitting

    def _tree_around(self, frame: str) -> TransformTree:
        """Give the latest transforms from one frame to all that are connected with it."""
        import yaml
        from rclpy.time import Time

        from ..datasets.transform_tree import TransformTree

        # The frame at the root has no entry of its own.
        entries = dict(yaml.safe_load(self._buffer.all_frames_as_yaml()) or {})
        names = {str(name) for name in entries} | {str(e["parent"]) for e in entries.values()}
        tree = TransformTree()
        for name in sorted(names - {frame}):
            with contextlib.suppress(self._tf2_ros.TransformException):
                tree.add(self._buffer.lookup_transform(frame, name, Time()), static=True)
        return tree

    def clear(self) -> None:
        """Forget everything, after time ran backwards."""
        self._buffer.clear()

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


def describe_extrinsics(T_camera_lidar: Float64Array) -> str:
    """Say in words where the LiDAR stands and how it is turned, for a person to check.

    Args:
        T_camera_lidar: (4, 4) rigid; camera frame is optical (x right, y down, z forward).

    Returns:
        Such as "the LiDAR stands 0.27 m behind, 0.08 m above the camera; its x axis points
        forward, its z axis points up".
    """
    x, y, z = T_camera_lidar[:3, 3]
    offsets = [
        (abs(z), "in front of" if z > 0 else "behind"),
        (abs(x), "right of" if x > 0 else "left of"),
        (abs(y), "below" if y > 0 else "above"),
    ]
    places = [f"{size:.2f} m {side}" for size, side in offsets if size >= 0.005]
    place = f"{', '.join(places)} the camera" if places else "where the camera is"
    axes = [
        f"its {name} axis points {_direction(T_camera_lidar[:3, column])}"
        for column, name in ((0, "x"), (2, "z"))
    ]
    return f"the LiDAR stands {place}; {axes[0]}, {axes[1]}"


def _direction(axis: Float64Array) -> str:
    names = (("right", "left"), ("down", "up"), ("forward", "backward"))
    main = int(np.argmax(np.abs(axis)))
    angle = np.degrees(np.arccos(np.clip(abs(axis[main]), 0, 1)))
    slant = f" (turned by {angle:.0f} degrees)" if angle >= 10 else ""
    return names[main][0 if axis[main] > 0 else 1] + slant
