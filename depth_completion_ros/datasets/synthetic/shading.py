"""Light on surfaces: sun and its shadows, sky, lamps at night, fog; and the sky itself.

Not here: patterns (`textures.py`) and what a camera makes of the light (`camera.py`). Colours are
linear; 1 is white paper under the zenith sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Float32Array, Float64Array
from .mesh import Material
from .rays import RayCaster
from .recipe import SyntheticRecipe
from .scene import Scene
from .surface import Surface
from .textures import PatternBook


@dataclass(frozen=True)
class Light:
    """Hold the light of a drive, linear RGB.

    Attributes:
        sun_direction: (3,) unit, towards the sun.
        sun: (3,) light of the sun on a surface that faces it.
        zenith, horizon: (3,) colours of the sky.
        ground: (3,) light that the ground throws back.
        fog: extinction per metre.
        wetness: 0 dry to 1 wet.
        night: True to switch the lamps on.
    """

    sun_direction: Float64Array
    sun: Float32Array
    zenith: Float32Array
    horizon: Float32Array
    ground: Float32Array
    fog: float
    wetness: float
    night: bool


def choose_light(recipe: SyntheticRecipe) -> Light:
    """Turn weather and time of the day into light.

    Args:
        recipe: without `randomise`.

    Returns:
        The light.
    """

    def rgb(*values: float) -> Float32Array:
        return np.array(values, np.float32)

    azimuth, elevation = np.radians((recipe.sun_azimuth_deg, recipe.sun_elevation_deg))
    direction = np.array(
        (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth),
         np.sin(elevation))
    )  # fmt: skip
    # Low sun is weaker and redder.
    low = float(np.exp(-np.sin(elevation) / 0.18))
    sun = rgb(2.5, 2.35, 2.1) * (1 - 0.45 * low) * rgb(1, 1 - 0.25 * low, 1 - 0.55 * low)
    zenith, horizon, ground = rgb(0.22, 0.38, 0.78), rgb(0.85, 0.95, 1.05), rgb(0.16, 0.15, 0.13)
    fog, wetness = 0.0010, 0.0
    if recipe.weather in ("overcast", "rain"):
        sun = sun * np.float32(0.0)
        zenith, horizon, ground = rgb(0.85, 0.88, 0.92), rgb(0.95, 0.97, 1.0), rgb(0.2, 0.2, 0.2)
        fog = 0.0015
    if recipe.weather == "rain":
        zenith, horizon = zenith * np.float32(0.55), horizon * np.float32(0.6)
        fog, wetness = 0.003, 1.0
    if recipe.weather == "fog":
        sun = sun * np.float32(0.08)
        zenith, horizon, ground = rgb(0.7, 0.72, 0.74), rgb(0.72, 0.73, 0.74), rgb(0.2, 0.2, 0.2)
        fog, wetness = 0.03, 0.3
    if recipe.night:
        sun = sun * np.float32(0.0)
        zenith, horizon, ground = rgb(0.004, 0.006, 0.014), rgb(0.02, 0.017, 0.014), ground * 0.02
    return Light(direction, sun, zenith, horizon, ground, fog, wetness, recipe.night)


class Shader:
    """Light up what rays hit."""

    def __init__(self, scene: Scene, caster: RayCaster, book: PatternBook, light: Light) -> None:
        """Keep what casts shadows and gives light."""
        self._scene, self._caster, self._book, self.light = scene, caster, book, light

    def sky(self, directions: Float32Array) -> Float32Array:
        """Give the colour of the sky in (N, 3) unit directions, linear (N, 3)."""
        light = self.light
        up = np.clip(directions[:, 2], 0, 1)[:, None]
        colour = light.horizon + (light.zenith - light.horizon) * (1 - np.exp(-3.2 * up))
        if light.night:
            return np.asarray(colour, np.float32)
        flat = directions[:, :2] / np.maximum(directions[:, 2:], 0.03)
        n = self._book.noise
        x, y = flat[:, 0].copy(), flat[:, 1].copy()
        zero = np.zeros(len(x), np.float32)
        clouds = n(x, y, 1.3, zero) + 0.5 * n(x, y, 0.45, zero) + 0.25 * n(x, y, 0.16, zero)
        cover = 0.15 if light.sun.max() > 0.5 else 0.7
        share = np.clip((clouds - 1.0 + cover) * 0.7, 0, 1) * np.clip(up[:, 0] * 6, 0, 1)
        colour = colour + share[:, None] * (np.float32(1.05) * light.horizon.max() - colour)
        glow = np.clip(directions @ light.sun_direction.astype(np.float32), 0, 1)
        halo = (0.5 * glow**8 + 30 * np.clip(glow - 0.9994, 0, 1) / 0.0006)[:, None]
        return np.asarray(colour + halo * light.sun, np.float32)

    def shade(
        self, surface: Surface, time: float, headlights: tuple[Float64Array, Float64Array]
    ) -> Float32Array:
        """Give the light that comes from surfaces to the viewer.

        Args:
            surface: N places.
            time: seconds after the first frame.
            headlights: position and direction of the ego vehicle's, world.

        Returns:
            (N, 3) float32 linear colour.
        """
        light, look = self.light, surface.look
        up = surface.normals[:, 2:] * 0.5 + 0.5
        sky = 0.55 * light.zenith + 0.45 * light.horizon
        received = (light.ground + (sky - light.ground) * up) * np.float32(0.42)
        # Nothing stands near enough to the ground to be baked: a soft fall-off must do.
        received = received * self._occlusion(surface)[:, None]
        sun = np.zeros(len(surface.distance), np.float32)
        if light.sun.max() > 0:
            sun = self._sunlight(surface, time)
            received = received + sun[:, None] * light.sun
        if light.night:
            received = received + self._lamplight(surface, headlights)
        albedo = look.albedo
        is_ground = (surface.flat[:, 2] > 0.8) & (surface.material <= 2)
        if light.wetness > 0:
            albedo = albedo * (1 - 0.45 * light.wetness * (surface.flat[:, 2:] > 0.3))
        colour: NDArray[Any] = albedo * received
        gloss = look.gloss + np.float32(0.02 * light.wetness) * is_ground
        shiny = np.flatnonzero(gloss > 0.002)
        colour[shiny] += self._mirrored(surface, shiny, gloss[shiny], sun[shiny])
        if light.night:
            colour += (look.glow * np.float32(0.6))[:, None] * np.where(
                look.glass[:, None] > 0.5, np.array((0.5, 0.36, 0.18), np.float32), albedo + 0.1
            )
        if light.fog > 0:
            clear = np.exp(-light.fog * surface.distance)[:, None]
            colour = colour * clear + light.horizon * np.float32(0.9) * (1 - clear)
        return np.asarray(colour, np.float32)

    def _occlusion(self, surface: Surface) -> Float32Array:
        # Leaves deep in a crown and the undersides of things see little sky.
        below = np.clip(-surface.flat[:, 2], 0, 1)
        return np.asarray(1 - 0.6 * below, np.float32)

    def _sunlight(self, surface: Surface, time: float) -> Float32Array:
        direction = self.light.sun_direction
        toward = surface.normals @ direction.astype(np.float32)
        flat = surface.flat @ direction.astype(np.float32)
        leaves = surface.material == Material.LEAVES
        # Leaves let light through: their far side is lit as well, less.
        toward = np.where(leaves, np.where(toward > 0, toward, -0.35 * toward), toward)
        lit = np.flatnonzero((toward > 0) & (leaves | (flat > 0)))
        offset = np.where(leaves[lit], 0.12, 0.01)[:, None]
        start = surface.points[lit] + surface.flat[lit] * np.where(leaves[lit], 0.0, 0.01)[:, None]
        start = start + direction * offset
        free = ~self._caster.is_shadowed(start, direction, time)
        sun = np.zeros(len(toward), np.float32)
        sun[lit] = toward[lit] * free
        return sun

    def _mirrored(
        self, surface: Surface, rows: NDArray[np.intp], gloss: NDArray[Any], sun: Float32Array
    ) -> Float32Array:
        """Reflect the sky, or dark houses below it, with Schlick's Fresnel term."""
        normal, view = surface.normals[rows], surface.view[rows]
        along = np.einsum("ij,ij->i", normal, view)
        mirrored = view - 2 * along[:, None] * normal
        fresnel = gloss + (1 - gloss) * np.clip(1 + along, 0, 1) ** 5 * np.clip(12 * gloss, 0, 0.6)
        seen = self.sky(mirrored)
        # Around a street the horizon is houses and trees up to about twenty degrees. A wet road is
        # too rough to show where they end.
        rough = normal[:, 2] > 0.95
        skyline = 0.22 + np.where(rough, 0.0, 0.1) * self._book.noise(
            mirrored[:, 0].copy(), mirrored[:, 1].copy(), 0.06, np.zeros(len(rows), np.float32)
        )
        share = np.clip((mirrored[:, 2] - skyline) * np.where(rough, 2, 12) + 0.3, 0, 1)[:, None]
        around = np.float32(0.14) * (self.light.horizon + 0.25 * self.light.sun)
        seen = around + (seen - around) * share
        highlight = np.clip(mirrored @ self.light.sun_direction.astype(np.float32), 0, 1) ** 200
        seen = seen + (25 * highlight * (sun > 0))[:, None] * self.light.sun
        return np.asarray(fresnel[:, None] * seen, np.float32)

    def _lamplight(
        self, surface: Surface, headlights: tuple[Float64Array, Float64Array]
    ) -> Float32Array:
        points = surface.points.astype(np.float32)
        received = np.zeros((len(points), 3), np.float32)
        viewer = points.mean(axis=0)
        lamps = self._scene.lamps.astype(np.float32)
        near = np.argsort(((lamps - viewer) ** 2).sum(axis=1))[:14]
        for lamp in lamps[near]:
            to_lamp = lamp - points
            squared = (to_lamp**2).sum(axis=1)
            facing = np.clip((surface.normals * to_lamp).sum(axis=1), 0, None)
            downward = np.clip(to_lamp[:, 2], 0, None) ** 2
            strength = 9.0 * facing * downward / np.maximum(squared, 1) ** 2.5
            received += strength[:, None] * np.array((1.0, 0.72, 0.4), np.float32)
        position, ahead = (a.astype(np.float32) for a in headlights)
        to_point = points - position
        distance = np.maximum(np.linalg.norm(to_point, axis=1), 0.5)
        axis = to_point @ ahead / distance
        facing = np.clip(-(surface.normals * to_point).sum(axis=1) / distance, 0, 1)
        beam = np.exp(-((1 - np.clip(axis, 0, 1)) / 0.035)) * (axis > 0)
        strength = 55.0 * beam * facing / (distance**2 + 10)
        received += strength[:, None] * np.array((1.0, 0.95, 0.85), np.float32)
        return received
