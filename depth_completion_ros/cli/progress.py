"""Say how far a command is: a bar on a terminal, a line now and then elsewhere.

All of it goes to stderr; stdout belongs to results.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

# Seconds between two lines where there is no terminal; short runs stay silent.
_LINE_PERIOD = 5.0

_WIDEST_BAR = 100


def show_progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items through and show how many have come.

    Args:
        items: anything that is iterated once.
        total: how many there will be.
        what: is done with them, in front of the numbers.
    """
    if sys.stderr.isatty():
        return _with_bar(items, total, what)
    return _with_lines(items, total, what)


def _with_bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    from tqdm import tqdm

    # A terminal without a size (in containers, under recorders) counts as one of 80x24: tqdm
    # would show nothing.
    size = shutil.get_terminal_size()
    yield from tqdm(
        items,
        total=total,
        desc=what,
        unit="frame",
        file=sys.stderr,
        ncols=min(size.columns, _WIDEST_BAR),
        nrows=size.lines,
        leave=False,
    )


def _with_lines(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= _LINE_PERIOD:
            print(f"{what}: {done}/{total} frames, {now - start:.0f} s", file=sys.stderr)
            last = now


class ProgressCounter:
    """Turn reports of progress into the bar or lines that all commands show.

    Attributes:
        done: frames reported so far.
    """

    def __init__(self, what: str) -> None:
        """Show nothing yet.

        Args:
            what: is done with the frames, in front of the numbers.
        """
        self._what = what
        self.done = 0
        self._shown: Iterator[int] = iter(())

    def show(self, done: int, total: int) -> None:
        """Take a report: frames done, and frames in all."""
        if self.done == 0:
            self._shown = show_progress(range(1, total + 1), total, self._what)
        while self.done < done and next(self._shown, None) is not None:
            self.done += 1

    def __enter__(self) -> ProgressCounter:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the bar."""
        next(self._shown, None)
