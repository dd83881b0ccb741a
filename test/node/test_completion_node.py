"""The real node in a process of its own, over real DDS."""

from __future__ import annotations

import math
import signal
import time

import numpy as np
import pytest

from depth_completion_ros.messages.camera_info import camera_info_fields
from depth_completion_ros.messages.fields import fill_message
from depth_completion_ros.messages.headers import stamp_ns
from depth_completion_ros.messages.image import (
    image_fields,
    read_compressed_depth,
    read_depth_image,
)
from depth_completion_ros.messages.points import points_fields, read_points
from depth_completion_ros.messages.transforms import pose_fields

pytestmark = [pytest.mark.ros, pytest.mark.slow]
NODE = "/depth_completion_node"


@pytest.fixture
def messages():
    """The message classes, imported only where rclpy is."""
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

    class Messages:
        pass

    for kind in (Image, CameraInfo, PointCloud2, CompressedImage, Odometry):
        setattr(Messages, kind.__name__, kind)
    return Messages


class Sensors:
    """A camera and a LiDAR that the test itself publishes."""

    def __init__(self, listener, messages, wall, wait_until, prefix="/cam") -> None:
        from depth_completion_ros.data import PinholeCamera

        self.listener = listener
        self.messages, self.wall, self.wait_until = messages, wall, wait_until
        K = np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]], np.float64)
        self.camera = PinholeCamera(96, 64, K, frame_id="eye")
        self.image = listener.publisher(f"{prefix}/image_raw", messages.Image)
        self.camera_info = listener.publisher(f"{prefix}/camera_info", messages.CameraInfo)
        self.points = listener.publisher("/lidar", messages.PointCloud2)

    def wait_for_node(self) -> None:
        for publisher in (self.image, self.camera_info, self.points):
            self.wait_until(
                lambda publisher=publisher: publisher.get_subscription_count() > 0, "subscriber"
            )
        node = self.listener.node
        self.wait_until(lambda: node.count_publishers("/depth/image") > 0, "publisher")
        time.sleep(0.5)  # Both sides have to know of each other; DDS tells of one side only.

    def image_message(self, stamp: int, size: tuple[int, int] = (64, 96)):
        fields = image_fields(np.full((*size, 3), 90, np.uint8), "rgb8")
        return fill_message(self.messages.Image(), fields, stamp=stamp, frame_id="eye")

    def points_message(self, stamp: int, distance: float = 10.0, times=None):
        fields = points_fields(self.wall(distance), times)
        return fill_message(self.messages.PointCloud2(), fields, stamp=stamp, frame_id="scanner")

    def send(self, stamp: int, distance: float = 10.0, *, points_stamp: int | None = None) -> None:
        fields = camera_info_fields(self.camera)
        info = fill_message(self.messages.CameraInfo(), fields, stamp=stamp, frame_id="eye")
        self.camera_info.publish(info)
        later = stamp if points_stamp is None else points_stamp
        self.points.publish(self.points_message(later, distance))
        self.image.publish(self.image_message(stamp))


_LOOKING_AHEAD = "[0., -1., 0., 0., 0., 0., -1., 0., 1., 0., 0., 0., 0., 0., 0., 1.]"
# The node as it is, but for one of its parts.
_BREAK_MONITOR = """
import sys
from depth_completion_ros.node import completion_node
def poll(session):
    raise RuntimeError("polling broke")
completion_node.Session.poll = poll
sys.exit(completion_node.main())
"""
REMAPS = ("-r", "image:=/cam/image_raw", "-r", "points:=/lidar")


@pytest.fixture
def sensors(listener, messages, wall, wait_until):
    return Sensors(listener, messages, wall, wait_until)


