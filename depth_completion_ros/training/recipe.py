"""What a training run is made from: network, data, augmentation, loss, schedule, stages.

Not here: what any of it does; each group of settings names the module that uses it. Needs no
torch. Look next at `loop.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..datasets.whole_file import read_text
from ..errors import InputError
from ..settings import CheckedSettings, setting
from ..share import find_share_file


@dataclass(frozen=True)
class NetworkChoice(CheckedSettings):
    """Choose the network and where its weights start."""

    name: str = setting("redc_lite", help="Network by name.")
    start: str = setting(
        "",
        help="Model file (.safetensors) or published checkpoint to start from, below --data or "
        "as it comes with the package; empty for none.",
    )
    # Of the network's own settings class, which checks them.
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceChoice(CheckedSettings):
    """Choose frames of one source (`sources.py`).

    `include` and `exclude` are lists of patterns for frame names, as in a shell.
    """

    path: str = setting("", help="SOURCE; relative paths start from --data.")
    name: str = setting("", help="Short name for tables; empty takes the folder's.")
    camera: str = setting(
        "image_02",
        choices=("image_00", "image_01", "image_02", "image_03"),
        help="Camera of a KITTI source.",
    )
    every: int = setting(1, range=(1, 100_000), help="Take every n-th frame.")
    weight: float = setting(
        1.0, range=(0.0, 1000.0), help="How often a frame is drawn, against the other sources'."
    )
    truth: str = setting(
        "auto",
        choices=("auto", "ground_truth", "hold_out"),
        help="ground_truth: frames without it are left out; hold_out: part of the LiDAR is held "
        "out of every frame; auto: of those without ground truth.",
    )
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class AugmentationSettings(CheckedSettings):
    """Vary samples (`augmentation.py`, `appearance.py`); by default nothing is varied.

    `hold_out`, `night`, `rain`, `fog` and the like are chances of a sample to get it.
    """

    bottom: tuple[float, ...] = setting(
        (), length=(0, 2), unit="px", help="Height and width of the bottom middle that is used."
    )
    crop: tuple[float, ...] = setting(
        (), length=(0, 2), unit="px", help="Height and width of samples; empty for whole images."
    )
    flip: float = setting(0.0, range=(0.0, 1.0), help="Chance to mirror, sensors included.")
    zoom: tuple[float, ...] = setting(
        (1.0, 1.0), length=(2,), range=(0.1, 10.0), help="Range of the factor on the image size."
    )
    largest_width: int = setting(
        0, unit="px", range=(0, 65536), help="Wider images are mostly shrunk to it; 0 for none."
    )
    metric_scale: float = setting(
        1.0, range=(1.0, 4.0), help="Largest factor on all lengths of the world."
    )
    rotation: float = setting(
        0.0, unit="deg", range=(0.0, 45.0), help="Largest turn about the optical axis."
    )
    color: float = setting(
        0.0, range=(0.0, 1.0), help="Largest change of brightness, contrast and each channel."
    )
    grey: float = setting(0.0, range=(0.0, 1.0), help="Chance of a picture without color.")
    noise: float = setting(0.0, range=(0.0, 1.0), help="Chance of a noisy or blurred picture.")
    night: float = setting(0.0, range=(0.0, 1.0), help="Chance of darkness with headlights.")
    rain: float = setting(0.0, range=(0.0, 1.0), help="Chance of rain, in picture and LiDAR.")
    fog: float = setting(0.0, range=(0.0, 1.0), help="Chance of fog, in picture and LiDAR.")
    hold_out: float = setting(
        0.0, range=(0.0, 1.0), help="Chance to hold out LiDAR of frames with ground truth too."
    )
    beams: float = setting(0.0, range=(0.0, 1.0), help="Chance to keep a few beams only.")
    dropout: float = setting(0.0, range=(0.0, 1.0), help="Chance to lose random points.")
    regions: float = setting(0.0, range=(0.0, 1.0), help="Chance of regions without points.")
    lidar_noise: float = setting(
        0.0, unit="m", range=(0.0, 1.0), help="Standard deviation of noise on measurements."
    )
    see_through: float = setting(
        0.0, range=(0.0, 0.5), help="Largest share of points displaced past edges."
    )
    calibration: float = setting(
        0.0, unit="deg", range=(0.0, 5.0), help="Standard deviation of a wrong LiDAR rotation."
    )

    def __post_init__(self) -> None:
        """Check the fields, and that sizes are whole and ranges rise."""
        super().__post_init__()
        for name in ("bottom", "crop"):
            if any(n < 16 or n != int(n) for n in getattr(self, name)):
                msg = f"{name}: found {getattr(self, name)}, expected whole numbers from 16 on"
                raise InputError(msg)
        if not self.zoom[0] <= self.zoom[1]:
            msg = f"zoom: found {self.zoom}, expected minimum <= maximum"
            raise InputError(msg)


@dataclass(frozen=True)
class DataSettings(CheckedSettings):
    """Choose what is trained on and what selects (`sources.py`, `samples.py`)."""

    cache: int = setting(
        0, unit="MiB", range=(0, 1_000_000), help="Memory for frames that are kept once read."
    )
    occlusion_filter: bool = setting(
        True, help="Remove see-through points from inputs, as completers do."
    )
    min_depth: float = setting(
        0.5, unit="m", range=(0.0, 100.0), help="Nearer measurements and truth are ignored."
    )
    max_depth: float = setting(
        250.0, unit="m", range=(0.1, 1000.0), help="Farther measurements and truth are ignored."
    )
    random_points: int = setting(
        0,
        range=(0, 1_000_000),
        help="Points that frames without LiDAR are measured at; 0 varies, and simulates LiDARs.",
    )
    sources: tuple[SourceChoice, ...] = ()


@dataclass(frozen=True)
class SelectionSettings(CheckedSettings):
    """Choose the model that is kept by drives and places set aside (`selection.py`)."""

    every: int = setting(
        0, unit="steps", range=(0, 10**9), help="Steps between two scores; 0 scores at ends only."
    )
    frames: int = setting(
        0, range=(0, 10**6), help="Most frames of one source, spread evenly; 0 for all."
    )
    sources: tuple[SourceChoice, ...] = ()


@dataclass(frozen=True)
class SupervisionPhase(CheckedSettings):
    """Weigh the outputs of a network up to an epoch (`losses.py`)."""

    until: float = setting(1e9, unit="epochs", range=(0.0, 1e9), help="End, exclusive.")
    final: float = setting(1.0, range=(0.0, 100.0), help="Weight of the result.")
    stages: tuple[float, ...] = setting(
        (), range=(0.0, 100.0), help="Weights of the earlier estimates, in their order."
    )


@dataclass(frozen=True)
class LossSettings(CheckedSettings):
    """Weigh the terms of the loss (`losses.py`); all are means over pixels with truth."""

    l1: float = setting(1.0, range=(0.0, 1000.0), help="Weight of the absolute error, metres.")
    l2: float = setting(1.0, range=(0.0, 1000.0), help="Weight of the squared error.")
    relative: float = setting(
        0.0, range=(0.0, 1000.0), help="Weight of the absolute error as a share of the depth."
    )
    l1_limit: float = setting(
        0.0, unit="m", range=(0.0, 1000.0), help="Larger errors count as this one; 0 for none."
    )
    l2_limit: float = setting(
        0.0, unit="m", range=(0.0, 1000.0), help="Beyond it the square goes on linearly; 0: never."
    )
    likelihood: float = setting(
        0.0, range=(0.0, 1000.0), help="Weight of Laplace's negative log likelihood of sigma."
    )
    gamma: float = setting(
        0.0, range=(0.0, 1.0), help="Weight of each estimate against the next; 0: result alone."
    )
    hold_out: float = setting(
        1.0, range=(0.0, 1000.0), help="Weight of samples whose truth is held-out LiDAR."
    )
    cost: float = setting(
        0.0, range=(0.0, 1000.0), help="Weight of CSPN++'s expected cost, kernels x iterations."
    )
    budget: float = setting(
        0.0, range=(0.0, 1000.0), help="Weight of CSPN++'s costs above its budgets."
    )
    bins: float = setting(
        0.0, range=(0.0, 1000.0), help="Weight of KernelNet's loss over the residual's bins."
    )
    bins_l1: float = setting(
        1.0, range=(0.0, 1000.0), help="In it, weight of the expected residual's error."
    )
    parameters: float = setting(
        0.0, range=(0.0, 1.0), help="Weight of the squared parameters in the loss."
    )
    phases: tuple[SupervisionPhase, ...] = ()


@dataclass(frozen=True)
class DistillationSettings(CheckedSettings):
    """Learn from another network's depth as well (`distillation.py`, METHODS: CDSPN)."""

    teacher: str = setting(
        "", help="Model file, or folder with depth/NAME.png as `complete` writes; empty: none."
    )
    depth: float = setting(
        0.1, range=(0.0, 1.0), help="Share of the squared distance to the teacher's depth."
    )
    gradient: float = setting(
        0.1, range=(0.0, 1.0), help="Share of the squared distance to its depth gradient."
    )

    def __post_init__(self) -> None:
        """Check the fields, and that something is left for the truth."""
        super().__post_init__()
        if self.depth + self.gradient > 1:
            msg = f"depth + gradient: found {self.depth + self.gradient:g}, expected at most 1"
            raise InputError(msg)


