"""The README tells the truth: tables, commands, links and the three lines of Python."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from pathlib import Path

import pytest

from depth_completion_ros.cli import main as cli
from depth_completion_ros.datasets.calibration import read_calibration
from depth_completion_ros.settings import PlayerSettings, Settings
from depth_completion_ros.settings_text import settings_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def _code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("settings", [Settings(), PlayerSettings()], ids=["node", "player"])
def test_parameter_tables_are_what_the_settings_say(settings):
    assert settings_table(settings) in README, (
        "renew it: python -m depth_completion_ros.settings_text --table node|player"
    )


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z]+)", README))
    assert named <= targets, named - targets


def test_every_command_is_understood():
    parser, _ = cli._parser(cli._COMMANDS)
    lines = [line for block in _code_blocks("bash") for line in block.splitlines()]
    commands = [line.split("#")[0] for line in lines if line.startswith("depth_completion ")]
    assert len(commands) >= len(cli._COMMANDS) - 3
    for command in commands:
        words = [word.strip("[]") for word in shlex.split(command)][1:]
        assert isinstance(parser.parse_args(words), argparse.Namespace)


def test_every_topic_the_node_publishes_is_in_the_table():
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from depth_completion_ros.node.publishers import ALWAYS, WHEN_HEARD

    for topic in (*ALWAYS, *WHEN_HEARD):
        assert f"| `{topic}` |" in README


def test_the_calibration_example_reads_back_as_what_it_says(tmp_path):
    (example,) = _code_blocks("yaml")
    (tmp_path / "my_calibration.yaml").write_text(example)
    T = read_calibration(tmp_path / "my_calibration.yaml").T_camera_lidar
    ahead_of_the_lidar = T @ [10, 0, 0, 1]
    assert ahead_of_the_lidar == pytest.approx([0.05, -0.12, 9.92, 1])
    above_the_lidar = T @ [10, 0, 1, 1]
    assert above_the_lidar == pytest.approx([0.05, -1.12, 9.92, 1])


def test_every_launch_argument_exists():
    tree = ast.parse((ROOT / "launch" / "bringup.launch.py").read_text(encoding="utf-8"))
    (arguments,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS"
    )
    declared = {entry.elts[0].value for entry in arguments.elts}
    blocks = [block for block in _code_blocks("bash") if "ros2 launch" in block]
    named = set(re.findall(r"\b([a-z_]+):=", " ".join(blocks)))
    assert len(named) >= 4
    assert named <= declared, named - declared


def test_every_drop_reason_has_a_row():
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from depth_completion_ros.node.statistics import DROP_REASONS

    for reason in DROP_REASONS:
        assert f"| `{reason}` |" in README


def test_the_three_lines_of_python_work(tmp_path, monkeypatch, rendered_drive):
    (code,) = _code_blocks("python")
    source = "2011_09_26/2011_09_26_drive_0009_sync"
    assert source in code
    seen: dict = {}
    exec(code.replace(source, str(rendered_drive)), seen)
    assert seen["dense"].depth.shape == (128, 416)
    assert seen["dense"].confidence.max() > 0.5
