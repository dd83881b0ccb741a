"""Sources of frames and places for results; nothing is loaded before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import load_on_use

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

__getattr__ = load_on_use(__name__, _HOMES)
