"""Where the files that come with the package are: launch, config and model files, the version.

They lie beside the package in a checkout, and in `share/depth_completion` of an installation by
colcon or pip.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from .errors import InputError

PACKAGE = "depth_completion"


def find_share_file(relative: str) -> Path:
    """Find a file that was installed with the package.

    Args:
        relative: path below the share folder, such as `config/completion.yaml`.

    Returns:
        Absolute path of an existing file or folder.

    Raises:
        InputError: no installation holds it; the message lists where it was looked for.
    """
    for folder in _share_folders():
        if (folder / relative).exists():
            return folder / relative
    looked = ", ".join(str(folder) for folder in _share_folders())
    msg = f"{relative}: not found in {looked}; is the package installed completely?"
    raise InputError(msg)


def _share_folders() -> Iterator[Path]:
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "package.xml").is_file():
        yield checkout
    # colcon installs to PREFIX/lib/pythonX.Y/site-packages and PREFIX/share.
    prefixes = [*Path(__file__).parents[3:6]]
    prefixes += [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes += [Path(sysconfig.get_path("data")), Path(sys.prefix)]
    for prefix in dict.fromkeys(prefixes):
        folder = prefix / "share" / PACKAGE
        if folder.is_dir():
            yield folder


def _read_version() -> str:
    root = ElementTree.parse(find_share_file("package.xml")).getroot()
    return str(root.findtext("version"))


__version__ = _read_version()
