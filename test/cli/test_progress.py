from __future__ import annotations

import os
import pty
import subprocess
import sys

from depth_completion_ros.cli import progress
from depth_completion_ros.cli.progress import show_progress

COMMAND = (sys.executable, "-m", "depth_completion_ros.cli.main")


def test_short_runs_stay_silent_without_a_terminal(capsys):
    assert list(show_progress(iter("abc"), 3, "complete")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_long_runs_say_a_line_now_and_then(capsys, monkeypatch):
    now = iter(range(0, 100, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    assert len(list(show_progress(range(10), 10, "complete"))) == 10
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "complete: 3/10 frames, 6 s"
    assert len(err.splitlines()) == 3


def test_a_terminal_shows_a_bar_that_goes_away(source, tmp_path):
    master, slave = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "complete", source, tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
        check=True,
    )
    os.close(slave)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert "complete:" in shown
    assert "0/3" in shown
    assert done.stdout.count("\n") == 1
