"""Sources of frames and places for results; nothing is loaded before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Dataset
    from .calibration import Calibration, read_calibration
    from .opening import open_source

__all__ = ["Calibration", "Dataset", "open_source", "read_calibration"]

_HOMES = {
    "Calibration": "calibration",
    "Dataset": "base",
    "open_source": "opening",
    "read_calibration": "calibration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
