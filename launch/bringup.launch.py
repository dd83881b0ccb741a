"""Start dense depth: the node, and what it needs to be tried on a drive, a bag or a robot.

    ros2 launch depth_completion bringup.launch.py drive:=/data/2011_09_26_drive_0009_sync
    ros2 launch depth_completion bringup.launch.py bag:=/data/my_bag topics:=kitti2bag
    ros2 launch depth_completion bringup.launch.py image:=/cam/image_rect points:=/lidar/points

No argument is required. Whatever is not given here is taken from params_file.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from depth_completion_ros.errors import InputError
from depth_completion_ros.share import find_share_file

PACKAGE = "depth_completion"
# The two names under which Fast DDS reads its settings, before and after Kilted.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
CAMERA_FRAMES = {
    "image_00": "camera_gray_left",
    "image_01": "camera_gray_right",
    "image_02": "camera_color_left",
    "image_03": "camera_color_right",
}

ARGUMENTS = (
    # What to play; nothing plays on a robot.
    ("drive", "", "KITTI raw drive to play (any other source but a bag works too).", None),
    ("camera", "image_02", "Camera of the KITTI drive.", tuple(CAMERA_FRAMES)),
    (
        "bag",
        "",
        "Bag to play: with `ros2 bag play` where it is installed, else kitti_player.",
        None,
    ),
    ("rate", "1.0", "Speed of drive or bag as a multiple of the recorded one.", None),
    ("loop", "false", "Play drive or bag again and again.", ("true", "false")),
    # Where the data is.
    (
        "topics",
        "",
        "Topic preset by name (kitti2bag, kitti2bag_right, kitti2bag_gray) or path of a YAML file "
        "with image, camera_info and points; the three arguments below override it.",
        None,
    ),
    ("image", "", "Image topic; empty takes `image` in the namespace.", None),
    (
        "camera_info",
        "",
        "camera_info topic; empty takes the one beside the image topic.",
        None,
    ),
    ("points", "", "PointCloud2 topic; empty takes `points` in the namespace.", None),
    (
        "image_transport",
        "",
        "raw or compressed; empty takes the params_file's.",
        None,
    ),
    (
        "calibration",
        "",
        "Calibration file (YAML, KITTI folder, calib.json); empty takes the drive's own where "
        "there is one, else the params_file's, else tf.",
        None,
    ),
    (
        "projection_model",
        "",
        "rectified or raw, how camera_info and calibration are read; empty takes the "
        "params_file's.",
        None,
    ),
    # How to complete.
    ("network", "", "Completer by name (auto, fill, ...); empty takes the params_file's.", None),
    ("backend", "", "auto, tensorrt, torch, onnxruntime or openvino; empty as above.", None),
    ("device", "", "auto, cpu, cuda or cuda:N; empty as above.", None),
    (
        "params_file",
        "",
        "ROS parameters of the node; empty takes config/completion.yaml, the defaults.",
        None,
    ),
    # Around it.
    (
        "namespace",
        PACKAGE,
        "Namespace of all nodes, topics included unless they are absolute.",
        None,
    ),
    (
        "use_sim_time",
        "auto",
        "Follow /clock; auto does so if a drive or bag is played here, which publishes it.",
        ("auto", "true", "false"),
    ),
    ("rviz", "false", "Show image, depth, confidence and cloud in RViz.", ("true", "false")),
    (
        "fixed_frame",
        "",
        "Fixed frame of RViz; empty takes the camera's of the drive, else RViz's configuration.",
        None,
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes follow from their values."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[Action]:
    given = {name: LaunchConfiguration(name).perform(context).strip() for name, *_ in ARGUMENTS}
    if given["drive"] and given["bag"]:
        msg = "drive, bag: found both, expected at most one of them"
        raise InputError(msg)
    try:
        float(given["rate"])
    except ValueError:
        msg = f"rate: found {given['rate']!r}, expected a number such as 0.5"
        raise InputError(msg) from None
    plays = bool(given["drive"] or given["bag"])
    sim_time = plays if given["use_sim_time"] == "auto" else given["use_sim_time"] == "true"
    actions: list[Action] = [*_transport_profile(context)]
    actions.append(_completion_node(given, sim_time))
    if plays:
        actions.append(_player(given, sim_time))
    if given["rviz"] == "true":
        actions.append(_rviz(given, sim_time))
    return actions


def _transport_profile(context: LaunchContext) -> list[Action]:
    """Use the shipped DDS settings unless the user has chosen some."""
    if any(context.environment.get(name) for name in PROFILE_VARIABLES):
        return []
    profile = str(find_share_file("config/fastdds_profile.xml"))
    actions: list[Action] = [SetEnvironmentVariable(name, profile) for name in PROFILE_VARIABLES]
    return [*actions, LogInfo(msg=f"DDS settings: {profile}")]


def _completion_node(given: dict[str, str], sim_time: bool) -> Node:
    params_file = given["params_file"] or str(find_share_file("config/completion.yaml"))
    if not Path(params_file).is_file():
        msg = f"params_file: {params_file}: no such file"
        raise InputError(msg)
    overrides = {
        name: ParameterValue(given[name], value_type=str)
        for name in ("network", "backend", "device")
        if given[name]
    }
    if given["image_transport"]:
        overrides["input.image_transport"] = ParameterValue(
            given["image_transport"], value_type=str
        )
    if given["projection_model"]:
        overrides["calibration.projection_model"] = ParameterValue(
            given["projection_model"], value_type=str
        )
    calibration = given["calibration"] or find_calibration(given["drive"])
    if calibration:
        overrides["calibration.file"] = ParameterValue(calibration, value_type=str)
    return Node(
        package=PACKAGE,
        executable="depth_completion_node",
        name="depth_completion_node",
        namespace=given["namespace"],
        output="screen",
        parameters=[params_file, {"use_sim_time": sim_time, **overrides}],
        remappings=list(topic_remappings(given).items()),
    )


def topic_remappings(given: dict[str, str]) -> dict[str, str]:
    """Give what image, camera_info and points are to be called."""
    topics: dict[str, str] = {}
    if given["topics"]:
        path = Path(given["topics"])
        if not path.suffix:
            path = find_share_file(f"config/topics/{given['topics']}.yaml")
        topics = yaml.safe_load(path.read_text(encoding="utf-8"))
    topics |= {role: given[role] for role in ("image", "camera_info", "points") if given[role]}
    return topics


def find_calibration(drive: str) -> str:
    """Find the folder of KITTI's calibration files at or around a drive; empty if none."""
    if not drive:
        return ""
    path = Path(drive).expanduser().resolve()
    for folder in (path, path.parent, *sorted(p for p in path.glob("*") if p.is_dir())):
        if (folder / "calib_cam_to_cam.txt").is_file():
            return str(folder)
    return ""


