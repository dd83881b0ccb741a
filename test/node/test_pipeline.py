from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from depth_completion_ros.completers import open_completer
from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.errors import CalibrationError
from depth_completion_ros.messages.camera_info import camera_info_fields
from depth_completion_ros.messages.headers import header_fields
from depth_completion_ros.messages.image import image_fields
from depth_completion_ros.messages.points import points_fields
from depth_completion_ros.node import pipeline as pipeline_module
from depth_completion_ros.node.extrinsics import FixedExtrinsics
from depth_completion_ros.node.pipeline import CameraKeeper, DropError, Pipeline
from depth_completion_ros.settings import CalibrationSettings, Settings, unflatten

T_CAMERA_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
CAMERA = PinholeCamera(
    96, 64, np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]], np.float64), frame_id="eye"
)


def message(fields: dict, stamp: int = 1_000_000_000, frame_id: str = "eye") -> SimpleNamespace:
    """Make what a message of ROS looks like to a reader."""

    def build(value):
        if isinstance(value, dict):
            return SimpleNamespace(**{name: build(item) for name, item in value.items()})
        return [build(item) for item in value] if isinstance(value, list) else value

    return build({"header": header_fields(stamp, frame_id), **fields})


def camera_info(camera: PinholeCamera = CAMERA, **changes) -> SimpleNamespace:
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}
    fields = {**camera_info_fields(camera), "binning_x": 0, "binning_y": 0, "roi": roi, **changes}
    return message(fields)


def image(height: int = 64, width: int = 96, **changes) -> SimpleNamespace:
    fields = image_fields(np.full((height, width, 3), 50, np.uint8), "rgb8")
    return message({**fields, **changes})


def cloud(distance: float = 10.0, **changes) -> SimpleNamespace:
    y, z = np.meshgrid(np.linspace(-4, 4, 40), np.linspace(-2, 2, 20))
    xyz = np.column_stack((np.full(y.size, distance), y.ravel(), z.ravel()))
    return message({**points_fields(xyz.astype(np.float32)), **changes}, frame_id="scanner")


class Bench:
    """A pipeline with its parts at hand."""

    def __init__(self, fallback: PinholeCamera | None = None, extrinsics=None, **settings) -> None:
        self.settings = unflatten(Settings(), settings)
        self.said: list[tuple[str, str]] = []
        self.cameras = CameraKeeper(self.settings.calibration, fallback)
        self.completer = open_completer("fill")
        self.pipeline = Pipeline(
            self.completer,
            self.cameras,
            extrinsics or FixedExtrinsics(T_CAMERA_LIDAR, "a test"),
            None,
            settings=lambda: self.settings,
            say=lambda level, line: self.said.append((level, line)),
            give_up=lambda: True,
        )

    def reason(self, image_msg, points_msg) -> str:
        with pytest.raises(DropError) as caught:
            self.pipeline.complete(image_msg, points_msg)
        return caught.value.reason


@pytest.fixture
def bench():
    bench = Bench()
    bench.cameras.update(camera_info())
    return bench


def test_a_pair_becomes_depth_with_the_images_stamp_and_frame(bench):
    done = bench.pipeline.complete(image(), cloud(12.0))
    assert done.dense.depth[32, 48] == pytest.approx(12, rel=1e-3)
    assert done.dense.stamp == 1_000_000_000
    assert done.frame_id == "eye"
    assert set(done.seconds) == {"read", "calibrate", "complete"}


@pytest.mark.parametrize(
    ("image_msg", "points_msg", "reason"),
    [
        (image(encoding="heat"), cloud(), "bad_image"),
        (image(data=np.zeros(7, np.uint8)), cloud(), "bad_image"),
        (image(), cloud(data=np.zeros(7, np.uint8)), "bad_points"),
        (image(), cloud(fields=[]), "bad_points"),
        (image(32, 48), cloud(), "size_mismatch"),
    ],
)
def test_every_refusal_has_its_reason(bench, image_msg, points_msg, reason):
    assert bench.reason(image_msg, points_msg) == reason
    assert bench.pipeline.complete(image(), cloud()).dense.depth.any()


def test_an_image_without_camera_info_is_no_calibration():
    assert Bench().reason(image(), cloud()) == "no_calibration"


def test_an_uncalibrated_camera_is_no_calibration_until_a_good_camera_info_comes():
    bench = Bench()
    bench.cameras.update(camera_info(k=np.zeros(9), p=np.zeros(12)))
    assert bench.reason(image(), cloud()) == "no_calibration"
    bench.cameras.update(camera_info())
    assert bench.pipeline.complete(image(), cloud()).dense.depth.any()


