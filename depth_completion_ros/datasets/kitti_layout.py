"""How KITTI's raw folders number and stamp their files.

Not here: what is in the files (`kitti_raw.py`, `oxts.py`).
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ..errors import InputError
from .calibration import CAMERAS
from .whole_file import read_text

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def find_drives(path: Path) -> list[Path]:
    """List the drives at a path: the drive itself, those of a date or those of all dates."""
    if _is_drive(path):
        return [path]
    found = []
    for folder in _subfolders(path):
        found += (
            [folder] if _is_drive(folder) else [p for p in _subfolders(folder) if _is_drive(p)]
        )
    return found


def numbered_files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Map the names of the files in a folder without their suffix to their paths, in order."""
    if not folder.is_dir():
        return {}
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.stem.isdigit()]
    return {p.stem: p for p in sorted(files, key=lambda p: (int(p.stem), p.suffix))}


def read_stamps(path: Path, files: Mapping[str, Path]) -> dict[str, int]:
    """Read a `timestamps.txt` and tell which line belongs to which file.

    Where single files are missing, some drives keep their lines and others do not: if there are
    lines up to the largest number, the number counts; if there are as many lines as files, their
    order does.

    Args:
        path: one `YYYY-MM-DD HH:MM:SS.nnnnnnnnn` a line; the clock is taken for UTC.
        files: what the stamps belong to, by number.

    Returns:
        Nanoseconds since 1970 by name; empty if there is no such file.

    Raises:
        InputError: a line is no time, or lines and files cannot be matched.
    """
    if not path.is_file() or not files:
        return {}
    lines = read_text(path).rstrip().splitlines()
    stamps = [_parse_stamp(path, i + 1, line) for i, line in enumerate(lines)]
    if len(stamps) > max(int(name) for name in files):
        by_number = {name: stamps[int(name)] for name in files}
        return {name: stamp for name, stamp in by_number.items() if stamp is not None}
    present = [stamp for stamp in stamps if stamp is not None]
    if len(present) != len(files):
        msg = f"{path}: found {len(present)} stamps for {len(files)} files; is the drive complete?"
        raise InputError(msg)
    return dict(zip(files, present, strict=True))


def _parse_stamp(path: Path, number: int, line: str) -> int | None:
    if not line.strip():
        return None
    whole, _, fraction = line.strip().partition(".")
    try:
        moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        # Digit by digit: a float holds microseconds at best.
        nanoseconds = int(fraction[:9].ljust(9, "0"))
    except ValueError:
        moment, nanoseconds = None, 0
    # Nanoseconds since 1970 fit into 64 bits until 2262.
    if moment is None or not 1970 <= moment.year < 2262 or nanoseconds < 0:
        msg = f"{path}: line {number}: found {line[:40]!r}, expected YYYY-MM-DD HH:MM:SS.nnnnnnnnn"
        raise InputError(msg)
    return calendar.timegm(moment.timetuple()) * 1_000_000_000 + nanoseconds


def _is_drive(path: Path) -> bool:
    return any((path / name / "data").is_dir() for name in (*CAMERAS, "velodyne_points"))


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
