from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from depth_completion_ros.datasets.transform_tree import TransformTree
from depth_completion_ros.errors import CalibrationError


def _message(parent: str, child: str, x: float) -> Any:
    transform = SimpleNamespace(
        translation=SimpleNamespace(x=x, y=0.0, z=0.0),
        rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
    )
    header = SimpleNamespace(frame_id=parent)
    return SimpleNamespace(header=header, child_frame_id=child, transform=transform)


def _tree(*edges: tuple[str, str, float]) -> TransformTree:
    tree = TransformTree()
    for edge in edges:
        tree.add(_message(*edge), static=True)
    return tree


def test_chains_go_up_and_down() -> None:
    tree = _tree(("base", "mast", 1.0), ("mast", "lidar", 0.5), ("base", "camera", 2.0))
    T = tree.find("camera", "lidar", Path("bag"))
    np.testing.assert_allclose(T @ (0, 0, 0, 1), (-0.5, 0, 0, 1))
    np.testing.assert_array_equal(tree.find("base", "base", Path("bag")), np.eye(4))


def test_the_latest_static_transform_counts() -> None:
    tree = _tree(("camera", "lidar", 1.0), ("camera", "lidar", 3.0))
    assert tree.find("camera", "lidar", Path("bag"))[0, 3] == 3


def test_a_tree_in_two_parts_names_the_frames_it_knows() -> None:
    tree = _tree(("base", "lidar", 1.0), ("left", "right", 1.0))
    assert not tree.connects("left", "lidar")
    message = r"bag: tf does not connect 'left' with 'lidar' \(found base, left, lidar, right\)"
    with pytest.raises(CalibrationError, match=message):
        tree.find("left", "lidar", Path("bag"))


def test_only_the_parts_of_the_chain_have_to_stand_still() -> None:
    tree = _tree(("base", "lidar", 1.0), ("base", "camera", 2.0))
    for x in (0.0, 5.0):
        tree.add(_message("odom", "base", x), static=False)
    assert tree.find("camera", "lidar", Path("bag"))[0, 3] == -1
    with pytest.raises(CalibrationError, match="tf between 'odom' and 'base' moves"):
        tree.find("odom", "lidar", Path("bag"))
