"""The console scripts of the nodes: signals are obeyed from the first moment.

Not here: the nodes. Importing them and ROS takes seconds on a small board, in which Ctrl-C would
end in a traceback; so nothing is imported here before the signals are taken. Look next at
`process.py`, which takes over once ROS runs.
"""

from __future__ import annotations

import os
import signal
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_has_started = False
_was_interrupted = False


def run_completion_node() -> int:
    """Run `depth_completion_node`; see `completion_node.main`."""
    _obey_signals()
    from .completion_node import main

    return main()


def run_kitti_player() -> int:
    """Run `kitti_player`; see `kitti_player.main`."""
    _obey_signals()
    from .kitti_player import main

    return main()


def hand_over() -> None:
    """Leave the signals to ROS, which calls the handlers here after its own."""
    global _has_started
    _has_started = True


def ignore_signals(handler: Any = signal.SIG_IGN) -> None:
    """Let nothing interrupt the end, which takes a second at most."""
    for number in _SIGNALS:
        signal.signal(number, handler)


def _obey_signals() -> None:
    for number in _SIGNALS:
        # A shell starts what ends in `&` with SIGINT ignored, and it stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: Any) -> None:
    global _was_interrupted
    if not _has_started:
        # An exception might be caught by whatever is being imported. Nothing is open yet.
        os._exit(0)
    # Once is enough: a second one would come out of the clean-up after the first.
    if number == signal.SIGINT and not _was_interrupted:
        _was_interrupted = True
        raise KeyboardInterrupt
