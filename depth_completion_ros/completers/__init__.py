"""Everything that turns a frame into dense depth, behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import load_on_use

if TYPE_CHECKING:
    from .base import Completer
    from .opening import open_completer

__all__ = ["Completer", "open_completer"]

_HOMES = {"Completer": "base", "open_completer": "opening"}

__getattr__ = load_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
