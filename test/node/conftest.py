"""Real nodes in processes of their own, a listener over DDS, and a tiny street to play."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds_profile.xml"
WIDTH, HEIGHT, FRAMES = 96, 64, 12
K = [[80.0, 0.0, 47.5], [0.0, 80.0, 31.5], [0.0, 0.0, 1.0]]
T_CAMERA_LIDAR = [[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]]
# Nothing here takes longer unless it hangs; the machine may be busy with other tests.
PATIENCE = 30.0
_NUMBERS = itertools.count()


def wall_points(distance: float = 10.0) -> np.ndarray:
    """A wall across the view, (N, 4) float32 in the LiDAR frame, 0.3 m more from the LiDAR."""
    y, z = np.meshgrid(np.linspace(-4, 4, 40), np.linspace(-2, 2, 20))
    ones = np.ones(y.size)
    columns = (ones * (distance + 0.3), y.ravel(), z.ravel(), 0.5 * ones)
    return np.column_stack(columns).astype(np.float32)


@pytest.fixture(scope="session")
def street(tmp_path_factory) -> Path:
    """A folder of frames, each a wall at another distance."""
    import cv2

    folder = tmp_path_factory.mktemp("street")
    for index in range(FRAMES):
        name = f"{index:03d}"
        image = np.full((HEIGHT, WIDTH, 3), (10 * index, 100, 200), np.uint8)
        cv2.imwrite(str(folder / f"{name}_image.png"), image)
        np.save(folder / f"{name}_points.npy", wall_points(10.0 + index))
    (folder / "calib.json").write_text(json.dumps(calibration()))
    return folder


def calibration() -> dict:
    return {
        "image_size": [WIDTH, HEIGHT],
        "K": K,
        "D": [0, 0, 0, 0, 0],
        "T_camera_lidar": T_CAMERA_LIDAR,
    }


@pytest.fixture
def calibration_file(tmp_path) -> Path:
    """Extrinsics only, so that the camera has to come from camera_info."""
    path = tmp_path / "extrinsics.json"
    path.write_text(json.dumps({"T_camera_lidar": T_CAMERA_LIDAR}))
    return path


@pytest.fixture
def domain(monkeypatch) -> int:
    """A DDS domain that no other test uses at this time."""
    pytest.importorskip("rclpy", reason="rclpy is not installed; see the extras jazzy and kilted")
    with warnings.catch_warnings():
        # The parser that ROS 2 brings along imports what Python has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("rosidl_generator_py")
    number = 1 + (os.getpid() * 13 + next(_NUMBERS)) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, str(PROFILE))
    return number


class RunningNode:
    """A node of this package as a process of its own."""

    def __init__(
        self, module: str, arguments: list[str], log: Path, script: str = "", **popen
    ) -> None:
        self.log = log
        run = ["-c", script] if script else ["-m", f"depth_completion_ros.node.{module}"]
        command = [sys.executable, *run, "--ros-args"]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                **popen,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_line(self, part: str) -> str:
        """Wait until a line of the log contains a text; give the line."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.text.splitlines():
                if part in line:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"no {part!r} in the log of {self.log.stem}:\n{self.text}")

    def wait(self) -> int:
        """Wait for the end; give the exit status."""
        return self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as a person or a supervisor would; a traceback is a failure of its own."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.wait()
        assert "Traceback" not in self.text, self.text
        assert "XMLPARSER" not in self.text, self.text
        return status


@pytest.fixture
def start(domain, tmp_path):
    """Start nodes: `start("completion_node", "-p", "network:=fill")`."""
    running: list[RunningNode] = []

    def start_node(module: str, *arguments: str, **popen) -> RunningNode:
        log = tmp_path / f"{module}_{len(running)}.log"
        running.append(RunningNode(module, list(arguments), log, **popen))
        return running[-1]

    yield start_node
    for node in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait(PATIENCE)


class Listener:
    """A node of the test itself: keeps what it hears, publishes, calls services."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test_listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._is_closing = False
        self._thread.start()

    def _spin(self) -> None:
        while not self._is_closing and self.context.ok():
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._is_closing = True
        self._thread.join(5)
        self.executor.shutdown(timeout_sec=2)
        self.node.destroy_node()
        self.context.try_shutdown()

    def listen(self, topic: str, kind, *, qos=50, raw: bool = False) -> list:
        """Subscribe; the list grows while messages come."""
        messages = self.heard[topic] = []
        self.node.create_subscription(kind, topic, messages.append, qos, raw=raw)
        self._wake()
        return messages

    def publisher(self, topic: str, kind, qos=10):
        publisher = self.node.create_publisher(kind, topic, qos)
        self._wake()
        return publisher

    def call(self, service: str, kind, request):
        """Call a service; give its response."""
        client = self.node.create_client(kind, service)
        self._wake()
        assert client.wait_for_service(timeout_sec=PATIENCE), f"no service {service}"
        future = client.call_async(request)
        wait_until(future.done, f"an answer of {service}")
        response = future.result()
        self.node.destroy_client(client)
        return response

    def set_parameter(self, node: str, name: str, value):
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self.call(f"{node}/set_parameters", SetParameters, request).results[0]

    def change_state(self, node: str, transition: str) -> bool:
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(f"{node}/change_state", ChangeState, request).success

    def state(self, node: str) -> str:
        from lifecycle_msgs.srv import GetState

        return self.call(f"{node}/get_state", GetState, GetState.Request()).current_state.label

    def diagnostics(self) -> DiagnosticsView:
        from diagnostic_msgs.msg import DiagnosticArray

        return DiagnosticsView(self.listen("/diagnostics", DiagnosticArray))

    def _wake(self) -> None:
        self.executor.wake()


class DiagnosticsView:
    """The last diagnostics as plain values."""

    def __init__(self, messages: list) -> None:
        self.messages = messages

    @property
    def values(self) -> dict[str, str]:
        statuses = self.messages[-1].status if self.messages else []
        return {pair.key: pair.value for status in statuses for pair in status.values}

    @property
    def state(self) -> str:
        statuses = self.messages[-1].status if self.messages else []
        return next((s.message for s in statuses if s.name.endswith(": state")), "")

    def count(self, key: str) -> int:
        return int(self.values.get(key, 0))


@pytest.fixture
def listener(domain):
    listener = Listener(domain)
    yield listener
    listener.close()


def wait_until(condition, what: str, patience: float = PATIENCE) -> None:
    """Wait for something that happens in another thread or process."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"no {what} within {patience:g} s")
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture():
    return wait_until


@pytest.fixture
def frames() -> int:
    return FRAMES


@pytest.fixture
def wall():
    return wall_points
