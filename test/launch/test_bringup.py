"""The launch file, with ROS's own launch and launch_ros where they are installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "bringup.launch.py"
FRAMES = 30

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def bringup():
    """The launch file as a module."""
    for name in ("launch_ros", "launch"):
        pytest.importorskip(name, reason=f"ROS's {name} is not installed (it has no wheel)")
    spec = importlib.util.spec_from_file_location("bringup", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(bringup):
    """Skip where launch cannot find the package's executables."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("depth_completion")
    except PackageNotFoundError:
        pytest.skip("depth_completion is not on AMENT_PREFIX_PATH; build it with colcon first")
    return bringup


def test_no_argument_is_required_and_each_says_what_it_is(bringup):
    arguments = bringup.generate_launch_description().get_launch_arguments()
    assert {a.name for a in arguments} >= {
        *("image", "points", "params_file", "network", "backend", "device", "drive", "bag"),
        *("rviz", "use_sim_time", "namespace", "calibration", "projection_model", "topics"),
    }
    for argument in arguments:
        assert argument.default_value is not None, argument.name
        sentence = argument.description.partition(" Valid choices")[0]
        assert sentence.endswith("."), argument.name


def test_a_topic_preset_gives_the_remaps_and_an_argument_overrides_it(bringup):
    given = {"topics": "kitti2bag", "image": "", "camera_info": "", "points": "/lidar"}
    assert bringup.topic_remappings(given) == {
        "image": "/kitti/camera_color_left/image_raw",
        "camera_info": "/kitti/camera_color_left/camera_info",
        "points": "/lidar",
    }


def test_the_displays_of_rviz_follow_the_chosen_topics(bringup):
    config = ROOT / "config" / "depth_completion.rviz"
    given = {"topics": "", "image": "/cam/image_rect", "camera_info": "", "points": "lidar"}
    assert bringup.display_remappings(given, config) == {
        "/depth_completion/image": "/cam/image_rect",
        "/depth_completion/points": "lidar",
        "/depth_completion/depth/color": "depth/color",
        "/depth_completion/depth/points": "depth/points",
        "/depth_completion/confidence/image": "confidence/image",
    }


def test_the_projection_model_is_the_params_files_unless_it_is_given(bringup):
    def overrides(**arguments):
        given = {name: default for name, default, *_ in bringup.ARGUMENTS} | arguments
        node = bringup._completion_node(given, sim_time=False)
        return [
            "".join(part.text for part in name)
            for parameters in node._Node__parameters
            if isinstance(parameters, dict)
            for name in parameters
        ]

    assert "calibration.projection_model" not in overrides()
    assert "calibration.projection_model" in overrides(projection_model="raw")


@pytest.mark.dataset
def test_a_drives_own_calibration_is_found_from_every_folder(bringup, kitti):
    date = kitti / "drive_0009" / "2011_09_26"
    for folder in (date, date / "2011_09_26_drive_0009_sync", date.parent):
        assert bringup.find_calibration(str(folder)) == str(date)
    assert bringup.find_calibration("") == ""


@pytest.mark.dataset
def test_a_drive_is_played_through_the_node_and_all_of_it_ends_with_ctrl_c(
    installed, kitti, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    for name in installed.PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    script = (
        "import sys; from launch import LaunchService; "
        "from launch.actions import IncludeLaunchDescription as I; "
        "from launch.launch_description_sources import PythonLaunchDescriptionSource as S; "
        "from launch import LaunchDescription as D; s = LaunchService(argv=sys.argv[2:]); "
        "s.include_launch_description(D([I(S(sys.argv[1]), "
        "launch_arguments=[a.split(':=') for a in sys.argv[2:]])])); sys.exit(s.run())"
    )
    log = tmp_path / "launch.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", script, str(FILE), "network:=fill", "rate:=0.25"),
                f"drive:={kitti / 'drive_0009'}",
            ],
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while f"end: {FRAMES} frames published" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text()
    assert "depth is published" in text
    assert "Traceback" not in text
    assert text.count("process has finished cleanly") == 2
