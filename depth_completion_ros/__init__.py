"""Dense depth with calibrated confidence from a camera and a LiDAR.

The names below are the public interface; they are loaded when they are first used, so that
importing the package stays cheap. Look next at `data.py` for the types they share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import load_on_use

if TYPE_CHECKING:
    from .completers import Completer, open_completer
    from .data import DenseDepth, Frame, PinholeCamera
    from .datasets import Dataset, open_source
    from .errors import DepthCompletionError
    from .settings import Settings

__all__ = [
    "Completer",
    "Dataset",
    "DenseDepth",
    "DepthCompletionError",
    "Frame",
    "PinholeCamera",
    "Settings",
    "__version__",
    "open_completer",
    "open_source",
]

_HOMES = {
    "Completer": "completers",
    "Dataset": "datasets",
    "DenseDepth": "data",
    "DepthCompletionError": "errors",
    "Frame": "data",
    "PinholeCamera": "data",
    "Settings": "settings",
    "__version__": "share",
    "open_completer": "completers",
    "open_source": "datasets",
}

__getattr__ = load_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
