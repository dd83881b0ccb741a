"""`depth_completion`: one command line for everything that needs no running robot.

Not here: what the commands do, one file each. A command module has `add_parser(commands)`, which
declares it, and `run(args) -> int`, which gives the exit status; both import heavy packages only
when they need them.

Exit status: 0 done, 1 done with frames that failed, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

# Nothing more is imported before `main` can answer an interrupt.
from ..errors import DepthCompletionError

if TYPE_CHECKING:
    from .arguments import Parser

# In the order of the help text.
_COMMANDS = (
    "complete",
    "evaluate",
    "overlay",
    "convert",
    "groundtruth",
    "benchmark",
    "demo",
    "train",
    "export",
)

_DESCRIPTION = "Dense depth with calibrated confidence from a camera and a LiDAR."
_EXAMPLES = """\
SOURCE is detected by what it is: a KITTI raw drive, a KITTI depth benchmark folder, a folder of
NAME_image, NAME_sparse or NAME_points, NAME_calib and NAME_gt files, a ROS 2 bag (mcap, sqlite3),
NYUv2 HDF5 files, or a recipe of a synthetic drive.

examples:
  depth_completion overlay my_bag overlay.png        does my calibration fit?
  depth_completion complete my_bag out               depth, confidence and run.json in out/
  depth_completion evaluate my_bag --hold-out stripes   how good is it without ground truth?
  depth_completion benchmark --network fill          how fast is it here?
  depth_completion complete --help                   more of each command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script's entry.

    Args:
        argv: arguments without the program's name; None takes the process's own.

    Returns:
        The exit status. Nothing but `SystemExit` of `--help` and `--version` gets out of here.
    """
    argv = sys.argv[1:] if argv is None else argv
    wants_traceback = "--traceback" in argv
    # Once the work is done, an interrupt has nothing left to stop.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    release = _catch_termination()
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader of our output has left (`| head`); there is nobody to tell.
        _close_stdout()
        return 128 + signal.SIGPIPE
    except DepthCompletionError as error:
        return _report(str(error), wants_traceback)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _report(f"{place}{error.strerror or error}", wants_traceback)
    except (_Terminated, KeyboardInterrupt) as stop:
        return _stop(stop)
    except Exception as error:
        hint = "" if wants_traceback else "; run again with --traceback to see where"
        name = type(error).__name__
        return _report(f"unexpected {name}: {error}{hint}", wants_traceback)
    finally:
        release()


def _run(argv: Sequence[str]) -> int:
    # One command is imported for itself; the overview needs them all.
    names = argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS
    parser, modules = _parser(names)
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        # --help and --version have printed; what they printed may have nowhere to go.
        sys.stdout.flush()
        raise
    status: int = modules[args.command].run(args)
    return status


def _parser(names: Sequence[str]) -> tuple[Parser, dict[str, Any]]:
    from ..share import __version__
    from .arguments import Parser

    parser = Parser(
        prog="depth_completion",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules: dict[str, Any] = {}
    for name in names:
        modules[name] = importlib.import_module(f".{name}", __package__)
        modules[name].add_parser(commands)
    return parser, modules


class _Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes every `except Exception`."""


def _catch_termination() -> Callable[[], object]:
    """Let SIGTERM end a command as tidily as SIGINT does; give what undoes it."""

    def raise_terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        previous = signal.signal(signal.SIGTERM, raise_terminated)
    except ValueError:
        # Signals belong to the main thread; called from another one, all stays as it is.
        return lambda: None
    return lambda: signal.signal(signal.SIGTERM, previous)


def _stop(stop: BaseException) -> int:
    is_termination = isinstance(stop, _Terminated)
    what = "terminated" if is_termination else "interrupted"
    print(f"depth_completion: {what}", file=sys.stderr)
    return 128 + (signal.SIGTERM if is_termination else signal.SIGINT)


def _report(message: str, wants_traceback: bool) -> int:
    if wants_traceback:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:
        _close_stdout()
    print(f"depth_completion: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def _close_stdout() -> None:
    """Send what is still buffered nowhere, so that Python's own exit does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  lives until the process ends
    finally:
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
