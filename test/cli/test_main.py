from __future__ import annotations

import subprocess
import sys

import pytest

from depth_completion_ros.cli import main as main_module
from depth_completion_ros.cli.main import main
from depth_completion_ros.settings import CompleterSettings, ProjectionSettings, flatten
from depth_completion_ros.share import __version__


def help_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_the_overview_names_every_command(capsys):
    text = help_of(capsys=capsys)
    for name in main_module._COMMANDS:
        assert f"\n    {name}" in text
    assert "examples:" in text


@pytest.mark.parametrize("name", main_module._COMMANDS)
def test_every_command_shows_examples(capsys, name):
    text = help_of(name, capsys=capsys)
    assert "examples:" in text
    assert f"\n  depth_completion {name}" in text


@pytest.mark.parametrize("name", ["complete", "evaluate"])
def test_every_setting_of_a_completion_is_a_flag(capsys, name):
    text = help_of(name, capsys=capsys)
    for settings, prefix in ((CompleterSettings(), ""), (ProjectionSettings(), "projection.")):
        for setting, field, _ in flatten(settings, prefix):
            assert f"--{setting} " in text
            assert field.metadata["help"].split(".")[0].split()[0] in text


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"depth_completion {__version__}\n"


def test_an_unexpected_error_is_one_line_and_tells_how_to_see_more(run, source, monkeypatch):
    from depth_completion_ros.cli import overlay

    def fail(_args: object) -> int:
        msg = "first line\nsecond line"
        raise RuntimeError(msg)

    monkeypatch.setattr(overlay, "run", fail)
    message = run("overlay", source, "out.png").refused()
    assert message == (
        "unexpected RuntimeError: first line second line; run again with --traceback to see where"
    )
    shown = run("overlay", source, "out.png", "--traceback")
    assert shown.status == 2
    assert "Traceback (most recent call last)" in shown.err


def test_an_interrupt_is_130(run, source, monkeypatch):
    from depth_completion_ros.cli import overlay

    def interrupt(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(overlay, "run", interrupt)
    done = run("overlay", source, "out.png")
    assert (done.status, done.err) == (130, "depth_completion: interrupted\n")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from depth_completion_ros.cli.main import main\n"
        "try:\n    main(['complete', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'cv2', 'torch', 'rclpy', 'scipy', 'rosbags', 'h5py'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
