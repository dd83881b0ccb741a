"""What a user can set, as frozen dataclasses, one per concern.

Not here: values nobody needs to change; those are constants beside the code they serve.
From these classes come the ROS parameters, the command line flags, `config/completion.yaml` and
the tables of the README. Look next at `node/parameters.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from .errors import InputError


def setting(
    default: Any,
    *,
    help: str,
    unit: str = "",
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
    length: tuple[int, ...] | None = None,
    dynamic: bool = False,
) -> Any:
    """Declare one setting with all that descriptors, flags and documentation need.

    Args:
        default: value without any configuration; its type is the setting's type.
        help: one sentence for the user.
        unit: SI unit or `px`, empty where there is none.
        range: smallest and largest allowed number, both inclusive.
        choices: allowed strings.
        length: allowed lengths of a tuple of floats.
        dynamic: True if a running node takes a new value with the next frame.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "range": range,
        "choices": choices,
        "length": length,
        "dynamic": dynamic,
    }
    return dataclasses.field(default=default, metadata=metadata)


class CheckedSettings:
    """Check every field against its declaration when a settings object is made."""

    def __post_init__(self) -> None:
        """Refuse a value of the wrong type, outside its range or not among its choices.

        Raises:
            InputError: names the setting, the value found and what is allowed.
        """
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.metadata:
                value = _converted(field, hints[field.name], getattr(self, field.name))
                object.__setattr__(self, field.name, value)