def test_every_frame_comes_out_on_every_topic_with_the_images_stamp_and_frame(
    start, listener, messages, street, frames, wait_until
):
    kinds = {
        "/depth/image": messages.Image,
        "/depth/camera_info": messages.CameraInfo,
        "/confidence/image": messages.Image,
        "/sigma/image": messages.Image,
        "/sparse_depth/image": messages.Image,
        "/depth/color": messages.Image,
        "/depth/image/compressedDepth": messages.CompressedImage,
        "/depth/points": messages.PointCloud2,
    }
    heard = {topic: listener.listen(topic, kind) for topic, kind in kinds.items()}
    diagnostics = listener.diagnostics()
    node = start("completion_node", "-p", f"calibration.file:={street / 'calib.json'}")
    node.wait_for_line("ready: listening to")
    player = start(
        "kitti_player",
        *("-p", f"drive:={street}", "-p", "stamps:=recorded", "-p", "wait:=20", "-p", "rate:=0.5"),
    )
    assert player.wait() == 0, player.text
    for topic, got in heard.items():
        wait_until(lambda got=got: len(got) >= frames, f"{frames} messages on {topic}")
    expected = [1_000_000_000 + 100_000_000 * i for i in range(frames)]
    for topic, got in heard.items():
        assert [stamp_ns(m.header.stamp) for m in got] == expected, topic
        assert {m.header.frame_id for m in got} == {"camera"}, topic
    for index in range(frames):
        distance = 10.0 + index
        depth = read_depth_image(heard["/depth/image"][index])
        assert depth.shape == (64, 96)
        assert depth[32, 48] == pytest.approx(distance, rel=0.02)
        sparse = read_depth_image(heard["/sparse_depth/image"][index])
        assert np.unique(sparse.round(2)).tolist() == [0, distance]
        lossless = read_compressed_depth(heard["/depth/image/compressedDepth"][index])
        np.testing.assert_allclose(lossless, depth, atol=0.00051)
    cloud = heard["/depth/points"][0]
    assert (cloud.height, cloud.width) == (64, 96)
    xyz = read_points(cloud).points.reshape(64, 96, -1)[32, 48, :3]
    np.testing.assert_allclose(xyz, (0.5 * 10 / 80, 0.5 * 10 / 80, 10), rtol=0.02)
    info = heard["/depth/camera_info"][0]
    assert (info.width, info.height, info.k[0]) == (96, 64, 80.0)
    wait_until(lambda: diagnostics.count("published") == frames, "count of published")
    assert diagnostics.count("matched") == frames
    assert {k: v for k, v in diagnostics.values.items() if k.startswith("dropped.")} == {
        f"dropped.{reason}": "0" for reason in _reasons()
    }
    assert float(diagnostics.values["latency.receive_to_publish.p50_ms"]) > 0
    assert node.stop() == 0


def _reasons():
    from depth_completion_ros.node.statistics import DROP_REASONS

    return DROP_REASONS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ignored", [False, True], ids=["foreground", "background"])
def test_signals_end_the_node_with_status_0(start, street, number, ignored):
    # A shell starts what ends in `&` with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        node = start("completion_node", "-p", f"calibration.file:={street / 'calib.json'}")
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
    node.wait_for_line("ready: listening to")
    assert node.stop(number) == 0


def test_a_manager_leads_the_node_through_its_states(start, listener, street, wait_until):
    diagnostics = listener.diagnostics()
    node = start(
        "completion_node",
        *("-p", "autostart:=false", "-p", f"calibration.file:={street / 'calib.json'}"),
    )
    assert listener.state(NODE) == "unconfigured"
    assert listener.set_parameter(NODE, "network", "clairvoyant").successful
    assert not listener.change_state(NODE, "configure")
    line = node.wait_for_line("cannot configure")
    assert "network: found 'clairvoyant'" in line
    wait_until(lambda: "clairvoyant" in diagnostics.state, "reason in the diagnostics")
    assert listener.set_parameter(NODE, "network", "fill").successful
    assert listener.change_state(NODE, "configure")
    assert listener.state(NODE) == "inactive"
    refused = listener.set_parameter(NODE, "network", "auto")
    assert not refused.successful
    assert "fixed while the node is configured" in refused.reason
    assert listener.change_state(NODE, "activate")
    assert listener.state(NODE) == "active"
    wait_until(lambda: "waiting for image on /image" in diagnostics.state, "waiting state")
    assert diagnostics.values["network"] == "fill"
    assert listener.change_state(NODE, "deactivate")
    assert listener.change_state(NODE, "activate")
    assert listener.change_state(NODE, "deactivate")
    assert listener.change_state(NODE, "cleanup")
    assert listener.state(NODE) == "unconfigured"
    assert listener.change_state(NODE, "shutdown")
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("-p", "sync.slop:=11"),
            "parameter sync.slop: found 11.0, expected a value from 0 to 10",
        ),
        (("-p", "sync.policy:=maybe"), "expected one of exact, approximate, latest"),
        (("-p", "calibration.file:=/no/such.yaml"), "/no/such.yaml"),
        (("-p", "calibration.T_camera_lidar:=[1.0, 2.0]"), "found 2 numbers, expected 0 or 16"),
        (("-p", "network:=clairvoyant"), "network: found 'clairvoyant'"),
        (("-p", "calibration.source:=parameters"), "calibration.T_camera_lidar: found nothing"),
    ],
)
def test_what_cannot_be_configured_is_said_in_one_line(start, street, arguments, reason):
    node = start("completion_node", "-p", f"calibration.file:={street / 'calib.json'}", *arguments)
    assert reason in node.wait_for_line("cannot configure")
    assert node.process.poll() is None
    assert node.stop() == 0