@dataclass(frozen=True)
class OptimiserSettings(CheckedSettings):
    """Choose how weights are changed."""

    kind: str = setting("adamw", choices=("adam", "adamw"), help="Optimiser.")
    rate: float = setting(1e-3, range=(0.0, 1.0), help="Learning rate before the schedule.")
    betas: tuple[float, ...] = setting(
        (0.9, 0.999), length=(2,), range=(0.0, 1.0), help="Decay of the moments."
    )
    weight_decay: float = setting(0.0, range=(0.0, 1.0), help="As the optimiser means it.")
    clip: float = setting(
        0.0, range=(0.0, 1e6), help="Largest norm of all gradients together; 0 for none."
    )
    ema: float = setting(
        0.0, range=(0.0, 0.999999), help="Decay of the averaged weights that are kept; 0: none."
    )


@dataclass(frozen=True)
class RateStep(CheckedSettings):
    """Change the learning rate from an epoch on."""

    epoch: float = setting(0.0, range=(0.0, 1e9), help="First epoch, counted from 0.")
    factor: float = setting(1.0, range=(0.0, 1.0), help="On the learning rate of the start.")


@dataclass(frozen=True)
class ScheduleSettings(CheckedSettings):
    """Choose how the learning rate changes over a stage (`schedule.py`)."""

    kind: str = setting(
        "cosine",
        choices=("constant", "cosine", "steps"),
        help="cosine falls to `final`; steps follow the list `steps`.",
    )
    warm_up: float = setting(
        0.0, range=(0.0, 1.0), help="Share of the stage in which the rate rises from 0."
    )
    final: float = setting(0.0, range=(0.0, 1.0), help="Factor at the end of the cosine.")
    by_epoch: bool = setting(False, help="Change at the start of epochs only.")
    ahead: int = setting(
        0, range=(0, 1), help="1 takes the next epoch's rate, as a published script does."
    )
    steps: tuple[RateStep, ...] = ()


@dataclass(frozen=True)
class StageSettings(CheckedSettings):
    """Train part of the network for a while; empty groups take the recipe's."""

    train: str = setting(
        "all",
        choices=("all", "backbone", "refinement"),
        help="backbone: alone, on its coarse depth; refinement: on a frozen backbone.",
    )
    epochs: float = setting(0.0, range=(0.0, 1e6), help="Length; epochs or steps.")
    steps: int = setting(0, range=(0, 10**9), help="Length; epochs or steps.")
    batch: int = setting(0, range=(0, 100_000), help="Samples of a step; 0 takes the run's.")
    rate: float = setting(0.0, range=(0.0, 1.0), help="Learning rate; 0 takes the optimiser's.")
    backbone_rate: float = setting(
        1.0, range=(0.0, 1.0), help="Factor on the learning rate of the backbone."
    )
    crop: tuple[float, ...] = setting(
        (), length=(0, 2), unit="px", help="Height and width; empty takes the augmentation's."
    )
    schedule: ScheduleSettings | None = None
    loss: LossSettings | None = None

    def __post_init__(self) -> None:
        """Check the fields, and that the length is given once."""
        super().__post_init__()
        if (self.epochs > 0) == (self.steps > 0):
            msg = f"found epochs {self.epochs:g} and steps {self.steps}, expected one of the two"
            raise InputError(msg)


@dataclass(frozen=True)
class RunSettings(CheckedSettings):
    """Choose where and how a run computes (`loop.py`)."""

    seed: int = setting(1, range=(0, 2**31 - 1), help="Weights, order and augmentation.")
    batch: int = setting(4, range=(1, 100_000), help="Samples of a step, over all processes.")
    device: str = setting("auto", help="auto, cpu, cuda or cuda:N.")
    precision: str = setting(
        "fp32", choices=("fp32", "bf16", "fp16"), help="Arithmetic of the forward pass."
    )
    threads: int = setting(0, range=(0, 1024), help="Threads of torch; 0 leaves it to torch.")
    workers: int = setting(
        0, range=(0, 256), help="Processes that make samples, per device; 0 makes them in between."
    )
    checkpoint_seconds: float = setting(
        300.0, unit="s", range=(0.0, 1e6), help="Time between two checkpoints."
    )
    log_every: int = setting(
        50, unit="steps", range=(1, 10**6), help="Steps over which a logged loss is averaged."
    )


