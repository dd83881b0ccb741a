"""The ROS 2 node that turns an image and a cloud topic into dense depth: its states and its log.

Not here: what is done while it is active (`session.py`). Start it with the console script
`depth_completion_node`; the topics and parameters are in the README.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ..errors import DepthCompletionError
from ..settings import Settings
from .diagnostics import (
    ERROR,
    OK,
    WARN,
    Status,
    diagnostic_array,
    drop_status,
    explain_silence,
    flow_status,
    latency_status,
)
from .parameters import NodeParameters
from .process import run_node
from .session import Session
from .statistics import Statistics

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_DIAGNOSTICS_SECONDS = 1.0
_POLL_SECONDS = 0.02
_REPEAT_SECONDS = 10.0
_AGE = re.compile(r"\d+(\.\d+)?")


class CompletionNode(LifecycleNode):
    """Walk through the states of a managed node, and tell at any time what is missing."""

    def __init__(self) -> None:
        """Declare the parameters and start to publish diagnostics."""
        super().__init__(
            "depth_completion_node", automatically_declare_parameters_from_overrides=True
        )
        self._session: Session | None = None
        self._is_active = False
        self._problem = ""
        self._said_state = ""
        self._said_drops: dict[str, float] = {}
        self._said_defects: set[str] = set()
        self._active_since = 0.0
        self._statistics = Statistics()
        self._tunables = NodeParameters(
            self, Settings(), is_fixed=lambda: _FIXED if self._session else None
        )
        for line in [*self._tunables.unknown, *self._tunables.problems.values()]:
            self.get_logger().warning(line)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._is_closing = threading.Event()
        self._monitor = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self._monitor.start()

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do that."""
        if not self._tunables.settings.autostart:
            self.get_logger().info("unconfigured: waiting for a lifecycle manager (autostart off)")
            return
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Stop everything before the node is destroyed."""
        self._is_closing.set()
        self._monitor.join(timeout=2 * _DIAGNOSTICS_SECONDS)
        self._end_session()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open what the parameters ask for, and warm it up."""
        self._problem = ""
        try:
            problems = list(self._tunables.problems.values())
            if problems:
                return self._refuse(problems[0])
            session = Session(self, lambda: self._tunables.settings, self._statistics, self._say)
        except DepthCompletionError as error:
            return self._refuse(str(error))
        except Exception as error:
            if not self.context.ok():
                # A signal came meanwhile: that is an end, not a fault.
                return FAILURE
            # rclpy would swallow it without a word.
            return self._refuse(f"{type(error).__name__}: {error}")
        self._session = session
        completer = session.completer
        self.get_logger().info(
            f"configured: network {completer.name} on {completer.backend} ({completer.device}), "
            f"extrinsics from {session.extrinsics.origin}"
        )
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe."""
        assert self._session is not None
        try:
            self._session.activate()
        except Exception as error:
            # rclpy swallows it and asks on_error, which has to know.
            self._problem = " ".join(f"cannot activate: {error}".split())
            raise
        self._said_state = ""
        self._active_since = time.monotonic()
        self._is_active = True
        topics = ", ".join(f"{role} {name}" for role, name in self._session.topics().items())
        self.get_logger().info(f"ready: listening to {topics}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish what is in work."""
        self._is_active = False
        if self._session is not None:
            self._session.deactivate()
        self.get_logger().info("inactive")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back network, memory and topics."""
        self._end_session()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back for good."""
        self._end_session()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured, from where a manager may try again."""
        self._problem = self._problem or "a transition failed"
        self.get_logger().error(f"back to unconfigured: {self._problem}")
        self._end_session()
        return SUCCESS

    def _refuse(self, reason: str) -> TransitionCallbackReturn:
        self._problem = " ".join(reason.split())
        self.get_logger().error(f"cannot configure: {self._problem}")
        return FAILURE

    def _end_session(self) -> None:
        self._is_active = False
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _say(self, level: str, line: str) -> None:
        logger = self.get_logger()
        if level == "drop":
            # One line per kind of refusal and ten seconds; the counts are in the diagnostics.
            now = time.monotonic()
            if now - self._said_drops.get(line[:40], -_REPEAT_SECONDS) >= _REPEAT_SECONDS:
                self._said_drops[line[:40]] = now
                logger.error(f"dropped, {line}")
        elif level == "warning":
            logger.warning(line)
        else:
            logger.info(line)

    def _watch(self) -> None:
        """Poll and report on a steady clock, whatever /clock and the executor do."""
        due = time.monotonic()
        while not self._is_closing.wait(_POLL_SECONDS):
            session = self._session
            if not self.context.ok():
                return
            if session is not None and self._is_active:
                self._survive(session.poll)
            if time.monotonic() >= due:
                due += _DIAGNOSTICS_SECONDS
                self._survive(partial(self._report, session))

    def _survive(self, step: Callable[[], None]) -> None:
        """Take a step of the monitor; what goes wrong is said once and silences nothing else."""
        try:
            step()
        except Exception as error:
            line = " ".join(f"monitor: {type(error).__name__}: {error}".split())
            if self.context.ok() and line not in self._said_defects:
                self._said_defects.add(line)
                self.get_logger().error(line)

    def _report(self, session: Session | None) -> None:
        state = self._state(session)
        if self._is_active:
            self._say_state(state)
        drops = self._statistics.drops() if session is None else session.drops()
        last = {} if session is None else session.last_drops
        statuses = [
            state,
            flow_status(self._statistics, None if session is None else session.sync_counts()),
            drop_status(drops, dict(last)),
            latency_status(self._statistics),
        ]
        now = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostic_array(now, self.get_name(), statuses))

    def _say_state(self, state: Status) -> None:
        """Log what the node waits for, once per change; ages in it are no change.

        Right after the start everything is waited for, which is no news until the watchdog's time
        is over; nor is a first frame that is still in work.
        """
        key = _AGE.sub("", state.message)
        is_ok = state.level == OK
        if key == self._said_state or (self._is_starting and not is_ok):
            return
        if not is_ok:
            self.get_logger().warning(state.message)
        elif self._statistics.rate("published") > 0:
            self.get_logger().info("depth is published")
        else:
            return
        self._said_state = key

    @property
    def _is_starting(self) -> bool:
        return time.monotonic() - self._active_since < self._tunables.settings.sync.watchdog

    def _state(self, session: Session | None) -> Status:
        if session is None:
            level = ERROR if self._problem else WARN
            return Status("state", level, f"unconfigured; {self._problem or 'not started'}")
        completer = session.completer
        values = {
            "network": completer.name,
            "backend": completer.backend,
            "device": completer.device,
            "extrinsics": session.extrinsics.origin,
            "use_sim_time": session.uses_sim_time,
        }
        if not self._is_active or session.inputs is None:
            return Status("state", WARN, "inactive", values)
        waiting = self._waiting_for(session)
        if waiting is None:
            return Status("state", OK, "active", values)
        return Status("state", WARN, f"active; {waiting}", values)

    def _waiting_for(self, session: Session) -> str | None:
        """Say what is missing, from whom; None if depth comes out."""
        inputs = session.inputs
        if inputs is None or self._statistics.rate("published") > 0:
            return None
        watchdog = self._tunables.settings.sync.watchdog
        silent = explain_silence(session.view_topics(), watchdog)
        if silent is not None:
            return silent
        unmatched = inputs.synchroniser.explain()
        if unmatched is not None:
            return unmatched
        drops = list(session.last_drops.items())
        if self._is_starting:
            # The first frame may take long, and others come meanwhile.
            drops = [drop for drop in drops if drop[0] != "superseded"]
        if drops:
            reason, line = drops[-1]
            return f"every pair is dropped, {reason}: {line}"
        return None


_FIXED = "fixed while the node is configured; deactivate and clean up first, then set it"


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Returns:
        0, or 2 if ROS itself cannot start with the arguments given.
    """
    return run_node(CompletionNode, argv)


if __name__ == "__main__":
    sys.exit(main())
