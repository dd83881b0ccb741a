"""A spinning LiDAR: every column of beams at its own time while everything moves.

Not here: where it is mounted (`rig.py`). It turns clockwise seen from above and starts backwards,
so that it looks forward when the cameras are triggered, in the middle of the revolution.
"""

from __future__ import annotations

import numpy as np

from ...data import Float32Array, Float64Array
from .mesh import Material
from .rays import RayCaster
from .recipe import SyntheticRecipe
from .rig import Rig
from .surface import Surface, SurfaceReader
from .trajectory import EgoMotion

# Reflectivity at 905 nm against the visible colour: leaves are bright, retroreflectors more so.
_NEAR_INFRARED = {
    Material.LEAVES: (3.0, 0.10),
    Material.GRASS: (2.5, 0.10),
    Material.FOREST: (3.0, 0.10),
    Material.SIGN: (3.0, 1.0),
    Material.PAINT: (0.7, 0.012),
    Material.CAR_END: (1.0, 0.02),
    Material.RUBBER: (1.0, 0.03),
    Material.CLOTH: (1.0, 0.12),
}
# An HDL-64E sees a tenth of the light to about 50 m and loses what is weaker.
_REFERENCE_RANGE, _REFERENCE_REFLECTIVITY = 50.0, 0.10
_MIN_RANGE = 0.9


def beam_elevations(recipe: SyntheticRecipe) -> Float64Array:
    """Give the elevation of each beam in radians, highest first.

    An HDL-64E has two blocks of 32 beams, the upper one denser; other counts are spread evenly.
    """
    top, bottom = recipe.lidar_top_deg, recipe.lidar_bottom_deg
    if recipe.beams == 64:
        split = top + 0.386 * (bottom - top)
        gap = (bottom - split) / 32
        degrees = np.concatenate(
            (np.linspace(top, split, 32), np.linspace(split + gap, bottom, 32))
        )
    else:
        degrees = np.linspace(top, bottom, recipe.beams)
    return np.asarray(np.radians(degrees), np.float64)


class LidarSensor:
    """Scan a scene."""

    def __init__(
        self,
        recipe: SyntheticRecipe,
        rig: Rig,
        caster: RayCaster,
        reader: SurfaceReader,
        ego: EgoMotion,
        fog: float,
    ) -> None:
        """Prepare the directions of all beams.

        Args:
            recipe: without `randomise`.
            rig: where the LiDAR sits.
            caster, reader: the scene.
            ego: motion of the vehicle.
            fog: extinction of light per metre.
        """
        self._recipe, self._rig, self._caster = recipe, rig, caster
        self._reader, self._ego, self._fog = reader, ego, fog
        columns = max(8, round(360 / recipe.azimuth_step_deg))
        turn = (np.arange(columns) + 0.5) / columns
        self._azimuth = np.pi - 2 * np.pi * turn
        self._delay = (turn - 0.5) / recipe.rate
        elevation = beam_elevations(recipe)
        a, e = np.meshgrid(self._azimuth, elevation, indexing="ij")
        self._directions = np.stack(
            (np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)), axis=-1
        )  # (columns, beams, 3)

    def scan(self, time: float, rng: np.random.Generator) -> Float32Array:
        """Measure one revolution.

        Args:
            time: seconds after the first frame when the LiDAR looks forward.
            rng: draws noise and losses.

        Returns:
            (N, 4) float32: x, y, z in metres in the LiDAR's frame at the moment of each
            measurement, and reflectance 0..1; in the order of measurement.
        """
        recipe = self._recipe
        _columns, beams, _ = self._directions.shape
        times = time + self._delay
        T = self._ego.poses(times).matrices() @ self._rig.T_base_lidar
        directions = np.einsum("cij,cbj->cbi", T[:, :3, :3], self._directions).reshape(-1, 3)
        origins = np.repeat(T[:, :3, 3], beams, axis=0)
        ray_times = np.repeat(times, beams)
        hits = self._caster.cast(origins, directions, ray_times)
        near = np.flatnonzero(hits.distance < recipe.max_range)
        surface = self._reader.read(hits, near, origins, directions, ray_times, 2e-3)
        reflectivity = _reflectivity(surface)
        kept = self._is_returned(surface, reflectivity, rng) & (surface.distance > _MIN_RANGE)
        measured = hits.distance[near] + rng.normal(0, recipe.range_noise, len(near))
        measured = self._add_drops(measured, kept, rng)
        points = self._directions.reshape(-1, 3)[near] * measured[:, None]
        scan = np.empty((len(near), 4), np.float32)
        scan[:, :3] = points
        scan[:, 3] = np.round(np.clip(reflectivity * (0.4 + 0.6 * surface.cosine), 0, 0.99), 2)
        return np.ascontiguousarray(scan[kept])

    def _is_returned(
        self, surface: Surface, reflectivity: Float32Array, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw which pulses come back strong enough.

        Rough ground sends more light back at grazing angles than Lambert's law says.
        """
        luck = rng.random(len(reflectivity))
        if self._recipe.dropout == 0:
            return np.ones(len(luck), bool)
        distance = np.maximum(surface.distance, 1.0)
        signal = reflectivity / _REFERENCE_REFLECTIVITY * (0.12 + 0.88 * surface.cosine)
        signal = signal * (_REFERENCE_RANGE / distance) ** 2 * np.exp(-2 * self._fog * distance)
        log = np.log(np.maximum(signal, 1e-9) / (0.4 * self._recipe.dropout))
        chance = 1 / (1 + np.exp(-log / 0.35))
        # Even strong returns are lost now and then.
        return np.asarray(luck < chance * (1 - 0.03 * min(self._recipe.dropout, 5.0)))

    def _add_drops(
        self, measured: Float64Array, kept: np.ndarray, rng: np.random.Generator
    ) -> Float64Array:
        """Let rain and dense fog send some pulses back too early."""
        share = {"rain": 0.003, "fog": 0.006}.get(self._recipe.weather, 0.0)
        if share:
            early = (rng.random(len(measured)) < share) & (measured > 3)
            measured = np.where(early, 1.5 + 6 * rng.random(len(measured)) ** 2, measured)
            kept |= early
        return measured


def _reflectivity(surface: Surface) -> Float32Array:
    """Give the share of infrared light that surfaces throw back; glass lets it through."""
    factor = np.ones(len(Material), np.float32)
    least = np.full(len(Material), 0.02, np.float32)
    for material, (multiple, minimum) in _NEAR_INFRARED.items():
        factor[material], least[material] = multiple, minimum
    kind = surface.material
    bright = surface.look.albedo.mean(axis=1) * factor[kind]
    bright = np.clip(np.maximum(bright, least[kind]), 0, 2)
    return np.asarray(bright * (1 - surface.look.glass) + 0.002 * surface.look.glass, np.float32)
