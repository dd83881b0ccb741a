"""Files that are whole or not there: written beside their place and then moved into it.

Not here: what is in them (`depth_png.py`, `results.py`, `bag_writer.py`).
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from ..errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    The bytes go to a temporary file in the same folder, which then takes the name: an interrupt or
    a full disk leaves what was there before. Missing folders are made.

    Args:
        path: where the file goes.
        data: what goes into it.

    Raises:
        InputError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    # mkstemp would do, but it gives the file to its owner alone, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: Exception) -> InputError:
    """Say in one line that an output could not be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path}: cannot be written ({reason}); expected a folder with room in it")


def unreadable(path: Path, error: OSError) -> InputError:
    """Say in one line that an input could not be read."""
    reason = error.strerror or str(error)
    return InputError(f"{path}: cannot be read ({reason})")


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_text(path: Path) -> str:
    """Read a whole UTF-8 file.

    Raises:
        InputError: the file is missing, cannot be read or is no text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path}: found bytes that are no text, expected a text file"
        raise InputError(msg) from error