def test_misspelled_parameters_are_named(start, street):
    node = start("completion_node", "-p", "sync.slopp:=0.1", "-p", "autostart:=false")
    assert "did you mean sync.slop?" in node.wait_for_line("sync.slopp")
    assert node.stop() == 0


def test_dynamic_parameters_take_effect_with_the_next_frame(
    start, listener, messages, sensors, calibration_file, wait_until
):
    depth = listener.listen("/depth/image", messages.Image)
    node = start("completion_node", *REMAPS, "-p", f"calibration.file:={calibration_file}")
    sensors.wait_for_node()
    sensors.send(1_000_000_000)
    wait_until(lambda: len(depth) >= 1, "depth")
    assert np.count_nonzero(read_depth_image(depth[-1])) > 1000
    # An int for a float, as a person types it.
    assert listener.set_parameter(NODE, "output.max_depth", 5).successful
    sensors.send(1_200_000_000)
    wait_until(lambda: len(depth) >= 2, "depth")
    assert np.count_nonzero(read_depth_image(depth[-1])) == 0
    assert math.isnan(np.frombuffer(depth[-1].data, np.float32)[0])
    refused = listener.set_parameter(NODE, "output.max_depth", 5000.0)
    assert not refused.successful
    refused = listener.set_parameter(NODE, "output.min_depth", 9.0)
    assert (
        refused.reason == "output.min_depth: found minimum 9 and maximum 5, expected "
        "minimum < maximum"
    )
    assert node.stop() == 0


def test_bad_messages_are_counted_by_reason_and_the_node_goes_on(
    start, listener, messages, sensors, calibration_file, wait_until
):
    depth = listener.listen("/depth/image", messages.Image)
    diagnostics = listener.diagnostics()
    node = start("completion_node", *REMAPS, "-p", f"calibration.file:={calibration_file}")
    sensors.wait_for_node()
    # Without camera_info: the camera has to come from somewhere.
    sensors.points.publish(sensors.points_message(900_000_000))
    sensors.image.publish(sensors.image_message(900_000_000))
    wait_until(lambda: diagnostics.count("dropped.no_calibration") == 1, "no_calibration")
    assert "no camera_info" in node.wait_for_line("dropped, no_calibration")
    sensors.send(1_000_000_000)
    wait_until(lambda: len(depth) == 1, "depth")

    image = sensors.image_message(1_100_000_000)
    image.encoding = "heat_vision"
    sensors.points.publish(sensors.points_message(1_100_000_000))
    sensors.image.publish(image)
    wait_until(lambda: diagnostics.count("dropped.bad_image") == 1, "bad_image")

    cloud = sensors.points_message(1_200_000_000)
    cloud.data = cloud.data[:100]
    sensors.points.publish(cloud)
    sensors.image.publish(sensors.image_message(1_200_000_000))
    wait_until(lambda: diagnostics.count("dropped.bad_points") == 1, "bad_points")

    sensors.points.publish(sensors.points_message(1_300_000_000))
    sensors.image.publish(sensors.image_message(1_300_000_000, size=(32, 48)))
    wait_until(lambda: diagnostics.count("dropped.size_mismatch") == 1, "size_mismatch")

    sensors.image.publish(sensors.image_message(0))
    wait_until(lambda: diagnostics.count("dropped.bad_stamp") == 1, "bad_stamp")

    sensors.send(1_400_000_000, distance=20.0)
    wait_until(lambda: len(depth) == 2, "depth after all that")
    assert read_depth_image(depth[1])[32, 48] == pytest.approx(20, rel=0.02)
    assert depth[1].header.frame_id == "eye"
    wait_until(lambda: diagnostics.count("published") == 2, "count of published")
    assert node.stop() == 0