def _converted(field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    name, meta = field.name, field.metadata
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(field.default, tuple):
        try:
            value = tuple(float(item) for item in value)
        except (TypeError, ValueError):
            msg = f"{name}: found {value!r}, expected a list of numbers"
            raise InputError(msg) from None
        if meta["length"] and len(value) not in meta["length"]:
            allowed = " or ".join(str(n) for n in meta["length"])
            msg = f"{name}: found {len(value)} numbers, expected {allowed}"
            raise InputError(msg)
    elif type(value) is not kind:
        msg = f"{name}: found {value!r} ({type(value).__name__}), expected {kind.__name__}"
        raise InputError(msg)
    numbers = value if isinstance(value, tuple) else (value,) if kind in (int, float) else ()
    if not all(math.isfinite(number) for number in numbers):
        msg = f"{name}: found {value!r}, expected finite numbers"
        raise InputError(msg)
    if meta["range"] and not all(meta["range"][0] <= n <= meta["range"][1] for n in numbers):
        low, high = meta["range"]
        unit = f" {meta['unit']}" if meta["unit"] else ""
        msg = f"{name}: found {value!r}, expected a value from {low:g} to {high:g}{unit}"
        raise InputError(msg)
    if meta["choices"] and value not in meta["choices"]:
        msg = f"{name}: found {value!r}, expected one of {', '.join(meta['choices'])}"
        raise InputError(msg)
    return value


def _check_order(name: str, low: float, high: float) -> None:
    if not low < high:
        msg = f"{name}: found minimum {low:g} and maximum {high:g}, expected minimum < maximum"
        raise InputError(msg)


@dataclass(frozen=True)
class CompleterSettings(CheckedSettings):
    """Choose what turns sparse depth into dense depth, and where it runs."""

    network: str = setting(
        "auto",
        help="Completer by name; auto takes redc_lite if it can run here, else fill.",
    )
    weights: str = setting("", help="Path of a weights file; empty takes the shipped one.")
    backend: str = setting(
        "auto",
        choices=("auto", "tensorrt", "torch", "onnxruntime", "openvino"),
        help="Runtime of the network; auto takes the fastest that really works.",
    )
    device: str = setting("auto", help="auto, cpu, cuda or cuda:N.")
    precision: str = setting(
        "auto",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
        help="Arithmetic of the network; auto takes what the backend does best.",
    )


@dataclass(frozen=True)
class SyncSettings(CheckedSettings):
    """Match images and clouds by stamp."""

    policy: str = setting(
        "approximate",
        choices=("exact", "approximate", "latest"),
        help="exact: equal stamps; approximate: one output per cloud with the nearest image; "
        "latest: one output per image with the newest cloud.",
    )
    slop: float = setting(
        0.05,
        unit="s",
        range=(0.0, 10.0),
        help="Largest distance of two stamps that still match (approximate), inclusive.",
    )
    timeout: float = setting(
        0.2,
        unit="s",
        range=(0.0, 10.0),
        help="Oldest cloud that an image is completed with (latest).",
    )
    queue_size: int = setting(
        10, range=(1, 1000), help="Messages kept per input while they wait for a partner."
    )
    image_time_offset: float = setting(
        0.0, unit="s", range=(-10.0, 10.0), help="Added to image stamps before matching."
    )
    points_time_offset: float = setting(
        0.0, unit="s", range=(-10.0, 10.0), help="Added to cloud stamps before matching."
    )
    watchdog: float = setting(
        3.0,
        unit="s",
        range=(0.1, 3600.0),
        help="Time without a match after which the reason is reported.",
    )


@dataclass(frozen=True)
class CalibrationSettings(CheckedSettings):
    """Say where the extrinsics come from and how camera_info is read."""

    source: str = setting(
        "auto",
        choices=("auto", "tf", "file", "parameters"),
        help="auto takes calibration.file or calibration.T_camera_lidar if given, else tf.",
    )
    file: str = setting(
        "", help="Calibration file: YAML, KITTI calib file or folder, or calib.json."
    )
    T_camera_lidar: tuple[float, ...] = setting(
        (),
        length=(0, 16),
        help="Row-major 4x4 transform that takes points from the LiDAR to the camera frame.",
    )
    camera_frame: str = setting(
        "", help="Optical frame of the camera; empty takes the image's frame_id."
    )
    lidar_frame: str = setting("", help="Frame of the cloud; empty takes the cloud's frame_id.")
    projection_model: str = setting(
        "rectified",
        choices=("rectified", "raw"),
        help="rectified: images match P, no distortion; raw: images match K and D.",
    )
    timeout: float = setting(
        0.1, unit="s", range=(0.0, 10.0), help="Longest wait for one tf lookup."
    )


@dataclass(frozen=True)
class OcclusionFilterSettings(CheckedSettings):
    """Remove background points that the LiDAR sees past a nearer surface's edge."""

    enabled: bool = setting(True, dynamic=True, help="Switch the see-through filter.")
    gap: float = setting(
        0.009,
        unit="rad",
        range=(0.001, 0.1),
        dynamic=True,
        help="Points within this angle may belong to one surface: a little more than the angle "
        "between two beams.",
    )
    baseline: float = setting(
        0.6,
        unit="m",
        range=(0.0, 5.0),
        dynamic=True,
        help="Distance of LiDAR and camera that is reckoned with; where the extrinsics are known, "
        "at most one and a half times theirs.",
    )


@dataclass(frozen=True)
class ProjectionSettings(CheckedSettings):
    """Turn LiDAR points into sparse depth."""

    min_depth: float = setting(
        0.5, unit="m", range=(0.0, 1000.0), dynamic=True, help="Nearer points are ignored."
    )
    max_depth: float = setting(
        250.0, unit="m", range=(0.1, 1000.0), dynamic=True, help="Farther points are ignored."
    )
    occlusion_filter: OcclusionFilterSettings = OcclusionFilterSettings()

    def __post_init__(self) -> None:
        """Check the fields, and that the two limits leave room."""
        super().__post_init__()
        _check_order("min_depth", self.min_depth, self.max_depth)


@dataclass(frozen=True)
class MotionSettings(CheckedSettings):
    """Move the cloud to the moment of the image."""

    source: str = setting(
        "none",
        choices=("none", "tf", "odometry"),
        help="Where the sensors' motion comes from; none leaves the cloud as it is.",
    )
    fixed_frame: str = setting("odom", help="Frame that stands still (tf).")
    deskew: bool = setting(
        True, help="Undo the motion within one scan where the cloud has per-point times."
    )
    T_base_lidar: tuple[float, ...] = setting(
        (),
        length=(0, 16),
        help="Row-major 4x4 transform from the LiDAR to the odometry's child frame; empty if they "
        "are one frame or tf knows it (odometry).",
    )


@dataclass(frozen=True)
class OutputSettings(CheckedSettings):
    """Shape what is published or written."""

    encoding: str = setting(
        "32FC1",
        choices=("32FC1", "16UC1"),
        help="32FC1: metres, NaN = none; 16UC1: millimetres, 0 = none.",
    )
    scale: float = setting(
        1.0, range=(0.1, 1.0), help="Size of the outputs as a fraction of the image."
    )
    confidence_threshold: float = setting(
        0.0,
        range=(0.0, 1.0),
        dynamic=True,
        help="Depth below this confidence is removed; 0 keeps everything.",
    )
    points_confidence: float = setting(
        0.5,
        range=(0.0, 1.0),
        dynamic=True,
        help="Points below this confidence are NaN in depth/points.",
    )
    min_depth: float = setting(
        0.0, unit="m", range=(0.0, 1000.0), dynamic=True, help="Nearer estimates are removed."
    )
    max_depth: float = setting(
        250.0, unit="m", range=(0.1, 1000.0), dynamic=True, help="Farther estimates are removed."
    )
    color_range: tuple[float, ...] = setting(
        (0.0, 80.0),
        unit="m",
        length=(2,),
        range=(0.0, 1000.0),
        dynamic=True,
        help="Depths at the two ends of the colour scale of depth/color.",
    )

    def __post_init__(self) -> None:
        """Check the fields, and that both pairs of limits leave room."""
        super().__post_init__()
        _check_order("min_depth", self.min_depth, self.max_depth)
        _check_order("color_range", *self.color_range)


@dataclass(frozen=True)
class InputSettings(CheckedSettings):
    """Say how images arrive."""

    image_transport: str = setting(
        "raw", choices=("raw", "compressed"), help="raw: image; compressed: image/compressed."
    )


@dataclass(frozen=True)
class QosSettings(CheckedSettings):
    """Choose the quality of service of each topic."""

    image: str = setting(
        "best_effort", choices=("best_effort", "reliable"), help="Reliability of image."
    )
    camera_info: str = setting(
        "best_effort", choices=("best_effort", "reliable"), help="Reliability of camera_info."
    )
    points: str = setting(
        "best_effort", choices=("best_effort", "reliable"), help="Reliability of points."
    )
    odometry: str = setting(
        "best_effort", choices=("best_effort", "reliable"), help="Reliability of odometry."
    )
    outputs: str = setting(
        "reliable", choices=("best_effort", "reliable"), help="Reliability of all outputs."
    )
    depth: int = setting(5, range=(1, 1000), help="History depth of every topic.")


@dataclass(frozen=True)
class Settings(CheckedSettings):
    """Everything `depth_completion_node` can be told; group names are parameter prefixes."""

    autostart: bool = setting(
        True, help="Configure and activate by itself; false waits for a lifecycle manager."
    )
    completer: CompleterSettings = CompleterSettings()
    sync: SyncSettings = SyncSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    projection: ProjectionSettings = ProjectionSettings()
    motion: MotionSettings = MotionSettings()
    output: OutputSettings = OutputSettings()
    input: InputSettings = InputSettings()
    qos: QosSettings = QosSettings()


@dataclass(frozen=True)
class PlayerSettings(CheckedSettings):
    """Everything `kitti_player` can be told."""

    drive: str = setting("", help="KITTI raw drive, bag or any other source to play.")
    camera: str = setting(
        "image_02",
        choices=("image_00", "image_01", "image_02", "image_03"),
        help="Camera of a KITTI drive.",
    )
    rate: float = setting(
        1.0, range=(0.01, 100.0), dynamic=True, help="Speed as a multiple of the recorded one."
    )
    loop: bool = setting(False, dynamic=True, help="Start again at the end.")
    start_paused: bool = setting(False, help="Wait for ~/pause or ~/step before the first frame.")
    start: int = setting(0, range=(0, 10_000_000), help="Index of the first frame.")
    end: int = setting(
        -1, range=(-1, 10_000_000), help="Index after the last frame; -1 plays to the end."
    )
    wait: float = setting(
        0.0,
        unit="s",
        range=(0.0, 3600.0),
        help="Longest wait for a subscriber of every topic before the first frame.",
    )
    publish_clock: bool = setting(True, help="Publish /clock.")
    stamps: str = setting(
        "continued",
        choices=("recorded", "now", "continued"),
        help="recorded: as in the source; now: time of publishing; continued: recorded spacing, "
        "monotonic over loops.",
    )


def flatten(settings: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Walk all settings as (dotted name, field, value), in the order of declaration.

    The names are those of the ROS parameters: the group's name and the field's, without the group
    for `CompleterSettings` (`network`, but `sync.slop`).
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            group = "" if isinstance(value, CompleterSettings) else f"{prefix}{field.name}."
            yield from flatten(value, group)
        else:
            yield f"{prefix}{field.name}", field, value


def unflatten(base: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """Make a copy of `base` with the dotted names in `values` replaced.

    Raises:
        InputError: a name that no setting has, or a value that its setting refuses.
    """
    known = {name for name, _, _ in flatten(base, prefix)}
    unknown = sorted(set(values) - known)
    if unknown:
        msg = f"unknown setting {unknown[0]!r}; expected one of {', '.join(sorted(known))}"
        raise InputError(msg)
    return _replaced(base, values, prefix)


def _replaced(base: Any, values: dict[str, Any], prefix: str) -> Any:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(base):
        value = getattr(base, field.name)
        if dataclasses.is_dataclass(value):
            group = "" if isinstance(value, CompleterSettings) else f"{prefix}{field.name}."
            changes[field.name] = _replaced(value, values, group)
        elif f"{prefix}{field.name}" in values:
            changes[field.name] = values[f"{prefix}{field.name}"]
    if not changes:
        return base
    try:
        return dataclasses.replace(base, **changes)
    except InputError as error:
        msg = f"{prefix}{error}"
        raise InputError(msg) from None
