"""The package as a whole: public names, one version, and an import that costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import depth_completion_ros

ROOT = Path(__file__).resolve().parents[1]


def test_public_names():
    assert depth_completion_ros.__all__ == [
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
    assert dir(depth_completion_ros) == sorted(depth_completion_ros.__all__)


@pytest.mark.parametrize("name", depth_completion_ros.__all__)
def test_every_public_name_is_there(name):
    assert getattr(depth_completion_ros, name) is not None


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="'depth_completion_ros' has no attribute 'numpy'"):
        depth_completion_ros.numpy  # noqa: B018


def test_the_version_is_that_of_package_xml():
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    assert depth_completion_ros.__version__ == manifest.findtext("version")


def test_the_import_is_light():
    # A fresh interpreter: this one has loaded everything long ago.
    code = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import depth_completion_ros\n"
        "seconds = time.perf_counter() - start\n"
        "heavy = {'torch', 'rclpy', 'cv2', 'numpy', 'scipy', 'rosbags', 'yaml', 'tqdm'}\n"
        "print(seconds, *sorted(heavy & set(sys.modules)))\n"
    )
    # The best of three: a busy machine is not the package's fault.
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split()
        for _ in range(3)
    ]
    assert min(float(run[0]) for run in runs) < 0.3
    assert [run[1:] for run in runs] == [[], [], []]


def test_types_and_completers_load_neither_torch_nor_rclpy():
    code = (
        "import sys\n"
        "from depth_completion_ros import Frame, PinholeCamera, Settings, open_completer\n"
        "from depth_completion_ros.geometry import projection, occlusion, camera, motion\n"
        "print(*sorted({'torch', 'rclpy', 'rosbags', 'scipy'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == []
