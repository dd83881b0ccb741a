"""What a synthetic drive is made from: a seed, sensors, weather.

Not here: how any of it looks. The same recipe gives the same bytes. Look next at `drive.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...settings import CheckedSettings, setting

# Sizes and fields of view of road vehicles' cameras that `randomise` draws from.
_SIZES = ((1242, 375), (1226, 370), (1216, 352), (1280, 384), (960, 480), (800, 450), (640, 480))
_BEAM_COUNTS = (8, 16, 16, 32, 32, 40, 64, 64, 64, 128)


@dataclass(frozen=True)
class SyntheticRecipe(CheckedSettings):
    """Choose everything about a drive; the defaults are KITTI's sensors on a fine day."""

    seed: int = setting(1, range=(0, 2**31 - 1), help="Street, traffic and noise follow from it.")
    randomise: bool = setting(
        False, help="Draw camera, LiDAR, mounting, light and weather from the seed."
    )
    frames: int = setting(50, range=(1, 100_000), help="Number of frames.")
    rate: float = setting(10.0, unit="Hz", range=(1.0, 30.0), help="Frames and scans per second.")
    speed: float = setting(8.0, unit="m/s", range=(0.0, 40.0), help="Mean speed of the drive.")
    moving_cars: int = setting(5, range=(0, 50), help="Cars that drive on the street.")
    parked_cars: float = setting(
        0.6, range=(0.0, 1.0), help="Share of the parking places that are taken."
    )
    trees: float = setting(0.7, range=(0.0, 1.0), help="How densely the street is planted.")

    cameras: str = setting(
        "both", choices=("image_02", "image_03", "both"), help="Cameras that are written."
    )
    width: int = setting(1242, unit="px", range=(16, 4096), help="Width of the images.")
    height: int = setting(375, unit="px", range=(16, 4096), help="Height of the images.")
    camera_fov_deg: float = setting(
        81.4, unit="deg", range=(20.0, 140.0), help="Horizontal field of view."
    )
    camera_height: float = setting(
        1.65, unit="m", range=(0.5, 4.0), help="Camera above the ground."
    )
    camera_pitch_deg: float = setting(
        0.0, unit="deg", range=(-30.0, 30.0), help="Tilt of the cameras, positive looks down."
    )
    baseline: float = setting(
        0.54, unit="m", range=(0.01, 3.0), help="Distance from image_02 to image_03."
    )
    image_format: str = setting("png", choices=("png", "jpg"), help="File type of the images.")
    image_noise: float = setting(
        1.0, range=(0.0, 10.0), help="Sensor noise as a multiple of a good camera's."
    )

    beams: int = setting(64, range=(1, 256), help="Beams of the LiDAR.")
    lidar_top_deg: float = setting(
        2.0, unit="deg", range=(-30.0, 60.0), help="Elevation of the highest beam."
    )
    lidar_bottom_deg: float = setting(
        -24.8, unit="deg", range=(-90.0, 30.0), help="Elevation of the lowest beam."
    )
    azimuth_step_deg: float = setting(
        0.1728, unit="deg", range=(0.02, 5.0), help="Turn of the LiDAR between two firings."
    )
    lidar_behind: float = setting(
        0.27, unit="m", range=(-5.0, 5.0), help="LiDAR behind the camera."
    )
    lidar_above: float = setting(0.08, unit="m", range=(-2.0, 3.0), help="LiDAR above the camera.")
    lidar_left: float = setting(0.0, unit="m", range=(-2.0, 2.0), help="LiDAR left of camera 0.")
    range_noise: float = setting(
        0.02, unit="m", range=(0.0, 1.0), help="Standard deviation of a measured range."
    )
    max_range: float = setting(
        120.0, unit="m", range=(1.0, 250.0), help="Nothing farther is measured."
    )
    dropout: float = setting(
        1.0,
        range=(0.0, 10.0),
        help="How easily weak returns are lost, as a multiple of an HDL-64E's; 0 loses none.",
    )

    weather: str = setting(
        "clear", choices=("clear", "overcast", "rain", "fog"), help="Weather of the drive."
    )
    night: bool = setting(False, help="Street lamps and headlights instead of the sun.")
    sun_azimuth_deg: float = setting(
        60.0,
        unit="deg",
        range=(-360.0, 360.0),
        help="Direction of the sun, counter-clockwise from the start of the street.",
    )
    sun_elevation_deg: float = setting(
        42.0, unit="deg", range=(3.0, 90.0), help="Height of the sun above the horizon."
    )

    def __post_init__(self) -> None:
        """Check the fields, and that the LiDAR's beams have an order."""
        super().__post_init__()
        if self.beams > 1 and not self.lidar_bottom_deg < self.lidar_top_deg:
            msg = (
                f"lidar_top_deg: found {self.lidar_top_deg:g} not above lidar_bottom_deg "
                f"{self.lidar_bottom_deg:g}; swap them"
            )
            raise InputError(msg)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Folders of the cameras that are written."""
        return ("image_02", "image_03") if self.cameras == "both" else (self.cameras,)


def draw_recipe(recipe: SyntheticRecipe) -> SyntheticRecipe:
    """Replace `randomise` by what the seed draws; a recipe without it stays as it is.

    Args:
        recipe: seed, number of frames and cameras are kept; the image keeps at most its pixels.

    Returns:
        A recipe with `randomise` off.
    """
    if not recipe.randomise:
        return recipe
    rng = np.random.default_rng([recipe.seed, 7])
    beams = int(rng.choice(_BEAM_COUNTS))
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    shrink = min(1.0, float(np.sqrt(recipe.width * recipe.height / (width * height))))
    top = rng.uniform(2, 4) if beams == 64 else rng.uniform(2, 15)
    weather = str(rng.choice(("clear", "clear", "clear", "overcast", "overcast", "rain", "fog")))
    return dataclasses.replace(
        recipe,
        randomise=False,
        speed=float(rng.uniform(3, 14)),
        moving_cars=int(rng.integers(1, 9)),
        parked_cars=float(rng.uniform(0.1, 0.9)),
        trees=float(rng.uniform(0.1, 1.0)),
        width=int(width * shrink),
        height=int(height * shrink),
        camera_fov_deg=float(rng.uniform(60, 100)),
        camera_height=float(rng.uniform(1.2, 2.2)),
        camera_pitch_deg=float(rng.normal(1.0, 2.0)),
        beams=beams,
        lidar_top_deg=float(top),
        lidar_bottom_deg=float(rng.uniform(-25, -15)),
        azimuth_step_deg=float(rng.choice((0.1728, 0.2, 0.2, 0.4))),
        lidar_behind=float(rng.uniform(-0.3, 0.9)),
        lidar_above=float(rng.uniform(0.0, 0.5)),
        lidar_left=float(rng.normal(0, 0.2)),
        range_noise=float(rng.uniform(0.005, 0.03)),
        dropout=float(rng.uniform(0.5, 2.0)),
        image_noise=float(rng.uniform(0.5, 3.0)),
        weather=weather,
        night=bool(rng.random() < 0.15),
        sun_azimuth_deg=float(rng.uniform(-180, 180)),
        sun_elevation_deg=float(rng.uniform(12, 65)),
    )


def read_recipe(path: str | Path) -> SyntheticRecipe:
    """Read a recipe from a YAML file whose top-level key is `synthetic`.

    Args:
        path: the file; a setting it leaves out keeps its default.

    Returns:
        The checked recipe.

    Raises:
        InputError: the file cannot be read, or a name or value in it is not allowed.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        msg = f"{path}: cannot be read as YAML ({reason}); expected a recipe"
        raise InputError(msg) from error
    if not isinstance(content, dict) or "synthetic" not in content:
        msg = f"{path}: found no top-level key 'synthetic'; expected a synthetic recipe"
        raise InputError(msg)
    values = content["synthetic"] or {}
    known = [field.name for field in dataclasses.fields(SyntheticRecipe)]
    if not isinstance(values, dict):
        msg = f"{path}: found {values!r} under 'synthetic', expected settings such as 'seed: 1'"
        raise InputError(msg)
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        msg = f"{path}: unknown setting {unknown[0]!r}; expected some of {', '.join(known)}"
        raise InputError(msg)
    try:
        return SyntheticRecipe(**values)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from None
