"""A node as a process: start, signals, exit status.

Not here: what the nodes do. A second signal while the first is obeyed must not leave a traceback;
launch sends SIGINT twice when a person presses Ctrl-C.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from ..errors import DepthCompletionError
from . import entry

try:
    from rclpy._rclpy_pybind11 import RCLError
except ImportError:  # a later rclpy may move it
    RCLError = RuntimeError


class Runnable(Protocol):
    """A node with a start and an end."""

    def start(self) -> None:
        """Begin to work; the executor spins afterwards."""

    def close(self) -> None:
        """Stop all threads."""


def run_node(
    make_node: Callable[[], Any],
    argv: list[str] | None = None,
    *,
    is_done: Callable[[Any], bool] = lambda node: False,
) -> int:
    """Run a node until a signal or its own end.

    Args:
        make_node: makes a `Runnable` node.
        argv: arguments with the program's name first; None takes the process's.
        is_done: tells that the node has nothing left to do.

    Returns:
        0 when done or interrupted, 2 if the node could not start.
    """
    try:
        return _run(make_node, argv, is_done)
    except KeyboardInterrupt:
        return 0  # It came while an error was being handled, which a signal may cause too.


def _run(
    make_node: Callable[[], Any], argv: list[str] | None, is_done: Callable[[Any], bool]
) -> int:
    node = None
    executor = None
    has_context = False
    try:
        rclpy.init(args=argv)
        entry.hand_over()
        has_context = True
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.start()
        _spin(node, executor, is_done)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except DepthCompletionError as error:
        print(error, file=sys.stderr)
        return 2
    except (RCLError, RuntimeError, ValueError, TypeError) as error:
        if has_context and not rclpy.ok():
            return 0  # A signal came while the node was being made.
        line = " ".join(str(error).split())
        if "PARAMETER_NOT_SET" in line:
            line = "a parameter was given an empty list, whose type ROS cannot tell; leave it out"
        print(f"cannot start: {line}; are the ROS arguments right?", file=sys.stderr)
        return 2
    finally:
        # ROS still has its own handler in front, which calls one of Python alone.
        entry.ignore_signals(lambda number, frame: None)
        if node is not None:
            node.close()
        if executor is not None:
            executor.shutdown(timeout_sec=1.0)
        if node is not None:
            with contextlib.suppress(RCLError):
                node.destroy_node()
        rclpy.try_shutdown()
        # ROS has put back what was there before it.
        entry.ignore_signals()
    return 0


def _spin(node: Node, executor: SingleThreadedExecutor, is_done: Callable[[Any], bool]) -> None:
    while rclpy.ok() and not is_done(node):
        try:
            executor.spin_once(timeout_sec=0.1)
        except RCLError as error:
            # A lifecycle transition that the state does not allow comes out here; one wrong
            # request must not end the node.
            if not rclpy.ok():
                return
            node.get_logger().error("request refused: " + " ".join(str(error).split()))
