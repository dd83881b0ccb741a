"""The package as colcon and pip install it: every file there, every file found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted(
    str(path.relative_to(ROOT))
    for top in ("launch", "config", "models")
    for path in (ROOT / top).rglob("*")
    if path.is_file() and path.suffix != ".pyc"
)
FIND_ALL = (
    "import depth_completion_ros as d;"
    "from depth_completion_ros.share import find_share_file;"
    f"missing = [n for n in {SHIPPED!r} if not find_share_file(n).is_file()];"
    "import importlib, pkgutil;"
    "names = [m.name for m in pkgutil.iter_modules(d.__path__) if m.ispkg];"
    "[importlib.import_module('depth_completion_ros.' + n) for n in names];"
    "print(d.__file__); print(d.__version__); print(len(names)); print(missing)"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Copy what git tracks or would track, so that builds leave nothing in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    copy = tmp_path / "src" / "depth_completion"
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def _run(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _assert_complete(output: str, inside: Path) -> None:
    package_file, version, subpackages, missing = output.strip().splitlines()
    assert Path(package_file).resolve().is_relative_to(inside.resolve())
    assert f"<version>{version}</version>" in (ROOT / "package.xml").read_text()
    assert int(subpackages) == 10
    assert missing == "[]"


@pytest.mark.parametrize("symlink", [False, True])
def test_colcon_builds_and_the_result_is_complete(source: Path, symlink: bool):
    pytest.importorskip("colcon_ros", reason="colcon is not installed")
    workspace = source.parent.parent
    # This environment's package must not answer in place of the one colcon built.
    colcon = [sys.executable, "-m", "colcon", "--log-base", "log"]
    listed = _run([*colcon, "list"], workspace)
    assert "(ros.ament_python)" in listed
    _run([*colcon, "build", *(["--symlink-install"] if symlink else [])], workspace)
    install = workspace / "install" / "depth_completion"
    for executable in ("depth_completion", "depth_completion_node", "kitti_player"):
        assert (install / "lib" / "depth_completion" / executable).is_file()
    site = next(install.glob("lib/python*/site-packages"))
    build = workspace / "build" / "depth_completion"
    path = os.pathsep.join([str(build), str(site)] if symlink else [str(site)])
    output = _run(
        [sys.executable, "-c", FIND_ALL],
        workspace,
        PYTHONPATH=path,
        AMENT_PREFIX_PATH=str(install),
    )
    _assert_complete(output, inside=workspace)
    for name in SHIPPED:
        assert (install / "share" / "depth_completion" / name).is_file(), name
    assert (install / "share/ament_index/resource_index/packages/depth_completion").is_file()


@pytest.mark.parametrize("editable", [False, True])
def test_pip_installs_a_complete_package(source: Path, tmp_path: Path, editable: bool):
    environment = tmp_path / "venv"
    _run([sys.executable, "-m", "venv", "--system-site-packages", str(environment)], tmp_path)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    _run([*install, *(["-e"] if editable else []), str(source)], tmp_path)
    own = next(environment.glob("lib/python*/site-packages"))
    shared = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    # The new environment comes first; numpy and the rest are taken from this one.
    (own / "zz_shared.pth").write_text(f"{shared}\n")
    output = _run([str(python), "-c", FIND_ALL], tmp_path, AMENT_PREFIX_PATH="")
    # An editable installation finds its files in the checkout.
    _assert_complete(output, inside=source if editable else environment)
    assert editable or (environment / "share" / "depth_completion" / "package.xml").is_file()
    helped = _run([str(environment / "bin" / "depth_completion"), "--help"], tmp_path)
    assert "complete" in helped