def test_a_silent_topic_is_named_with_its_publishers(
    start, listener, messages, sensors, calibration_file, wait_until
):
    diagnostics = listener.diagnostics()
    node = start(
        "completion_node",
        *(*REMAPS[:2], "-r", "points:=/elsewhere", "-p", "sync.watchdog:=0.5"),
        *("-p", f"calibration.file:={calibration_file}"),
    )
    wait_until(lambda: sensors.image.get_subscription_count() > 0, "subscriber")
    stamp = 1_000_000_000

    def is_explained() -> bool:
        nonlocal stamp
        stamp += 100_000_000
        sensors.send(stamp)
        state = diagnostics.state
        return "points on /elsewhere (silent for" in state and "image on" not in state

    wait_until(is_explained, "explanation")
    assert "no publisher" in diagnostics.state
    assert node.stop() == 0


def test_the_log_is_quiet_about_what_is_awaited_right_after_the_start(
    start, sensors, calibration_file, wait_until
):
    node = start(
        "completion_node",
        *REMAPS,
        "-p",
        f"calibration.file:={calibration_file}",
        "-p",
        "sync.watchdog:=4.0",
    )
    node.wait_for_line("ready: listening to")
    time.sleep(2.5)
    assert "waiting for" not in node.text
    sensors.wait_for_node()
    stamp = 1_000_000_000

    def is_published() -> bool:
        nonlocal stamp
        stamp += 100_000_000
        sensors.send(stamp)
        return "depth is published" in node.text

    wait_until(is_published, "depth")
    # Now nothing is sent, which is worth a warning.
    assert "waiting for image on /cam/image_raw" in node.wait_for_line("waiting for image")
    assert "every pair is dropped" not in node.text
    assert node.stop() == 0


def test_a_defect_in_the_monitor_is_said_once_and_the_diagnostics_go_on(
    start, listener, wait_until
):
    diagnostics = listener.diagnostics()
    node = start(
        "completion_node",
        *("-p", "calibration.T_camera_lidar:=" + _LOOKING_AHEAD),
        script=_BREAK_MONITOR,
    )
    node.wait_for_line("monitor: RuntimeError: polling broke")
    count = len(diagnostics.messages)
    wait_until(lambda: len(diagnostics.messages) >= count + 2, "further diagnostics")
    assert node.text.count("polling broke") == 1
    assert node.stop() == 0


def test_stamps_too_far_apart_are_explained(
    start, listener, messages, sensors, calibration_file, wait_until
):
    diagnostics = listener.diagnostics()
    node = start(
        "completion_node",
        *(*REMAPS, "-p", "sync.watchdog:=0.5", "-p", f"calibration.file:={calibration_file}"),
    )
    sensors.wait_for_node()
    stamp = 1_000_000_000

    def is_explained() -> bool:
        nonlocal stamp
        stamp += 1_000_000_000
        sensors.send(stamp, points_stamp=stamp + 300_000_000)
        return "slop" in diagnostics.state

    wait_until(is_explained, "explanation")
    assert node.stop() == 0


def test_odometry_moves_the_cloud_to_the_moment_of_the_image(
    start, listener, messages, sensors, calibration_file, wait_until
):
    sparse = listener.listen("/sparse_depth/image", messages.Image)
    node = start(
        "completion_node",
        *(*REMAPS, "-p", "motion.source:=odometry", "-p", "sync.slop:=0.06"),
        *("-p", f"calibration.file:={calibration_file}"),
    )
    odometry = listener.publisher("/odometry", messages.Odometry)
    sensors.wait_for_node()
    wait_until(lambda: odometry.get_subscription_count() > 0, "subscriber of odometry")
    # 20 m/s forward; the cloud is 50 ms older than the image, so the wall is 1 m nearer by then.
    for stamp in range(1_000_000_000, 1_500_000_000, 20_000_000):
        T = np.eye(4)
        T[0, 3] = 20 * stamp * 1e-9
        message = messages.Odometry()
        message.child_frame_id = "scanner"
        fill_message(message.pose, {"pose": pose_fields(T)})
        fill_message(message, {}, stamp=stamp, frame_id="odom")
        odometry.publish(message)
    for stamp in (1_200_000_000, 1_300_000_000):
        sensors.send(stamp, distance=10.0, points_stamp=stamp - 50_000_000)
    wait_until(lambda: sparse, "sparse depth")
    measured = read_depth_image(sparse[0])
    assert measured[measured > 0].mean() == pytest.approx(9.0, abs=0.01)
    assert node.stop() == 0


