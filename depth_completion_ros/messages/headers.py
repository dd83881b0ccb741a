"""Stamps and headers of messages.

Not here: matching stamps (`synchroniser.py`).
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError

_SECOND_NS = 1_000_000_000
_INT32 = 2**31


def stamp_ns(stamp: Any) -> int:
    """Read a stamp as one number that can be compared and subtracted exactly.

    Args:
        stamp: anything with `sec` and `nanosec`, as builtin_interfaces/Time.

    Returns:
        Nanoseconds; 0 for a stamp that nobody filled in.
    """
    return int(stamp.sec) * _SECOND_NS + int(stamp.nanosec)


def split_stamp(ns: int) -> tuple[int, int]:
    """Take nanoseconds apart into what builtin_interfaces/Time holds.

    Args:
        ns: nanoseconds.

    Returns:
        sec and nanosec; nanosec is never negative.

    Raises:
        InputError: the seconds do not fit into 32 bits.
    """
    sec, nanosec = divmod(int(ns), _SECOND_NS)
    if not -_INT32 <= sec < _INT32:
        msg = f"stamp: found {sec} s, expected 32 bits; are these nanoseconds?"
        raise InputError(msg)
    return sec, nanosec


def header_fields(stamp: int, frame_id: str) -> dict[str, Any]:
    """Give the fields of std_msgs/Header.

    Args:
        stamp: nanoseconds.
        frame_id: frame of the data.

    Returns:
        Fields for `fill_message` and `build_message`.
    """
    sec, nanosec = split_stamp(stamp)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": frame_id}
