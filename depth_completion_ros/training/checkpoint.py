"""Where a run stands, in files that are whole and verified, so that it can go on.

Not here: model files for users (`networks/checkpoint.py`). Two generations are kept: if the
newest is damaged, the one before is taken and that is said.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from ..datasets.whole_file import read_bytes, unwritable, write_whole
from ..errors import InputError

_log = logging.getLogger(__name__)

_MAGIC = b"depth_completion checkpoint 1\n"
_NEWEST, _BEFORE = "checkpoint.pt", "checkpoint.before.pt"


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the newest checkpoint; what was the newest becomes the one before.

    Args:
        folder: of the run.
        state: tensors and plain values, nested.

    Raises:
        InputError: it cannot be written; the checkpoints that were there stay.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    newest, before, next_ = folder / _NEWEST, folder / _BEFORE, folder / f"{_NEWEST}.next"
    write_whole(next_, _MAGIC + hashlib.sha256(content).digest() + content)
    try:
        with contextlib.suppress(FileNotFoundError):
            newest.replace(before)
        next_.replace(newest)
    except OSError as error:
        raise unwritable(newest, error) from error


def read_state(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole.

    Returns:
        The state with all tensors on the CPU; None if the folder holds no checkpoint at all.

    Raises:
        InputError: there are checkpoints, and all are damaged.
    """
    # A run may have been killed between writing the next one and naming it.
    found = [p for name in (_NEWEST, f"{_NEWEST}.next", _BEFORE) if (p := folder / name).is_file()]
    problems = []
    for path in found:
        try:
            state = _read(path)
        except InputError as error:
            problems.append(str(error))
            _log.warning("%s; taking the checkpoint before it", error)
        else:
            return state
    if problems:
        msg = f"{folder}: no checkpoint is whole ({'; '.join(problems)}); start without --resume"
        raise InputError(msg)
    return None


def has_state(folder: Path) -> bool:
    """Tell whether a folder holds a checkpoint, whole or not."""
    return (folder / _NEWEST).exists() or (folder / _BEFORE).exists()


def _read(path: Path) -> dict[str, Any]:
    data = read_bytes(path)
    start = len(_MAGIC) + hashlib.sha256().digest_size
    digest, content = data[len(_MAGIC) : start], data[start:]
    if not data.startswith(_MAGIC) or hashlib.sha256(content).digest() != digest:
        msg = f"{path}: damaged (its content does not have the hash it was written with)"
        raise InputError(msg)
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except (pickle.UnpicklingError, RuntimeError) as error:
        msg = f"{path}: cannot be read by this version of torch"
        raise InputError(msg) from error
    return state
