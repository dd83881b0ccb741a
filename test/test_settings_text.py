from __future__ import annotations

from pathlib import Path

import yaml

from depth_completion_ros.settings import PlayerSettings, Settings, flatten, unflatten
from depth_completion_ros.settings_text import settings_table, settings_yaml

ROOT = Path(__file__).resolve().parents[1]


def test_the_parameters_file_is_what_the_settings_say():
    written = (ROOT / "config" / "completion.yaml").read_text(encoding="utf-8")
    assert written == settings_yaml(), (
        "renew it: python -m depth_completion_ros.settings_text > config/completion.yaml"
    )


def test_the_parameters_file_reads_back_as_the_defaults():
    tree = yaml.safe_load(settings_yaml())["/**"]["ros__parameters"]

    def leaves(node: dict, prefix: str = "") -> dict:
        found = {}
        for key, value in node.items():
            if isinstance(value, dict):
                found |= leaves(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value
        return found

    values = leaves(tree)
    assert unflatten(Settings(), values) == Settings()
    # rcl cannot tell the type of an empty list, so those two are comments.
    assert {name for name, _, _ in flatten(Settings())} - set(values) == {
        "calibration.T_camera_lidar",
        "motion.T_base_lidar",
    }


def test_every_setting_has_a_row_with_default_and_help():
    rows = settings_table(PlayerSettings()).splitlines()
    assert len(rows) == 2 + len(list(flatten(PlayerSettings())))
    assert "| `rate` | `1.0` | 0.01 to 100 | Speed as a multiple of the recorded one. " in rows[4]
    assert "*Dynamic.*" in rows[4]
