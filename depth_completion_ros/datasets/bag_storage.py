"""Bags as files: recognising, opening and closing them, and a clear word about damaged ones.

Not here: what is in them (`rosbag2.py`).
"""

from __future__ import annotations

import importlib.util
import sqlite3
import struct
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import DepthCompletionError, InputError

SUFFIXES = (".mcap", ".db3", ".bag")


def open_reader(path: Path) -> Any:
    """Open a bag for reading messages as they are stored; use it within `readable`.

    Args:
        path: folder of a rosbag2, its only storage file, or a `.bag` file.

    Returns:
        An open `rosbags.highlevel.AnyReader`; use and close it in one thread.

    Raises:
        InputError: the recording did not end properly.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    if path.is_file() and path.suffix != ".bag":
        path = path.parent
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        msg = (
            f"{path}: found no metadata.yaml; the recording did not end properly, run ros2 bag "
            "reindex on it"
        )
        raise InputError(msg)
    reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
    try:
        reader.open()
    except BaseException:
        _close_reader(reader)
        raise
    return reader


def close_readers(readers: dict[tuple[int, int], Any]) -> None:
    """Close and forget all readers of a dict, whatever thread opened them."""
    while readers:
        _, reader = readers.popitem()
        # SQLite refuses to close what another thread opened; that thread's end closes it.
        with suppress(sqlite3.ProgrammingError):
            _close_reader(reader)


def _close_reader(reader: Any) -> None:
    """Close a bag, also one that rosbags gave up opening and left half open."""
    for part in reader.readers:
        storage = getattr(part, "storage", None)
        for file in (*getattr(storage, "readers", ()), *getattr(storage, "dbconns", ())):
            handle = getattr(file, "bio", file)
            if handle is not None:
                handle.close()
        bio = getattr(part, "bio", None)
        if bio is not None:
            bio.close()
    reader.isopen = False


def require_rosbags() -> None:
    """Make sure that bags can be read and written at all.

    Raises:
        InputError: rosbags is missing, as it is where only apt has installed dependencies.
    """
    if importlib.util.find_spec("rosbags") is None:
        msg = "bags: rosbags is not installed; run pip install 'rosbags<0.11'"
        raise InputError(msg)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the storage libraries raise about a damaged bag into one line."""
    require_rosbags()
    from rosbags.highlevel import AnyReaderError
    from rosbags.rosbag1 import ReaderError as Reader1Error
    from rosbags.rosbag2 import ReaderError as Reader2Error
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError

    damage: tuple[type[BaseException], ...] = (
        AnyReaderError,
        Reader1Error,
        Reader2Error,
        TypesysError,
        SerdeError,
        *_zstd_errors(),
        sqlite3.Error,
        struct.error,
        OSError,
        EOFError,
        AssertionError,
        LookupError,
        ValueError,
        RuntimeError,
        TypeError,
        OverflowError,
        AttributeError,  # a message definition that was damaged lacks fields
        MemoryError,
    )
    try:
        yield
    except DepthCompletionError:
        raise
    except damage as error:
        # Some of them recite what they could not read.
        reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
        msg = f"{path}: cannot be read as a bag ({reason}); is it whole?"
        raise InputError(msg) from error


def _zstd_errors() -> Iterator[type[Exception]]:
    """Give the errors of the decompressors that one rosbags or the other uses."""
    for name in ("zstandard", "backports.zstd", "compression.zstd"):
        try:
            yield importlib.import_module(name).ZstdError
        except ImportError:
            continue


def is_bag(path: Path) -> bool:
    """Tell whether a path is a bag, whole or not."""
    if path.is_file():
        return path.suffix in SUFFIXES
    if (path / "metadata.yaml").is_file():
        return True
    return any(p.suffix in SUFFIXES[:2] for p in path.iterdir())