def test_the_calibration_files_camera_stands_in_and_that_is_said_once():
    bench = Bench(fallback=CAMERA)
    for _ in range(2):
        assert bench.pipeline.complete(image(), cloud()).dense.depth.any()
    assert [line for _, line in bench.said if "no camera_info arrives" in line] == [
        "no camera_info arrives; taking the camera of the a test"
    ]


def test_only_the_first_frame_waits_for_a_camera_info_that_the_file_stands_in_for(monkeypatch):
    bench = Bench(fallback=CAMERA)
    monkeypatch.setattr(bench.pipeline, "_give_up", lambda: False)
    assert bench.pipeline.complete(image(), cloud()).seconds["calibrate"] >= 0.5
    assert bench.pipeline.complete(image(), cloud()).seconds["calibrate"] < 0.05
    # One that comes late is taken all the same.
    K = np.array([[40, 0, 47.5], [0, 40, 31.5], [0, 0, 1]], np.float64)
    bench.cameras.update(camera_info(PinholeCamera(96, 64, K, frame_id="eye")))
    assert bench.pipeline.complete(image(), cloud()).camera.K[0, 0] == 40


def test_a_changed_camera_info_is_noticed_and_said(bench):
    bench.pipeline.complete(image(), cloud())
    before = bench.cameras.changes
    bench.cameras.update(camera_info())
    assert bench.cameras.changes == before
    K = np.array([[40, 0, 47.5], [0, 40, 31.5], [0, 0, 1]], np.float64)
    bench.cameras.update(camera_info(PinholeCamera(96, 64, K, frame_id="eye")))
    done = bench.pipeline.complete(image(), cloud())
    assert done.camera.K[0, 0] == 40
    lines = [line for level, line in bench.said if level == "warning"]
    assert lines[0].startswith("calibration changed: 96x64, focal length 40.0 px")


def test_extrinsics_are_told_in_words_once_and_doubted_if_nothing_is_visible():
    T = T_CAMERA_LIDAR.copy()
    T[:3, 3] = (0.1, -0.2, -0.3)
    bench = Bench(extrinsics=FixedExtrinsics(np.linalg.inv(T), "a test"))
    bench.cameras.update(camera_info())
    bench.pipeline.complete(image(), cloud())
    bench.pipeline.complete(image(), cloud())
    assert len(bench.said) == 2
    assert "did you mean the inverse?" in bench.said[1][1]


def test_unknown_extrinsics_are_no_transform():
    class Unknown:
        origin = "tf"
        camera = None

        def look_up(self, *args):
            msg = "tf: no transform from 'scanner' to 'eye'"
            raise CalibrationError(msg)

    bench = Bench(extrinsics=Unknown())
    bench.cameras.update(camera_info())
    assert bench.reason(image(), cloud()) == "no_transform"


def test_a_shift_that_the_extrinsics_hold_is_not_applied_twice():
    class Shifted(FixedExtrinsics):
        def without_shift(self, camera, camera_frame):
            assert camera_frame == "eye"
            return dataclasses.replace(camera, shift=np.zeros(3))

    P = np.column_stack((CAMERA.K, CAMERA.K @ (0.5, 0, 0))).ravel()
    for kind, shift in ((FixedExtrinsics, 0.5), (Shifted, 0.0)):
        bench = Bench(extrinsics=kind(T_CAMERA_LIDAR, "tf"))
        bench.cameras.update(camera_info(p=P))
        for _ in range(2):
            done = bench.pipeline.complete(image(), cloud())
        assert done.camera.shift[0] == pytest.approx(shift)
        said = [line for _, line in bench.said if "is in tf already" in line]
        assert len(said) == (kind is Shifted)


def test_an_empty_cloud_gives_no_estimate_anywhere(bench):
    xyz = np.zeros((0, 3), np.float32)
    empty = message(points_fields(xyz), frame_id="scanner")
    done = bench.pipeline.complete(image(), empty)
    assert not done.dense.depth.any()


def test_projection_settings_reach_the_completer_with_the_next_frame(bench):
    assert bench.pipeline.complete(image(), cloud(12.0)).dense.depth.any()
    bench.settings = unflatten(bench.settings, {"projection.max_depth": 11.0})
    assert not bench.pipeline.complete(image(), cloud(12.0)).dense.depth.any()


def test_a_camera_frame_from_the_settings_replaces_that_of_camera_info():
    keeper = CameraKeeper(CalibrationSettings(camera_frame="optical"), None)
    keeper.update(camera_info())
    assert keeper.camera is not None
    assert keeper.camera.frame_id == "optical"


def test_camera_info_may_come_a_moment_after_the_image(monkeypatch):
    bench = Bench()
    monkeypatch.setattr(bench.pipeline, "_give_up", lambda: False)
    monkeypatch.setattr(
        pipeline_module.time, "sleep", lambda seconds: bench.cameras.update(camera_info())
    )
    assert bench.pipeline.complete(image(), cloud()).dense.depth.any()
