"""Settings as text for people: the parameters file and the tables of the README.

Not here: the settings themselves (`settings.py`). Tests compare the files with what is made here;
to renew the parameters file and a table after a change:

    python -m depth_completion_ros.settings_text > config/completion.yaml
    python -m depth_completion_ros.settings_text --table node
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from typing import Any

from .settings import PlayerSettings, Settings, flatten

_WIDTH = 99
_HEAD = (
    "Every parameter of depth_completion_node with its default; generated from settings.py.",
    "Copy it, keep the lines you change, and start the node with --params-file YOURS.yaml.",
    '"dynamic": a running node takes it with the next frame; the others are taken by configure.',
)


def settings_yaml(settings: Any = None) -> str:
    """Write a ROS parameters file that explains every line.

    Args:
        settings: whose values to write; None takes the defaults of `Settings`.

    Returns:
        YAML text for any node name (`/**`), ending in a newline.
    """
    settings = settings or Settings()
    lines = [*(f"# {line}" for line in _HEAD), "/**:", "  ros__parameters:"]
    open_groups: list[str] = []
    for name, field, value in flatten(settings):
        *groups, key = name.split(".")
        same = [ours == theirs for ours, theirs in zip(groups, open_groups, strict=False)]
        shared = [*same, False].index(False)
        for level in range(shared, len(groups)):
            lines.append(f"{_indent(level)}{groups[level]}:")
        open_groups = groups
        indent = _indent(len(groups))
        note = f"{field.metadata['help']}{_allowed_note(field)}"
        lines += textwrap.wrap(
            note, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        # The parameter parser of rcl cannot tell the type of an empty list.
        mark = "# " if value == () else ""
        lines.append(f"{indent}{mark}{key}: {format_value(value)}")
    return "\n".join(lines) + "\n"


def settings_table(settings: Any = None) -> str:
    """Write a Markdown table of settings: name, default, what is allowed, what it does.

    Args:
        settings: any settings object; None takes `Settings`.

    Returns:
        The table, one row per setting, ending in a newline.
    """
    rows = ["| parameter | default | allowed | what it does |", "|---|---|---|---|"]
    for name, field, value in flatten(settings or Settings()):
        dynamic = " *Dynamic.*" if field.metadata["dynamic"] else ""
        allowed = allowed_values(field)
        help_text = field.metadata["help"].replace("|", "\\|")
        rows.append(f"| `{name}` | `{format_value(value)}` | {allowed} | {help_text}{dynamic} |")
    return "\n".join(rows) + "\n"


def allowed_values(field: dataclasses.Field[Any]) -> str:
    """Say in few words what a setting accepts; empty where anything of its type goes."""
    meta = field.metadata
    if meta["choices"]:
        return ", ".join(meta["choices"])
    parts = []
    if meta["length"]:
        parts.append(" or ".join(str(count) for count in meta["length"]) + " numbers")
    if meta["range"]:
        low, high = meta["range"]
        parts.append(f"{low:g} to {high:g}")
    if meta["unit"]:
        parts.append(meta["unit"])
    return " ".join(parts)


def format_value(value: Any) -> str:
    """Write a value the way YAML and `--ros-args -p` take it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value else '""'
    if isinstance(value, tuple):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    return repr(value)


def _allowed_note(field: dataclasses.Field[Any]) -> str:
    notes = [allowed_values(field)] if allowed_values(field) else []
    if field.metadata["dynamic"]:
        notes.append("dynamic")
    return f" [{'; '.join(notes)}]" if notes else ""


def _indent(level: int) -> str:
    return "  " * (level + 2)


if __name__ == "__main__":
    tables = {"node": Settings(), "player": PlayerSettings()}
    if sys.argv[1:2] == ["--table"]:
        sys.stdout.write(settings_table(tables[sys.argv[2]]))
    else:
        sys.stdout.write(settings_yaml())
