"""One pair of messages to one dense depth, step by step, with a reason for every refusal.

Not here: receiving and publishing (`inputs.py`, `publishers.py`). No ROS is imported: messages are
duck-typed, so all of this runs in tests without rclpy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..completers.base import Completer
from ..data import DenseDepth, Float32Array, Float64Array, Frame, PinholeCamera, UInt8Array
from ..errors import CalibrationError, DepthCompletionError
from ..geometry.projection import question_extrinsics
from ..messages.headers import stamp_ns
from ..messages.image import read_compressed_image, read_image
from ..messages.points import PointCloud, read_points
from ..settings import CalibrationSettings, Settings
from .extrinsics import Extrinsics, describe_extrinsics
from .motion import Motion, points_at_image_time

# camera_info comes on a topic of its own, so the first images may overtake it.
_CAMERA_WAIT_SECONDS = 0.5
_POLL_SECONDS = 0.005


class DropError(DepthCompletionError):
    """Say that a pair gives no output, and under which reason it is counted.

    Attributes:
        reason: one of `statistics.DROP_REASONS`.
    """

    def __init__(self, reason: str, explanation: str) -> None:
        """Keep both."""
        super().__init__(explanation)
        self.reason = reason


@contextlib.contextmanager
def counted_as(reason: str) -> Iterator[None]:
    """Turn errors of the package into drops of a reason."""
    try:
        yield
    except DropError:
        raise
    except DepthCompletionError as error:
        raise DropError(reason, str(error)) from error


class CameraKeeper:
    """Keep the camera of the last camera_info, and notice when it changes."""

    def __init__(self, settings: CalibrationSettings, fallback: PinholeCamera | None) -> None:
        """Start without a camera.

        Args:
            settings: with projection_model and camera_frame.
            fallback: camera of the calibration file, taken if no camera_info comes.
        """
        self._settings = settings
        self._fallback = fallback
        self._key: Any = None
        self._camera: PinholeCamera | None = None
        self.problem = ""
        self.changes = 0

    def update(self, message: Any) -> None:
        """Take a camera_info; called for every one that arrives, so it only compares."""
        key = _camera_info_key(message)
        if key == self._key:
            return
        self._key = key
        try:
            camera = PinholeCamera.from_camera_info(message, self._settings.projection_model)
        except CalibrationError as error:
            self.problem, self._camera = str(error), None
            return
        if self._settings.camera_frame:
            camera = dataclasses.replace(camera, frame_id=self._settings.camera_frame)
        self.problem, self._camera = "", camera
        self.changes += 1

    @property
    def has_camera_info(self) -> bool:
        """Tell whether any camera_info has come, good or bad."""
        return self._key is not None

    @property
    def camera(self) -> PinholeCamera | None:
        """The camera of the last camera_info."""
        return self._camera

    @property
    def fallback(self) -> PinholeCamera | None:
        """The camera of the calibration file; only to be used where no camera_info came."""
        return None if self.has_camera_info else self._fallback


def _camera_info_key(message: Any) -> Any:
    roi = message.roi
    return (
        message.width,
        message.height,
        message.distortion_model,
        message.header.frame_id,
        (message.binning_x, message.binning_y),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(np.asarray(getattr(message, name)).tobytes() for name in "dkp"),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Completion:
    """Hold what became of one pair.

    Attributes:
        dense: the maps.
        camera: of the image.
        image: (H, W, 3) uint8 RGB.
        frame_id: of the outputs.
        seconds: time of the node's own steps by name.
    """

    dense: DenseDepth
    camera: PinholeCamera
    image: UInt8Array
    frame_id: str
    seconds: dict[str, float]


class Pipeline:
    """Turn pairs into completions: read, calibrate, move, complete."""

    def __init__(
        self,
        completer: Completer,
        cameras: CameraKeeper,
        extrinsics: Extrinsics,
        motion: Motion | None,
        *,
        settings: Callable[[], Settings],
        say: Callable[[str, str], None],
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Put the parts together.

        Args:
            completer: opened and warmed up.
            cameras: fed with camera_info by somebody else.
            extrinsics: where the LiDAR stands.
            motion: of the LiDAR, or None to leave clouds as they are.
            settings: gives the settings as they are now.
            say: takes a level (`info`, `warning`) and one line that a person should read once.
            give_up: tells that waiting makes no sense any more.
        """
        self._completer = completer
        self._cameras = cameras
        self._extrinsics = extrinsics
        self._motion = motion
        self._settings = settings
        self._say = say
        self._give_up = give_up
        self._said: set[str] = set()
        self._T_camera_lidar: Float64Array | None = None
        self._camera: PinholeCamera | None = None
        self._has_fallen_back = False

    def complete(self, image_msg: Any, points_msg: Any) -> Completion:
        """Complete one pair.

        Args:
            image_msg: sensor_msgs Image or CompressedImage, by `input.image_transport`.
            points_msg: sensor_msgs PointCloud2.

        Raises:
            DropError: no output, with the reason to count.
        """
        start = time.perf_counter()
        settings = self._settings()
        image = self._read_image(image_msg, settings)
        cloud = self._read_points(points_msg, settings)
        read = time.perf_counter()
        camera = self._camera_for(image, image_msg)
        T_camera_lidar = self._look_up(image_msg, points_msg, settings)
        camera = self._without_shift(camera, _camera_frame(image_msg, settings))
        self._check_calibration(cloud, camera, T_camera_lidar)
        points = self._move(cloud, image_msg, points_msg, settings)
        calibrated = time.perf_counter()
        with counted_as("bad_points"):
            frame = Frame(
                image, camera, T_camera_lidar, points, stamp=stamp_ns(image_msg.header.stamp)
            )
        if self._completer.settings != settings.projection:
            self._completer.settings = settings.projection
        with counted_as("inference_error"):
            dense = self._completer.complete(frame)
        seconds = {
            "read": read - start,
            "calibrate": calibrated - read,
            "complete": time.perf_counter() - calibrated,
        }
        frame_id = str(image_msg.header.frame_id) or camera.frame_id
        return Completion(dense, camera, image, frame_id, seconds)

    def _read_image(self, message: Any, settings: Settings) -> UInt8Array:
        with counted_as("bad_image"):
            if settings.input.image_transport == "compressed":
                return read_compressed_image(message)
            return read_image(message)

    def _read_points(self, message: Any, settings: Settings) -> PointCloud:
        with counted_as("bad_points"):
            deskews = self._motion is not None and settings.motion.deskew
            cloud = read_points(message, with_times=deskews)
        if cloud.remark:
            self._say_once("warning", cloud.remark)
        return cloud

    def _camera_for(self, image: UInt8Array, image_msg: Any) -> PinholeCamera:
        # Waiting once tells that no camera_info comes; later frames must not wait for it again.
        patience = 0.0 if self._has_fallen_back else _CAMERA_WAIT_SECONDS
        deadline = time.monotonic() + patience
        while (camera := self._cameras.camera) is None and not self._cameras.problem:
            if time.monotonic() >= deadline or self._give_up():
                break
            time.sleep(_POLL_SECONDS)
        if camera is None and (camera := self._cameras.fallback) is not None:
            self._has_fallen_back = True
            self._say_once(
                "warning",
                f"no camera_info arrives; taking the camera of the {self._extrinsics.origin}",
            )
        if camera is None:
            reason = self._cameras.problem or (
                "no camera_info has arrived for the images; is it published, and is camera_info "
                "remapped?"
            )
            raise DropError("no_calibration", reason)
        if image.shape[:2] != (camera.height, camera.width):
            msg = (
                f"image: found {image.shape[1]}x{image.shape[0]}, expected {camera.width}x"
                f"{camera.height} as in camera_info; do both come from one camera?"
            )
            raise DropError("size_mismatch", msg)
        frame_id = str(image_msg.header.frame_id)
        if frame_id and camera.frame_id and frame_id != camera.frame_id:
            self._say_once(
                "warning",
                f"image says frame {frame_id!r}, camera_info {camera.frame_id!r}; taking the "
                "image's",
            )
        return camera

    def _look_up(self, image_msg: Any, points_msg: Any, settings: Settings) -> Float64Array:
        camera_frame = _camera_frame(image_msg, settings)
        lidar_frame = settings.calibration.lidar_frame or str(points_msg.header.frame_id)
        # Between clouds and images the robot moves, but the sensors on it do not.
        stamp = stamp_ns(points_msg.header.stamp)
        with counted_as("no_transform"):
            return self._extrinsics.look_up(camera_frame, lidar_frame, stamp, self._give_up)

    def _without_shift(self, camera: PinholeCamera, camera_frame: str) -> PinholeCamera:
        fitting = self._extrinsics.without_shift(camera, camera_frame)
        if fitting is not camera:
            self._say_once("info", f"P[:, 3] of {camera_frame!r} is in tf already and is left out")
        return fitting

    def _check_calibration(
        self, cloud: PointCloud, camera: PinholeCamera, T_camera_lidar: Float64Array
    ) -> None:
        """Say once, and again after a change, what the calibration is; ask if it looks wrong."""
        if self._camera == camera and _is_same(self._T_camera_lidar, T_camera_lidar):
            return
        is_new = self._camera is None
        self._camera, self._T_camera_lidar = camera, T_camera_lidar
        start = "calibration" if is_new else "calibration changed"
        self._say(
            "info" if is_new else "warning",
            f"{start}: {camera.width}x{camera.height}, focal length {camera.K[0, 0]:.1f} px; from "
            f"{self._extrinsics.origin}, {describe_extrinsics(T_camera_lidar)}",
        )
        question = question_extrinsics(cloud.points, camera, T_camera_lidar)
        if question is not None:
            self._say("warning", question)

    def _move(
        self, cloud: PointCloud, image_msg: Any, points_msg: Any, settings: Settings
    ) -> Float32Array:
        if self._motion is None:
            return cloud.points
        sync = settings.sync
        image_ns = stamp_ns(image_msg.header.stamp) + round(sync.image_time_offset * 1e9)
        points_ns = stamp_ns(points_msg.header.stamp) + round(sync.points_time_offset * 1e9)
        lidar_frame = settings.calibration.lidar_frame or str(points_msg.header.frame_id)
        times = cloud.point_times if settings.motion.deskew else None
        with counted_as("no_transform"):
            return points_at_image_time(
                cloud.points, points_ns, times, image_ns, self._motion, lidar_frame, self._give_up
            )

    def _say_once(self, level: str, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(level, line)


def _camera_frame(image_msg: Any, settings: Settings) -> str:
    return settings.calibration.camera_frame or str(image_msg.header.frame_id)


def _is_same(a: Float64Array | None, b: Float64Array) -> bool:
    return a is not None and bool(np.array_equal(a, b))


def warm_up_size(camera: PinholeCamera | None) -> tuple[int, int]:
    """Give height and width to warm up for, before the first image has told its size."""
    return (375, 1242) if camera is None else (camera.height, camera.width)
