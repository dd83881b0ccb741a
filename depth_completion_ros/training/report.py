"""What a run writes about itself: one line of JSON now and then, and TensorBoard's files.

Not here: what is shown on the terminal (`cli/train.py`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.whole_file import unwritable

if TYPE_CHECKING:
    from torch import Tensor

    from .loop import Progress

LOG_NAME = "log.jsonl"


class RunLog:
    """The log of one run: `log.jsonl`, and TensorBoard's events where it is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log.

        Args:
            folder: of the run.
            step: the run goes on after it; lines beyond are of steps that were lost.

        Raises:
            InputError: the folder cannot be written.
        """
        path = folder / LOG_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = _lines_up_to(path, step) if step else []
            path.write_text("".join(kept))
            self._file = path.open("a")
        except OSError as error:
            raise unwritable(path, error) from error
        self._board = _open_board(folder / "tensorboard", step)
        self._losses: list[float] = []
        self._parts: dict[str, list[float]] = {}
        self._start = time.monotonic()

    def add(self, progress: Progress, parts: dict[str, Tensor], every: int) -> None:
        """Take a step in; every few steps, and with every score, a line is written."""
        self._losses.append(progress.loss)
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value))
        is_end = progress.step == progress.total
        if progress.step % every and progress.score is None and not is_end:
            return
        row: dict[str, Any] = {
            "step": progress.step,
            "stage": progress.stage,
            "epoch": round(progress.epoch, 4),
            "loss": _mean(self._losses),
            **{name: _mean(values) for name, values in self._parts.items()},
            "rate": progress.rate,
            "seconds": round(time.monotonic() - self._start, 2),
        }
        self._losses.clear()
        self._parts.clear()
        if progress.score is not None:
            row["score"] = progress.score.value
            row["is_best"] = progress.is_best
            row["sources"] = {n: s._asdict() for n, s in progress.score.sources.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name in ("loss", "rate", "score"):
                if name in row:
                    self._board.add_scalar(name, row[name], progress.step)
            for source, score in row.get("sources", {}).items():
                for name in ("rmse_mm", "mae_mm"):
                    self._board.add_scalar(f"{name}/{source}", score[name], progress.step)

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _lines_up_to(path: Path, step: int) -> list[str]:
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            break  # the line that was being written when the run was killed
    return kept


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