def test_sim_time_rules_stamps_of_diagnostics_and_latency(
    start, listener, messages, street, frames, wait_until
):
    from rosgraph_msgs.msg import Clock

    clock = listener.listen("/clock", Clock, qos=1000)
    diagnostics = listener.diagnostics()
    node = start(
        "completion_node",
        *("-p", "use_sim_time:=true", "-p", f"calibration.file:={street / 'calib.json'}"),
    )
    node.wait_for_line("ready: listening to")
    player = start(
        "kitti_player",
        *("-p", f"drive:={street}", "-p", "wait:=20", "-p", "rate:=0.5", "-p", "loop:=true"),
    )
    wait_until(lambda: diagnostics.count("published") > frames, "a second loop")
    # The clock starts at the recording's 1 s and is continued over loops.
    assert 1 < stamp_ns(diagnostics.messages[-1].header.stamp) * 1e-9 < 100
    assert float(diagnostics.values["latency.stamp_to_publish.p50_ms"]) < 5000
    assert diagnostics.count("dropped.time_jump") == 0
    assert player.stop(signal.SIGINT) == 0
    assert node.stop() == 0
    times = np.array([stamp_ns(m.clock) for m in clock])
    assert np.all(np.diff(times) >= 0)
    # Half speed: 200 messages a second of real time are 400 a second of the recording.
    assert len(times) / ((times[-1] - times[0]) * 1e-9) >= 400


def test_stamps_that_start_again_are_no_end(
    start, listener, messages, sensors, calibration_file, wait_until
):
    depth = listener.listen("/depth/image", messages.Image)
    diagnostics = listener.diagnostics()
    node = start("completion_node", *REMAPS, "-p", f"calibration.file:={calibration_file}")
    sensors.wait_for_node()
    stamps = [50_000_000_000, 50_100_000_000, 1_000_000_000, 1_100_000_000]
    for count, stamp in enumerate(stamps, 1):
        sensors.send(stamp)
        wait_until(lambda count=count: len(depth) == count, f"{count} depth images")
    assert [stamp_ns(m.header.stamp) for m in depth] == stamps
    assert "stamps run backwards" in node.wait_for_line("stamps run backwards")
    wait_until(lambda: diagnostics.count("published") == 4, "count of published")
    assert node.stop() == 0


def test_an_unpaired_cloud_before_a_jump_is_counted_as_time_jump(
    start, listener, messages, sensors, calibration_file, wait_until
):
    diagnostics = listener.diagnostics()
    node = start("completion_node", *REMAPS, "-p", f"calibration.file:={calibration_file}")
    sensors.wait_for_node()
    sensors.send(50_000_000_000)
    wait_until(lambda: diagnostics.count("published") == 1, "published")
    sensors.points.publish(sensors.points_message(50_100_000_000))
    wait_until(lambda: diagnostics.count("received.points") == 2, "cloud")
    sensors.points.publish(sensors.points_message(1_000_000_000))
    wait_until(lambda: diagnostics.count("dropped.time_jump") == 1, "time_jump")
    assert node.stop() == 0


def test_a_restarted_camera_driver_is_taken_up_again(
    start, listener, messages, wall, calibration_file, wait_until
):
    first = Sensors(listener, messages, wall, wait_until)
    depth = listener.listen("/depth/image", messages.Image)
    node = start("completion_node", *REMAPS, "-p", f"calibration.file:={calibration_file}")
    first.wait_for_node()
    first.send(1_000_000_000)
    wait_until(lambda: len(depth) == 1, "depth")
    for publisher in (first.image, first.camera_info, first.points):
        listener.node.destroy_publisher(publisher)
    second = Sensors(listener, messages, wall, wait_until)
    second.wait_for_node()
    second.send(2_000_000_000)
    wait_until(lambda: len(depth) == 2, "depth of the restarted driver")
    assert node.stop() == 0


