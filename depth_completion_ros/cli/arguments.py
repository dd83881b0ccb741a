"""Arguments that several commands share, and flags made from the settings.

Not here: what a command does with them. Look next at `settings.py`, where the flags' names, help
texts, ranges and defaults come from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import InputError
from ..settings import CompleterSettings, ProjectionSettings, flatten, unflatten

_CAMERAS = ("image_00", "image_01", "image_02", "image_03")
_TOPIC_ROLES = ("image", "camera_info", "points")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors of this package, one line each."""

    def __init__(self, **kwargs: Any) -> None:
        """Keep the line breaks of examples and refuse abbreviated flags."""
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage: one clear line is easier to read."""
        msg = f"{message}; see {self.prog} --help"
        raise InputError(msg)


def add_command(
    commands: Any, name: str, *, summary: str, description: str = "", examples: str = ""
) -> argparse.ArgumentParser:
    """Declare one command with the flags all of them have.

    Args:
        commands: what `add_subparsers` gave.
        name: of the command.
        summary: one line for the list of commands.
        description: what the command does, after the summary.
        examples: one per line.
    """
    epilog = "examples:\n" + "".join(f"  {line}\n" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}\n\n{description.strip()}".strip(),
        epilog=epilog if examples else None,
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error came from"
    )
    return parser


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Let a command print one JSON document instead of text for people."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document and nothing else"
    )


def add_resume_flag(parser: argparse.ArgumentParser) -> None:
    """Let a command go on where it was interrupted."""
    parser.add_argument(
        "--resume", action="store_true", help="keep what an interrupted run has done and go on"
    )


def add_source(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add SOURCE and what may have to be said about it."""
    count = "?" if optional else None
    parser.add_argument(
        "source", metavar="SOURCE", nargs=count, help="frames; detected by what it is"
    )
    group = parser.add_argument_group("source")
    group.add_argument(
        "--camera",
        choices=_CAMERAS,
        default="image_02",
        help="camera of a KITTI source (default: image_02)",
    )
    group.add_argument(
        "--calibration.file",
        metavar="FILE",
        help="calibration to use instead of the source's own: YAML, KITTI calib file or folder, "
        "or calib.json",
    )
    group.add_argument(
        "--calibration.projection_model",
        choices=("rectified", "raw"),
        default="rectified",
        help="rectified: images match P, no distortion; raw: images match K and D",
    )
    group.add_argument(
        "--topics",
        nargs="+",
        metavar="ROLE=TOPIC",
        help="topics of a bag where the choice by type is not the wanted one; roles: image, "
        "camera_info, points",
    )


def add_extrinsics_flag(parser: argparse.ArgumentParser) -> None:
    """Add other extrinsics than the source's, to try one's own."""
    parser.add_argument(
        "--calibration.T_camera_lidar",
        metavar="'16 NUMBERS'",
        type=_transform,
        help="extrinsics to use instead of the source's own: the 4x4 matrix row by row, in quotes",
    )


def add_motion_flag(parser: argparse.ArgumentParser) -> None:
    """Add whether the motion within a scan is undone."""
    parser.add_argument(
        "--motion.source",
        choices=("none", "odometry"),
        default="none",
        help="odometry: undo the motion within each scan by the poses that the source holds "
        "(oxts, odometry); none leaves the cloud as it is (default: none)",
    )


def source_options(args: argparse.Namespace) -> dict[str, Any]:
    """Read what `add_source` and `add_motion_flag` added, as options of `SourceReader`.

    Raises:
        InputError: a topic without a role.
    """
    values = vars(args)
    return {
        "camera": args.camera,
        "calibration": values["calibration.file"],
        "topics": read_topics(args.topics, "--topics") or None,
        "projection_model": values["calibration.projection_model"],
        **_optional(values, motion="motion.source", T_camera_lidar="calibration.T_camera_lidar"),
    }


def _optional(values: dict[str, Any], **flags: str) -> dict[str, Any]:
    """Take the flags that this command has; only `add_source`'s are everywhere."""
    return {option: values[flag] for option, flag in flags.items() if flag in values}


