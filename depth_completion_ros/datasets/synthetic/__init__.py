"""A street drive made from a seed, with exact depth, in KITTI's raw layout.

The names below are loaded when they are first used; ray casting needs the extra `synthetic`.
Look next at `recipe.py` for what can be chosen and at `drive.py` for how a drive is written.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .drive import open_recipe, render_drive
    from .recipe import SyntheticRecipe, read_recipe

__all__ = ["SyntheticRecipe", "open_recipe", "read_recipe", "render_drive"]

_HOMES = {
    "SyntheticRecipe": "recipe",
    "open_recipe": "drive",
    "read_recipe": "recipe",
    "render_drive": "drive",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
