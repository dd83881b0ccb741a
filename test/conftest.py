"""Fixtures shared by all tests: where real data lies, and why a test is skipped without it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {name} data: expected a folder shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def kitti() -> Path:
    """Folder with drive_0009, completion, validation and places."""
    return _shared("kitti")


@pytest.fixture(scope="session")
def rigs() -> Path:
    """Folder with frames of other rigs."""
    return _shared("rigs")


@pytest.fixture(scope="session")
def scenes() -> Path:
    """Folder with dense depth, no LiDAR."""
    return _shared("scenes")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder with golden vectors of the published networks."""
    return _shared("reference")


@pytest.fixture(scope="session")
def rendered_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic drive in KITTI raw layout with exact ground truth, rendered once."""
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    from depth_completion_ros.datasets.synthetic import read_recipe, render_drive
    from depth_completion_ros.share import find_share_file

    recipe = read_recipe(find_share_file("config/synthetic/street_small.yaml"))
    return render_drive(recipe, tmp_path_factory.mktemp("drive"))