def _player(given: dict[str, str], sim_time: bool) -> Action:
    if given["bag"] and _has_ros2_bag():
        command = ["ros2", "bag", "play", given["bag"], "--clock", "200", "--rate", given["rate"]]
        return ExecuteProcess(
            cmd=[*command, *(["--loop"] if given["loop"] == "true" else [])], output="screen"
        )
    return Node(
        package=PACKAGE,
        executable="kitti_player",
        name="kitti_player",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            {
                "drive": ParameterValue(given["bag"] or given["drive"], value_type=str),
                "camera": ParameterValue(given["camera"], value_type=str),
                "rate": float(given["rate"]),
                "loop": given["loop"] == "true",
                "wait": 10.0,
                "publish_clock": sim_time,
            }
        ],
        # A drive is published under the names the node listens to; a bag keeps its own.
        remappings=[] if given["bag"] else list(topic_remappings(given).items()),
    )


def _has_ros2_bag() -> bool:
    try:
        get_package_prefix("ros2bag")
    except PackageNotFoundError:
        return False
    return shutil.which("ros2", path=os.environ.get("PATH")) is not None


def _rviz(given: dict[str, str], sim_time: bool) -> Node:
    frame = given["fixed_frame"] or (CAMERA_FRAMES[given["camera"]] if given["drive"] else "")
    config = find_share_file("config/depth_completion.rviz")
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=given["namespace"],
        arguments=["-d", str(config), *(["-f", frame] if frame else [])],
        parameters=[{"use_sim_time": sim_time}],
        remappings=list(display_remappings(given, config).items()),
    )


def display_remappings(given: dict[str, str], config: Path) -> dict[str, str]:
    """Let RViz's displays show what the node takes and gives, whatever it is called.

    Args:
        given: the launch arguments.
        config: RViz's configuration, whose topics stand in the default namespace.

    Returns:
        Names by the topics of the configuration; relative ones are meant in RViz's namespace,
        which is the node's.
    """
    chosen = topic_remappings(given)
    shown = re.findall(rf"^\s*Value: /{PACKAGE}/(\S+)$", config.read_text("utf-8"), re.MULTILINE)
    return {f"/{PACKAGE}/{name}": chosen.get(name, name) for name in shown}
