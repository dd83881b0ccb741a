"""The processes of the demo: started as a user would start them, watched, and stopped.

Not here: what they are told to do (`demo.py`).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..share import find_share_file

NAMESPACE = "/depth_completion"
RECORDED = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "depth/image": "sensor_msgs/msg/Image",
    "confidence/image": "sensor_msgs/msg/Image",
    "sparse_depth/image": "sensor_msgs/msg/Image",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
_STOP_SECONDS = 15.0
# What the node says instead of starting; it stays up, so that a manager may try again.
_REFUSAL = "cannot configure: "


def ros_environment() -> dict[str, str]:
    """Give the environment that keeps a demo apart from other ROS systems and loses no message.

    The shipped DDS profile is set under the variable names of both distributions unless the user
    chose one; the domain is random so that two runs do not meet.
    """
    profile = str(find_share_file("config/fastdds_profile.xml"))
    environment = dict(os.environ)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        environment.setdefault(name, profile)
    environment.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return environment


def console_script(name: str, module: str) -> list[str]:
    """Find an executable of this package: the one pip made, else the module itself."""
    script = Path(sysconfig.get_path("scripts")) / name
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-m", f"depth_completion_ros.node.{module}"]


@contextlib.contextmanager
def started(
    name: str, command: Sequence[str], environment: dict[str, str], out: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a group of its own and leave nothing of it behind."""
    with (out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group, politely at first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)


def wait_for(
    running: dict[str, subprocess.Popen[bytes]], name: str, seconds: float, out: Path
) -> None:
    """Wait until one process ends by itself.

    Raises:
        InputError: it failed or took longer, another ended first, or the node refused to start.
    """
    deadline = time.monotonic() + seconds
    while running[name].poll() is None:
        for other, process in running.items():
            if other != name and process.poll() is not None:
                raise InputError(describe_failure(other, process.returncode, out))
        refusal = _find_refusal(out / "node.log")
        if refusal:
            raise InputError(refusal)
        if time.monotonic() > deadline:
            msg = f"{name}: still running after {seconds:.0f} s; see {out / f'{name}.log'}"
            raise InputError(msg)
        time.sleep(0.05)
    if running[name].returncode != 0:
        raise InputError(describe_failure(name, running[name].returncode, out))


def _find_refusal(log: Path) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if _REFUSAL in line:
            return line.split(_REFUSAL, 1)[1]
    return ""


def describe_failure(name: str, status: int, out: Path) -> str:
    """Say in one line how a process ended, with the last thing it said."""
    log = out / f"{name}.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return f"{name}: ended with status {status} ({last}); see {log}"