def read_topics(texts: Sequence[str] | None, flag: str) -> dict[str, str]:
    """Read topics by role, as `image=/camera/image_raw`.

    Raises:
        InputError: one has no role, an unknown one, or no topic.
    """
    topics = {}
    for text in texts or ():
        role, _, topic = text.partition("=")
        if role not in _TOPIC_ROLES or not topic:
            allowed = ", ".join(f"{name}=TOPIC" for name in _TOPIC_ROLES)
            msg = f"{flag}: found {text!r}, expected {allowed}"
            raise InputError(msg)
        topics[role] = topic
    return topics


def add_completer_flags(parser: argparse.ArgumentParser) -> None:
    """Add which completer to take, where it runs, and how it reads measurements."""
    _add_flags(parser.add_argument_group("completer"), CompleterSettings(), "")
    add_projection_flags(parser)


def add_projection_flags(parser: argparse.ArgumentParser) -> None:
    """Add how measurements become sparse depth."""
    _add_flags(parser.add_argument_group("measurements"), ProjectionSettings(), "projection.")


def completer_settings(args: argparse.Namespace) -> CompleterSettings:
    """Read the completer's settings from the flags.

    Raises:
        InputError: a value that its setting refuses.
    """
    result: CompleterSettings = unflatten(
        CompleterSettings(), _given(args, CompleterSettings(), "")
    )
    return result


def projection_settings(args: argparse.Namespace) -> ProjectionSettings:
    """Read the projection's settings from the flags.

    Raises:
        InputError: a value that its setting refuses.
    """
    base, prefix = ProjectionSettings(), "projection."
    result: ProjectionSettings = unflatten(base, _given(args, base, prefix), prefix)
    return result


def open_completer_of(args: argparse.Namespace) -> Any:
    """Open the completer that the flags ask for.

    Raises:
        InputError, BackendError, ModelFileError: as `open_completer`.
    """
    from ..completers import open_completer

    chosen = completer_settings(args)
    return open_completer(
        chosen.network,
        backend=chosen.backend,
        device=chosen.device,
        precision=chosen.precision,
        weights=chosen.weights or None,
        settings=projection_settings(args),
    )


def whole_number(low: int) -> Callable[[str], int]:
    """Make an argument type for whole numbers from `low` on."""

    def parse(text: str) -> int:
        if not text.lstrip("+-").isdecimal() or int(text) < low:
            msg = f"found {text!r}, expected a whole number from {low} on"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


def number_from(low: float) -> Callable[[str], float]:
    """Make an argument type for finite numbers from `low` on."""

    def parse(text: str) -> float:
        value = _number(text)
        if not low <= value < float("inf"):
            msg = f"found {text!r}, expected a number from {low:g} on"
            raise argparse.ArgumentTypeError(msg)
        return value

    return parse


def _add_flags(group: Any, settings: Any, prefix: str) -> None:
    for name, field, value in flatten(settings, prefix):
        kind = type(value)
        unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
        choices = field.metadata["choices"]
        shown = "" if value == "" else f" (default: {str(value).lower()})"
        group.add_argument(
            f"--{name}",
            type=_PARSERS.get(kind, str),
            metavar="|".join(choices) if choices else _METAVARS.get(kind, "TEXT"),
            help=f"{field.metadata['help']}{unit}{shown}".replace("%", "%%"),
        )


def _given(args: argparse.Namespace, settings: Any, prefix: str) -> dict[str, Any]:
    """Collect the flags that were given, by setting."""
    values = vars(args)
    names = [name for name, _, _ in flatten(settings, prefix)]
    return {name: values[name] for name in names if values.get(name) is not None}


def _transform(text: str) -> tuple[float, ...]:
    numbers = tuple(_number(word) for word in text.replace(",", " ").split())
    if len(numbers) != 16:
        msg = f"found {len(numbers)} numbers, expected the 16 of a 4x4 matrix, in quotes"
        raise argparse.ArgumentTypeError(msg)
    return numbers


def _truth(text: str) -> bool:
    known = {"true": True, "false": False}
    if text.lower() not in known:
        msg = f"found {text!r}, expected true or false"
        raise argparse.ArgumentTypeError(msg)
    return known[text.lower()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"found {text!r}, expected a number"
        raise argparse.ArgumentTypeError(msg) from None


_PARSERS: dict[Any, Callable[[str], Any]] = {bool: _truth, float: _number, int: int}
_METAVARS = {bool: "true|false", float: "NUMBER", int: "NUMBER"}
