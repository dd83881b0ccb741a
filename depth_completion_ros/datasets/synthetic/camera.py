"""What a camera sees: exact depth, and a picture with a lens and a sensor.

Not here: light and patterns (`shading.py`, `textures.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Float32Array, Float64Array, UInt8Array
from .rays import Hits, RayCaster
from .recipe import SyntheticRecipe
from .rig import Rig
from .shading import Shader
from .surface import SurfaceReader

# Places within a pixel, besides its centre, that are looked at where something ends in it.
_SUBPIXELS = ((-0.33, -0.22), (0.33, 0.22))
# Largest depth that a 16-bit KITTI depth map can hold is 255.99 m.
_MAX_DEPTH = 250.0


@dataclass(frozen=True)
class View:
    """Hold what a camera took.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along z, exact at the pixel centres, 0 for the sky.
    """

    image: UInt8Array
    depth: Float32Array


@dataclass(frozen=True)
class _Moment:
    """Hold where a camera is when it takes a picture, and its car's headlights."""

    R: Float64Array
    origin: Float64Array
    time: float
    headlights: tuple[Float64Array, Float64Array]


class CameraSensor:
    """Take pictures of a scene."""

    def __init__(
        self,
        recipe: SyntheticRecipe,
        rig: Rig,
        caster: RayCaster,
        reader: SurfaceReader,
        shader: Shader,
    ) -> None:
        """Prepare the rays of every pixel."""
        self._recipe, self._rig, self._caster = recipe, rig, caster
        self._reader, self._shader = reader, shader
        u, v = np.meshgrid(np.arange(rig.width), np.arange(rig.height))
        self._angle = 1.0 / rig.K[0, 0]
        x = (u - rig.K[0, 2]) / rig.K[0, 0]
        y = (v - rig.K[1, 2]) / rig.K[1, 1]
        self._rays = np.stack((x, y, np.ones_like(x)), axis=-1).reshape(-1, 3)
        # Natural vignetting is the fourth power of the cosine; lenses correct half of it.
        self._vignette = ((1 + x**2 + y**2) ** -0.6).astype(np.float32)[..., None]

    def take(
        self, T_world_base: Float64Array, camera: int, time: float, rng: np.random.Generator
    ) -> View:
        """Take one picture.

        Args:
            T_world_base: (4, 4) place of the vehicle.
            camera: 0 to 3.
            time: seconds after the first frame.
            rng: draws the sensor's noise.

        Returns:
            Image and exact depth.
        """
        rig = self._rig
        T = T_world_base @ rig.T_base_rect
        origin = T[:3, :3] @ -rig.shifts[camera] + T[:3, 3]
        ahead = T_world_base[:3, :3] @ (np.cos(0.03), 0, -np.sin(0.03))
        lamps = T_world_base[:3, :3] @ (0.6, 0, 0.65) + T_world_base[:3, 3]
        moment = _Moment(T[:3, :3], origin, time, (lamps, ahead))
        hits, colour = self._look(self._rays, moment)
        edges = np.flatnonzero(self._find_edges(hits).ravel())
        if len(edges):
            for offset in _SUBPIXELS:
                step = (*(np.array(offset) / np.diag(rig.K)[:2]), 0.0)
                colour[edges] += self._look(self._rays[edges] + step, moment)[1]
            colour[edges] /= 1 + len(_SUBPIXELS)
        depth = hits.distance.reshape(rig.height, rig.width)
        shown: Float32Array = np.where(depth < _MAX_DEPTH, depth, 0.0).astype(np.float32)
        image = self._expose(colour.reshape(rig.height, rig.width, 3), rng)
        return View(image, shown)

    def _look(self, rays: Float64Array, moment: _Moment) -> tuple[Hits, Float32Array]:
        """Give what lies in (N, 3) directions of the optical frame, and its light.

        Rays have z = 1, so that their lengths are depths.
        """
        d = rays @ moment.R.T
        hits = self._caster.cast(moment.origin, d, moment.time)
        seen = np.isfinite(hits.distance)
        sky, seen = np.flatnonzero(~seen), np.flatnonzero(seen)
        colour = np.empty((len(d), 3), np.float32)
        unit = d[sky] / np.linalg.norm(d[sky], axis=1, keepdims=True)
        colour[sky] = self._shader.sky(unit.astype(np.float32))
        surface = self._reader.read(hits, seen, moment.origin, d, moment.time, self._angle)
        colour[seen] = self._shader.shade(surface, moment.time, moment.headlights)
        return hits, np.minimum(colour, np.float32(2.5))

    def _find_edges(self, hits: Hits) -> np.ndarray:
        """Find pixels whose neighbour shows another surface."""
        shape = (self._rig.height, self._rig.width)
        faces = self._caster.faces
        inverse = (1 / hits.distance).reshape(shape)
        kind = faces.material[hits.face].astype(np.int16)
        kind = np.where(hits.face < 0, -1, kind).reshape(shape)
        tone = (faces.tint[hits.face].sum(axis=1) * 200).astype(np.int16).reshape(shape)
        edge = np.zeros(shape, bool)
        for axis in (0, 1):
            a = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            b = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
            other = (kind[a] != kind[b]) | (tone[a] != tone[b])
            # Inverse depth is linear over a plane: a jump is an edge, a steep plane is none.
            jump = np.abs(inverse[a] - inverse[b]) > 0.02 * np.maximum(inverse[a], inverse[b])
            edge[a] |= other | jump
            edge[b] |= other | jump
        return edge

    def _expose(self, light: NDArray[Any], rng: np.random.Generator) -> UInt8Array:
        """Turn light into an 8-bit picture: exposure, lens, noise, tone curve."""
        import cv2

        recipe = self._recipe
        light = light * self._vignette
        if recipe.weather == "rain":
            light = _draw_rain(light, rng)
        grey = light.mean(axis=2)
        # The automatic exposure looks at the lower part, where the street is.
        middle = float(np.exp(np.log(grey[len(grey) // 3 :] + 1e-3).mean()))
        target = 0.07 if recipe.night else 0.165
        exposure = float(np.clip((target / middle) ** 0.8, 0.4, 6.0))
        light = cv2.GaussianBlur(light * np.float32(exposure), (0, 0), 0.45)
        amount = recipe.image_noise * (2.5 if recipe.night else 1.0)
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        light = light + noise * amount * (0.0022 + 0.010 * np.sqrt(np.maximum(light, 0)))
        shown: NDArray[Any] = np.clip(light, 0, None)
        # Contrast of a sensor without much processing: nearly straight, soft only near white.
        shown = np.where(shown < 0.7, shown, 0.7 + 0.3 * (1 - np.exp(-(shown - 0.7) / 0.3)))
        shown = shown ** np.float32(1 / 2.1)
        return np.asarray(np.rint(np.clip(shown, 0, 1) * 255), np.uint8)


def _draw_rain(light: NDArray[Any], rng: np.random.Generator) -> Float32Array:
    """Draw streaks of falling drops and a few blurred drops on the windscreen."""
    import cv2

    height, width = light.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for _ in range(width * height // 900):
        x, y = rng.uniform(0, width), rng.uniform(-20, height)
        length = rng.uniform(0.02, 0.07) * height
        ends = ((int(x), int(y)), (int(x + 0.08 * length), int(y + length)))
        cv2.line(streaks, *ends, float(rng.uniform(0.02, 0.12)), 1, cv2.LINE_AA)
    light = light + streaks[..., None] * np.float32(0.8) * (0.3 + light.mean())
    blurred = cv2.GaussianBlur(light, (0, 0), 5)
    drops: NDArray[Any] = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(6, 18))):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.circle(drops, centre, int(rng.uniform(0.005, 0.02) * width), 1.0, -1)
    drops = cv2.GaussianBlur(drops, (0, 0), 2.0)[..., None]
    return np.asarray(light + drops * (np.float32(1.1) * blurred - light), np.float32)