def test_compressed_images_are_taken_by_the_conventions_of_image_transport(
    start, listener, messages, sensors, calibration_file, wait_until
):
    import cv2

    depth = listener.listen("/depth/image", messages.Image)
    compressed = listener.publisher("/cam/image_raw/compressed", messages.CompressedImage)
    node = start(
        "completion_node",
        *(*REMAPS, "-p", "input.image_transport:=compressed"),
        *("-p", f"calibration.file:={calibration_file}"),
    )
    for publisher in (compressed, sensors.camera_info, sensors.points):
        wait_until(lambda p=publisher: p.get_subscription_count() > 0, "subscriber")
    wait_until(lambda: listener.node.count_publishers("/depth/image") > 0, "publisher")
    time.sleep(0.5)
    _, png = cv2.imencode(".png", np.full((64, 96, 3), 90, np.uint8))
    fields = {"format": "rgb8; png compressed bgr8", "data": png.reshape(-1)}
    message = fill_message(messages.CompressedImage(), fields, stamp=1_000_000_000, frame_id="eye")
    sensors.send(1_000_000_000)  # The raw image is not listened to.
    compressed.publish(message)
    wait_until(lambda: len(depth) == 1, "depth")
    assert read_depth_image(depth[0])[32, 48] == pytest.approx(10, rel=0.02)
    assert node.stop() == 0


def test_quality_of_service_can_be_overridden_for_each_topic(
    start, listener, calibration_file, wait_until
):
    node = start(
        "completion_node",
        *("-p", f"calibration.file:={calibration_file}", "-p", "qos.points:=reliable"),
        *("-p", "qos_overrides./image.subscription.reliability:=reliable"),
        *("-p", "qos_overrides./depth/image.publisher.reliability:=best_effort"),
    )
    node.wait_for_line("ready: listening to")

    def reliability(find, topic: str) -> str:
        wait_until(lambda: len(find(topic)) == 1, f"endpoint of {topic}")
        return find(topic)[0].qos_profile.reliability.name

    subscriptions = listener.node.get_subscriptions_info_by_topic
    assert reliability(subscriptions, "/image") == "RELIABLE"
    assert reliability(subscriptions, "/points") == "RELIABLE"
    assert reliability(subscriptions, "/camera_info") == "BEST_EFFORT"
    publishers = listener.node.get_publishers_info_by_topic
    assert reliability(publishers, "/depth/image") == "BEST_EFFORT"
    assert reliability(publishers, "/depth/points") == "RELIABLE"
    assert node.stop() == 0


def test_a_publisher_that_does_not_fit_is_named(
    start, listener, messages, calibration_file, wait_until
):
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    listener.publisher("/image", messages.Image, best_effort)
    node = start(
        "completion_node",
        *("-p", f"calibration.file:={calibration_file}", "-p", "qos.image:=reliable"),
    )
    line = node.wait_for_line("cannot connect")
    assert "/image: 1 publisher(s) cannot connect, reliability does not fit" in line
    assert node.stop() == 0


def test_a_transition_that_the_state_does_not_allow_does_not_end_the_node(
    start, listener, calibration_file
):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    node = start(
        "completion_node", "-p", "autostart:=false", "-p", f"calibration.file:={calibration_file}"
    )
    assert listener.state(NODE) == "unconfigured"
    client = listener.node.create_client(ChangeState, f"{NODE}/change_state")
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_ACTIVATE
    client.call_async(request)
    node.wait_for_line("No transition matching")  # said by rcl, in every distribution
    assert listener.change_state(NODE, "configure")
    assert listener.state(NODE) == "inactive"
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("override", "end"),
    [
        ("/image.subscription.reliability:=perhaps", "back to unconfigured: cannot activate"),
        ("/depth/image.publisher.reliability:=perhaps", "cannot configure: RuntimeError"),
    ],
)
def test_impossible_overrides_lead_back_to_unconfigured(
    start, listener, calibration_file, override, end
):
    node = start(
        "completion_node",
        *("-p", f"calibration.file:={calibration_file}", "-p", f"qos_overrides.{override}"),
    )
    assert "perhaps" in node.wait_for_line(end)
    assert listener.state(NODE) == "unconfigured"
    assert node.stop() == 0
