"""A street drive made from a seed, with exact depth, in KITTI's raw layout.

The names below are loaded when they are first used; ray casting needs the extra `synthetic`.
Look next at `recipe.py` for what can be chosen and at `drive.py` for how a drive is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import load_on_use

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

__getattr__ = load_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
