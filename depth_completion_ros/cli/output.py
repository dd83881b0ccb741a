"""What commands print: aligned tables, JSON documents, failed frames.

Not here: progress (`progress.py`), which goes to stderr.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Failed frames are named up to this number, then counted; --json names all.
_LISTED_FAILURES = 20


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align a table: the first column to the left, numbers to the right.

    Args:
        header: titles of the columns.
        rows: cells as text, as many per row as titles.

    Returns:
        Lines without a line break at the end.
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)).rstrip())
    return "\n".join(lines)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document; what JSON has no number for (NaN, infinity) becomes null."""
    json.dump(_plain(document), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_failures(failed: Mapping[str, str]) -> None:
    """List the frames that failed, with the reason, on stderr."""
    for name, reason in list(failed.items())[:_LISTED_FAILURES]:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if len(failed) > _LISTED_FAILURES:
        print(f"failed: {len(failed) - _LISTED_FAILURES} more; --json lists all", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Give an error's message without line breaks."""
    return " ".join(str(error).splitlines())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
