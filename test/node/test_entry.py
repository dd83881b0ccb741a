"""Signals while a node starts, in processes as the console scripts start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

pytestmark = [pytest.mark.ros, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def start_script(function: str, *arguments: str) -> subprocess.Popen:
    """Start a node as its console script does; returns once its first line has run."""
    script = (
        f"import sys; from depth_completion_ros.node.entry import {function} as main; "
        "from depth_completion_ros.node import entry; obey = entry._obey_signals\n"
        "def told(): obey(); print('obeys', flush=True)\n"
        "entry._obey_signals = told; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--ros-args", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "obeys\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3, 0.5])
def test_a_signal_while_a_node_starts_is_no_error(domain, street, number, delay):
    process = start_script(
        "run_completion_node", "-p", f"calibration.file:={street / 'calib.json'}"
    )
    time.sleep(delay)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    # A fast machine has logged that it is ready by then, and rclpy may warn of its own clean-up.
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "[ERROR]" not in errors


def test_the_player_is_ended_the_same_way(domain, street):
    process = start_script("run_kitti_player", "-p", f"drive:={street}", "-p", "wait:=0")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_runs_is_ended_as_before(domain, street, number):
    process = start_script(
        "run_completion_node", "-p", f"calibration.file:={street / 'calib.json'}"
    )
    lines: list[str] = []
    assert process.stderr is not None
    while not any("ready: listening to" in line for line in lines):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    process.send_signal(number)
    # Launch sends SIGINT a second time.
    if process.poll() is None:
        os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.8, 1.0, 1.2])
def test_two_signals_while_a_node_is_made_leave_no_traceback(domain, street, number, delay):
    process = start_script(
        "run_completion_node", "-p", f"calibration.file:={street / 'calib.json'}"
    )
    time.sleep(delay)
    process.send_signal(number)
    time.sleep(0.03)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_the_console_scripts_are_the_light_ones():
    for function in ("run_completion_node", "run_kitti_player"):
        assert f"depth_completion_ros.node.entry:{function}" in SETUP
    script = "import depth_completion_ros.node.entry, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"rclpy", "numpy", "cv2", "torch"} & set(loaded)