@dataclass(frozen=True)
class Recipe(CheckedSettings):
    """Everything a training run depends on; the same recipe on the same machine repeats it."""

    network: NetworkChoice = NetworkChoice()
    data: DataSettings = DataSettings()
    selection: SelectionSettings = SelectionSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    distillation: DistillationSettings = DistillationSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    stages: tuple[StageSettings, ...] = ()
    run: RunSettings = RunSettings()

    def __post_init__(self) -> None:
        """Refuse a recipe without data or an end."""
        super().__post_init__()
        if not self.data.sources:
            msg = "data.sources: found none, expected one or more"
            raise InputError(msg)
        if not self.stages:
            msg = "stages: found none, expected one or more, such as {train: all, steps: 1000}"
            raise InputError(msg)

    def sha256(self) -> str:
        """Name the recipe by its content."""
        return hashlib.sha256(recipe_text(self).encode()).hexdigest()


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, from a file or by the name of one that comes with the package.

    Args:
        path: YAML file, or a name such as `redc_lite` of `config/train/`.
        changes: `group.setting=value` each, in YAML's notation, over what the file says.

    Raises:
        InputError: no such file, an unknown setting, or a value that its setting refuses.
    """
    import yaml

    file = Path(path).expanduser()
    if not file.is_file() and file.suffix == "" and len(file.parts) == 1:
        file = find_share_file(f"config/train/{path}.yaml")
    try:
        tree = yaml.safe_load(read_text(file))
        if not isinstance(tree, dict):
            msg = f"{file}: found no settings in it, expected YAML with network, data, stages, ..."
            raise InputError(msg)
        for change in changes:
            _apply(tree, change)
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        msg = f"{file}: no YAML ({first})"
        raise InputError(msg) from error
    try:
        return make_recipe(tree)
    except InputError as error:
        msg = f"{file}: {error}"
        raise InputError(msg) from None


def make_recipe(tree: Mapping[str, Any]) -> Recipe:
    """Make a recipe of nested mappings and lists, as YAML and JSON give them.

    Raises:
        InputError: an unknown setting, or a value that its setting refuses.
    """
    recipe: Recipe = _build(Recipe, tree, "")
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Write a recipe as JSON, every setting included; `make_recipe` reads it again."""
    return json.dumps(dataclasses.asdict(recipe), sort_keys=True)


def _build(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        msg = f"{where.rstrip('.') or 'recipe'}: found {values!r}, expected settings with names"
        raise InputError(msg)
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            msg = f"{where}{name}: unknown setting; expected one of {', '.join(known)}"
            raise InputError(msg)
    given = {name: _value(hints[name], value, f"{where}{name}") for name, value in values.items()}
    try:
        return kind(**given)
    except InputError as error:
        # The settings name themselves; what is said about all of them needs the group's name.
        msg = f"{where}{error}" if kind is not Recipe else str(error)
        raise InputError(msg) from None


def _value(kind: Any, value: Any, where: str) -> Any:
    """Convert what YAML gives to what a field holds; `CheckedSettings` checks plain values."""
    optional = [k for k in get_args(kind) if k is not type(None)]
    if type(None) in get_args(kind):
        return None if value is None else _value(optional[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{where}.")
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if not isinstance(value, list | tuple):
            msg = f"{where}: found {value!r}, expected a list"
            raise InputError(msg)
        if dataclasses.is_dataclass(inner):
            return tuple(_build(inner, v, f"{where}[{i}].") for i, v in enumerate(value))
        if inner is str and not all(isinstance(v, str) for v in value):
            msg = f"{where}: found {value!r}, expected a list of texts"
            raise InputError(msg)
        return tuple(value)
    if kind is float and isinstance(value, str):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            return value
    if get_origin(kind) is dict and not isinstance(value, Mapping):
        msg = f"{where}: found {value!r}, expected settings with names"
        raise InputError(msg)
    return dict(value) if isinstance(value, Mapping) else value


def _apply(tree: dict[str, Any], change: str) -> None:
    """Put one `group.setting=value` into a tree; numbers go into lists."""
    import yaml

    name, equals, text = change.partition("=")
    if not (name and equals):
        msg = f"--set: found {change!r}, expected GROUP.SETTING=VALUE"
        raise InputError(msg)
    *groups, last = name.split(".")
    place: Any = tree
    try:
        for group in groups:
            place = place[int(group)] if isinstance(place, list) else place.setdefault(group, {})
        place[int(last) if isinstance(place, list) else last] = yaml.safe_load(text)
    except (IndexError, ValueError, TypeError, AttributeError):
        msg = f"--set: {name}: nothing of that name can be set"
        raise InputError(msg) from None
