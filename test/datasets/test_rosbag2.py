from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depth_completion_ros.data import PinholeCamera
from depth_completion_ros.datasets.bag_topics import TF_MESSAGE, choose_topics
from depth_completion_ros.datasets.bag_writer import write_bag
from depth_completion_ros.datasets.calibration import Calibration
from depth_completion_ros.datasets.opening import open_source
from depth_completion_ros.datasets.rosbag2 import Rosbag
from depth_completion_ros.errors import CalibrationError, InputError
from depth_completion_ros.messages.camera_info import camera_info_fields
from depth_completion_ros.messages.fields import build_message
from depth_completion_ros.messages.image import image_fields
from depth_completion_ros.messages.points import points_fields
from depth_completion_ros.messages.transforms import stamped_transform_fields

MakeDrive = Callable[..., Path]
SECOND = 1_000_000_000
TYPES = get_typestore(Stores.ROS2_JAZZY)
CAMERA = PinholeCamera(4, 3, np.array(((10, 0, 2), (0, 10, 1), (0, 0, 1))))
POINTS = np.array([[5, 0, 0, 0.5]], np.float32)
AXES = np.array(((0.0, -1, 0, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0, 0, 0, 1)))


class Bag:
    """A bag under construction; every message is recorded at its stamp."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> Bag:
        self._writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(
        self, topic: str, kind: str, fields: Mapping[str, Any], time: int, **header: Any
    ) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=TYPES)
        message = build_message(TYPES, kind, fields, **header)
        self._writer.write(self._connections[topic], time, TYPES.serialize_cdr(message, kind))

    def image(self, stamp: int, topic: str = "/camera/image_raw", value: int = 0) -> None:
        fields = image_fields(np.full((3, 4, 3), value, np.uint8), "bgr8")
        self.write(topic, "sensor_msgs/msg/Image", fields, stamp, stamp=stamp, frame_id="camera")

    def points(self, stamp: int, topic: str = "/lidar/points") -> None:
        kind = "sensor_msgs/msg/PointCloud2"
        self.write(topic, kind, points_fields(POINTS), stamp, stamp=stamp, frame_id="lidar")

    def info(self, stamp: int, camera: PinholeCamera = CAMERA, **changes: Any) -> None:
        fields = {**camera_info_fields(camera), **changes}
        kind = "sensor_msgs/msg/CameraInfo"
        self.write("/camera/camera_info", kind, fields, stamp, stamp=stamp, frame_id="camera")

    def transform(
        self, parent: str, child: str, T: np.ndarray, topic: str = "/tf_static", time: int = SECOND
    ) -> None:
        transform = stamped_transform_fields(T, parent, child, stamp=time)
        self.write(topic, "tf2_msgs/msg/TFMessage", {"transforms": [transform]}, time)


def _shifted(x: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = x
    return T


@pytest.fixture
def bag(tmp_path: Path) -> Bag:
    return Bag(tmp_path / "bag")


def test_a_chain_through_other_frames_gives_the_extrinsics(tmp_path: Path, bag: Bag) -> None:
    with bag:
        # base_link is the root; the optical frame hangs below the camera's body.
        bag.transform("base_link", "lidar", _shifted(1.0))
        bag.transform("base_link", "body", _shifted(1.5))
        bag.transform("/body", "camera", np.linalg.inv(AXES))
        bag.info(SECOND)
        bag.image(SECOND)
        bag.points(SECOND)
    frame = open_source(tmp_path / "bag")[0]
    assert frame.T_camera_lidar is not None
    np.testing.assert_allclose(frame.T_camera_lidar @ (5, 0, 0, 1), (0, 0, 4.5, 1))
    assert frame.camera.K.tolist() == CAMERA.K.tolist()
    assert frame.points is not None
    assert frame.points.tolist() == [[5, 0, 0, 0.5]]


def test_images_and_clouds_are_matched_by_their_headers(tmp_path: Path, bag: Bag) -> None:
    with bag:
        bag.transform("camera", "lidar", AXES)
        bag.info(SECOND)
        for i in range(10):
            bag.image(SECOND + i * 33_000_000, value=i)
            if i % 3 == 0:
                bag.points(SECOND + i * 33_000_000 + 10_000_000)
    source = open_source(tmp_path / "bag")
    assert [int(frame.image[0, 0, 0]) for frame in source] == [0, 3, 6, 9]
    assert [f.points_stamp - f.stamp for f in source if f.points_stamp] == [10_000_000] * 4


def test_stamps_too_far_apart_are_no_frames(tmp_path: Path, bag: Bag) -> None:
    with bag:
        bag.transform("camera", "lidar", AXES)
        bag.info(SECOND)
        bag.image(SECOND)
        bag.points(3 * SECOND)
    message = r"no image and cloud match \(found 1 of /camera/image_raw and 1 of /lidar/points\)"
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "bag")


def test_a_bag_without_camera_info_or_tf_needs_a_calibration_file(
    tmp_path: Path, bag: Bag
) -> None:
    with bag:
        bag.image(SECOND)
        bag.points(SECOND)
    with pytest.raises(CalibrationError, match="found no camera_info for /camera/image_raw"):
        open_source(tmp_path / "bag")
    camera = "camera: {width: 4, height: 3, K: [11, 0, 2, 0, 11, 1, 0, 0, 1]}\n"
    path = tmp_path / "calibration.yaml"
    path.write_text(camera)
    with pytest.raises(CalibrationError, match="tf does not connect 'camera' with 'lidar'"):
        open_source(tmp_path / "bag", calibration=path)
    path.write_text(camera + f"T_camera_lidar: {AXES.tolist()}\n")
    frame = open_source(tmp_path / "bag", calibration=path)[0]
    assert frame.camera.K[0, 0] == 11
    np.testing.assert_array_equal(frame.T_camera_lidar, AXES)


def test_extrinsics_from_a_file_go_with_the_camera_info_of_the_bag(
    tmp_path: Path, bag: Bag
) -> None:
    with bag:
        bag.info(SECOND)
        bag.image(SECOND)
        bag.points(SECOND)
    calibration = Calibration(T_camera_lidar=AXES)
    frame = open_source(tmp_path / "bag", calibration=calibration)[0]
    assert frame.camera.K[0, 0] == 10


def test_a_mounting_in_tf_counts_only_while_it_stands_still(tmp_path: Path) -> None:
    for name, second in (("still", 0.0), ("moving", 0.5)):
        with Bag(tmp_path / name) as bag:
            bag.transform("camera", "lidar", AXES, topic="/tf")
            bag.transform("camera", "lidar", AXES + _shifted(second) - np.eye(4), topic="/tf")
            bag.info(SECOND)
            bag.image(SECOND)
            bag.points(SECOND)
    np.testing.assert_allclose(open_source(tmp_path / "still")[0].T_camera_lidar, AXES)
    with pytest.raises(CalibrationError, match="tf between 'camera' and 'lidar' moves"):
        open_source(tmp_path / "moving")


def test_a_changed_camera_info_belongs_to_the_images_after_it(tmp_path: Path, bag: Bag) -> None:
    other = PinholeCamera(4, 3, np.array(((20, 0, 2), (0, 20, 1), (0, 0, 1))))
    with bag:
        bag.transform("camera", "lidar", AXES)
        for i, camera in enumerate((CAMERA, CAMERA, other)):
            bag.info(SECOND * (i + 1), camera)
            bag.image(SECOND * (i + 1))
            bag.points(SECOND * (i + 1))
    source = open_source(tmp_path / "bag")
    assert [frame.camera.K[0, 0] for frame in source] == [10, 10, 20]


def test_uncalibrated_camera_info_is_refused(tmp_path: Path, bag: Bag) -> None:
    with bag:
        bag.transform("camera", "lidar", AXES)
        bag.info(SECOND, k=np.zeros(9), p=np.zeros(12))
        bag.image(SECOND)
        bag.points(SECOND)
    with pytest.raises(CalibrationError, match=r"bag: /camera/camera_info: .*not calibrated"):
        open_source(tmp_path / "bag")


def test_a_column_of_p_that_tf_holds_already_is_not_applied_twice(tmp_path: Path) -> None:
    P = np.array(((10, 0, 2, 0.6), (0, 10, 1, 0), (0, 0, 1, 0)))
    for name, grey in (("kitti2bag", 0.06), ("other", 0.3)):
        with Bag(tmp_path / name) as bag:
            # kitti2bag: transforms to each camera itself, and the P of KITTI's files.
            bag.transform("imu", "lidar", _shifted(0.8))
            bag.transform("imu", "camera", np.linalg.inv(AXES))
            bag.transform("imu", "camera_gray_left", np.linalg.inv(_shifted(-grey) @ AXES))
            bag.info(SECOND, p=P.ravel())
            bag.image(SECOND)
            bag.points(SECOND)
    assert open_source(tmp_path / "kitti2bag")[0].camera.shift.tolist() == [0, 0, 0]
    np.testing.assert_allclose(open_source(tmp_path / "other")[0].camera.shift, (0.06, 0, 0))


def test_a_message_that_cannot_be_read_fails_its_frame_alone(tmp_path: Path, bag: Bag) -> None:
    with bag:
        bag.transform("camera", "lidar", AXES)
        bag.info(SECOND)
        for i in range(1, 4):
            bag.points(i * SECOND)
            if i != 2:
                bag.image(i * SECOND)
                continue
            broken = {**image_fields(np.zeros((3, 4, 3), np.uint8), "bgr8"), "encoding": "what"}
            kind = "sensor_msgs/msg/Image"
            bag.write("/camera/image_raw", kind, broken, i * SECOND, stamp=i * SECOND)
    source = open_source(tmp_path / "bag")
    assert source[0].stamp == SECOND
    assert source[2].stamp == 3 * SECOND
    with pytest.raises(InputError, match=r"bag: frame 0000000001: .*what"):
        source[1]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_bag_is_refused_in_one_line(
    make_drive: MakeDrive, tmp_path: Path, storage: str, share: float
) -> None:
    path = tmp_path / "bag"
    write_bag(open_source(make_drive()), path, storage=storage)
    (file,) = (p for p in path.iterdir() if p.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(InputError, match="bag: cannot be read as a bag") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a: 1\n", "rosbag2_bagfile_information: {version: 5}\n"])
def test_damaged_metadata_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(InputError, match="cannot be read as a bag"):
        open_source(tmp_path)


def test_a_recording_that_did_not_end_is_recognised(make_drive: MakeDrive, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_bag(open_source(make_drive()), path)
    (path / "metadata.yaml").unlink()
    for opened in (path, path / "bag.mcap"):
        with pytest.raises(InputError, match=r"found no metadata\.yaml; .* ros2 bag reindex"):
            open_source(opened)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_may_be_read_by_several_threads(
    make_drive: MakeDrive, tmp_path: Path, storage: str
) -> None:
    write_bag(open_source(make_drive()), tmp_path / "bag", storage=storage)
    with open_source(tmp_path / "bag") as source, ThreadPoolExecutor(2) as pool:
        blue = list(pool.map(lambda i: int(source[i].image[0, 0, 2]), [0, 1, 2] * 5))
        assert blue == [0, 1, 2] * 5
        source.close()
        assert source[1].name == "0000000001"


@pytest.mark.parametrize("name", ["bag.mcap", "metadata.yaml"])
def test_a_bag_may_be_named_by_a_file_in_it(
    make_drive: MakeDrive, tmp_path: Path, name: str
) -> None:
    write_bag(open_source(make_drive()), tmp_path / "bag")
    assert len(open_source(tmp_path / "bag" / name)) == 3


def test_a_ros_1_bag_is_read_like_the_others(tmp_path: Path) -> None:
    from rosbags.rosbag1 import Writer as Writer1

    types = get_typestore(Stores.ROS1_NOETIC)
    types.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF_MESSAGE))
    path = tmp_path / "kitti.bag"
    camera = {"K": CAMERA.K.ravel(), "P": np.hstack((CAMERA.K, np.zeros((3, 1)))).ravel()}
    messages = {
        "/tf_static": (
            TF_MESSAGE,
            {"transforms": [stamped_transform_fields(AXES, "camera_color_left", "velo_link")]},
        ),
        "/kitti/camera_color_left/camera_info": (
            "sensor_msgs/msg/CameraInfo",
            {"width": 4, "height": 3, **camera},
        ),
        "/kitti/camera_color_left/image_raw": (
            "sensor_msgs/msg/Image",
            image_fields(np.full((3, 4, 3), 7, np.uint8), "bgr8"),
        ),
        "/kitti/camera_gray_left/image_raw": (
            "sensor_msgs/msg/Image",
            image_fields(np.zeros((3, 4), np.uint8), "mono8"),
        ),
        "/kitti/velo/pointcloud": ("sensor_msgs/msg/PointCloud2", points_fields(POINTS)),
    }
    with Writer1(path) as writer:
        for topic, (kind, fields) in messages.items():
            header = {} if kind.startswith("tf2") else {"stamp": SECOND}
            frame_id = "velo_link" if "velo" in topic else "camera_color_left"
            message = build_message(types, kind, fields, **header, frame_id=frame_id)
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, SECOND, types.serialize_ros1(message, kind))
    with open_source(path) as source:
        frame = source[0]
    assert frame.image[0, 0].tolist() == [7, 7, 7]
    assert frame.stamp == SECOND
    np.testing.assert_allclose(frame.T_camera_lidar, AXES)
    assert frame.camera.K[0, 0] == 10


IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (
            {
                "/kitti/camera_color_left/image_rect": IMAGE,
                "/kitti/camera_color_right/image_rect": IMAGE,
                "/kitti/camera_gray_left/image_rect": IMAGE,
                "/kitti/camera_color_left/camera_info": INFO,
                "/kitti/camera_gray_left/camera_info": INFO,
                "/kitti/velo/pointcloud": CLOUD,
            },
            (
                "/kitti/camera_color_left/image_rect",
                "/kitti/velo/pointcloud",
                "/kitti/camera_color_left/camera_info",
            ),
        ),
        (
            {
                "/cam/color/image_raw": IMAGE,
                "/cam/color/image_raw/compressed": COMPRESSED,
                "/cam/color/camera_info": INFO,
                "/cam/depth/image_rect_raw": IMAGE,
                "/cam/depth/camera_info": INFO,
                "/cam/depth/color/points": CLOUD,
                "/ouster/points": CLOUD,
            },
            ("/cam/color/image_raw", "/ouster/points", "/cam/color/camera_info"),
        ),
        (
            {
                "/front/image_raw/compressed": COMPRESSED,
                "/info": INFO,
                "/velodyne_points": CLOUD,
                "/filtered_points": CLOUD,
            },
            ("/front/image_raw/compressed", "/velodyne_points", "/info"),
        ),
        (
            {"/image_raw": IMAGE, "/image_rect": IMAGE, "/livox/lidar": CLOUD},
            ("/image_rect", "/livox/lidar", None),
        ),
    ],
)
def test_topics_are_chosen_by_type_and_name(
    types: dict[str, str], expected: tuple[str, str, str | None]
) -> None:
    topics = choose_topics(Path("bag"), types, camera="image_02")
    assert (topics.image, topics.points, topics.camera_info) == expected


def test_the_camera_chooses_among_those_of_a_kitti_bag() -> None:
    types = {f"/kitti/camera_color_{side}/image_raw": IMAGE for side in ("left", "right")}
    types["/kitti/velo/pointcloud"] = CLOUD
    topics = choose_topics(Path("bag"), types, camera="image_03")
    assert topics.image == "/kitti/camera_color_right/image_raw"


def test_equally_likely_topics_are_left_to_the_user() -> None:
    types = {"/front/image_raw": IMAGE, "/rear/image_raw": IMAGE, "/points": CLOUD}
    message = r"found 2 topics that may be image \(/front/image_raw, /rear/image_raw\)"
    with pytest.raises(InputError, match=message):
        choose_topics(Path("bag"), types, camera="image_02")
    wanted = {"image": "/rear/image_raw"}
    topics = choose_topics(Path("bag"), types, camera="image_02", wanted=wanted)
    assert topics.image == "/rear/image_raw"


def test_missing_topics_are_reported_with_those_there_are() -> None:
    types = {"/points": CLOUD}
    with pytest.raises(InputError, match=r"no topic of type Image .*found /points \(PointCloud2"):
        choose_topics(Path("bag"), types, camera="image_02")
    with pytest.raises(InputError, match=r"bag: found no topic '/cloud' for points \(found"):
        choose_topics(Path("bag"), types, camera="image_02", wanted={"points": "/cloud"})
    with pytest.raises(InputError, match="topics: found 'cloud', expected image, camera_info"):
        choose_topics(Path("bag"), types, camera="image_02", wanted={"cloud": "/points"})


def test_topics_of_the_wrong_kind_are_refused(tmp_path: Path, bag: Bag) -> None:
    with bag:
        bag.image(SECOND)
        bag.points(SECOND)
    with pytest.raises(InputError, match=r"points: found /camera/image_raw of type .*Image"):
        Rosbag(tmp_path / "bag", topics={"points": "/camera/image_raw"})


def test_a_column_of_p_is_left_out_with_extrinsics_from_a_file_as_well(
    tmp_path: Path, bag: Bag
) -> None:
    P = np.array(((10, 0, 2, 0.6), (0, 10, 1, 0), (0, 0, 1, 0)))
    with bag:
        bag.transform("camera_gray_left", "camera", _shifted(-0.06))
        bag.info(SECOND, p=P.ravel())
        bag.image(SECOND)
        bag.points(SECOND)
    calibration = Calibration(T_camera_lidar=AXES)
    frame = open_source(tmp_path / "bag", calibration=calibration)[0]
    assert frame.camera.shift.tolist() == [0, 0, 0]
