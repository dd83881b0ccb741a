"""Patterns of the materials: colour, gloss and glass by texture coordinates.

Not here: light (`shading.py`). A pattern is a function of the place on the surface alone, so it
is the same in every frame, in both cameras and for the LiDAR. Details finer than a pixel's
footprint fade to their mean instead of flickering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Float32Array
from .mesh import Material

_LATTICE = 512


@dataclass(frozen=True, eq=False)
class Patch:
    """Hold N places on surfaces of one material.

    Attributes:
        u, v: (N,) float32 texture coordinates, metres.
        du, dv: (N,) float32 how far a pixel reaches along u and v, metres.
        tint: (N, 3) float32 base colour.
        style: (N, 4) float32 numbers of the pattern.
    """

    u: Float32Array
    v: Float32Array
    du: Float32Array
    dv: Float32Array
    tint: Float32Array
    style: Float32Array


@dataclass(frozen=True, eq=False)
class Look:
    """Hold how N places look.

    Attributes:
        albedo: (N, 3) float32 linear.
        gloss: (N,) float32, share of the mirror image at normal incidence; 0 is matt.
        glass: (N,) float32, share of the place that is glass.
        glow: (N,) float32, light it gives off, as a multiple of its albedo.
    """

    albedo: Float32Array
    gloss: Float32Array
    glass: Float32Array
    glow: Float32Array


class PatternBook:
    """Give every material its pattern, from one seed."""

    def __init__(self, seed: int) -> None:
        """Draw the lattice of random numbers that all noise comes from."""
        rng = np.random.default_rng([seed, 2])
        self._lattice = rng.standard_normal((_LATTICE, _LATTICE)).astype(np.float32)
        self._table = rng.random(_LATTICE * _LATTICE).astype(np.float32)

    def look(self, material: int, patch: Patch) -> Look:
        """Look up the pattern of a material.

        Args:
            material: a `Material`.
            patch: where.

        Returns:
            Colour and shine of each place.
        """
        zeros = np.zeros(len(patch.u), np.float32)
        pattern = _PATTERNS.get(Material(material), _plain)
        albedo, gloss, glass, glow = pattern(self, patch)
        parts = (zeros + part for part in (gloss, glass, glow))
        return Look(np.maximum(albedo, 0).astype(np.float32), *parts)

    def noise(
        self, u: NDArray[Any], v: NDArray[Any], wavelength: float, reach: NDArray[Any] | float
    ) -> Float32Array:
        """Give smooth noise of unit size that fades where a pixel covers more than a wave.

        Args:
            u, v: (N,) metres.
            wavelength: metres between two random values.
            reach: (N,) metres that one pixel covers.

        Returns:
            (N,) float32, mean 0.
        """
        import cv2

        count = len(u)
        rows = -(-count // 1024)
        grid = np.zeros((2, rows * 1024), np.float32)
        np.mod(u * np.float32(1 / wavelength), _LATTICE, out=grid[0, :count])
        np.mod(v * np.float32(1 / wavelength), _LATTICE, out=grid[1, :count])
        x, y = grid.reshape(2, rows, 1024)
        value = cv2.remap(self._lattice, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        fade: NDArray[Any] = np.clip(1.5 - reach / np.float32(wavelength), 0, 1)
        return np.asarray(value.ravel()[:count] * fade, np.float32)

    def chance(self, *cells: NDArray[Any]) -> Float32Array:
        """Give a number in [0, 1) that belongs to integer cells."""
        key = np.zeros(len(cells[0]), np.int64)
        for cell in cells:
            key = key * 73_856_093 + np.floor(cell).astype(np.int64) * 19_349_663 + 83_492_791
            key ^= key >> 13
        return np.asarray(self._table[key % len(self._table)])


# Albedo, gloss, glass, glow; numpy may have widened them, `look` makes them float32.
_Values = NDArray[Any]
_Result = tuple[_Values, _Values | float, _Values | float, _Values | float]


def _inside(x: _Values, low: float, high: float, reach: _Values) -> _Values:
    """Share of a pixel of width `reach` around x that lies between two limits."""
    half = np.maximum(reach, 1e-4) / 2
    span = np.minimum(x + half, high) - np.maximum(x - half, low)
    return np.clip(span / (2 * half), 0, 1)


def _lines(x: _Values, pitch: float, width: float, reach: _Values) -> _Values:
    """Share of a pixel that lies on lines of a width at every multiple of the pitch."""
    near = np.abs(x - pitch * np.round(x / pitch))
    share = _inside(near, -1.0, width / 2, reach)
    mean = np.float32(width / pitch)
    blend = np.clip(reach / pitch * 2 - 0.5, 0, 1)
    return np.asarray(share + (mean - share) * blend)


def _plain(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.05 * book.noise(p.u, p.v, 0.4, reach) + 0.04 * book.noise(p.u, p.v, 0.05, reach)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _asphalt(book: PatternBook, p: Patch) -> _Result:
    """Grain, patches, seams and stains; lane marks where it is not a side street."""
    u, v, du, dv = p.u, p.v, p.du, p.dv
    reach = np.maximum(du, dv)
    n = book.noise
    tone = 1 + 0.24 * n(u, v, 0.013, reach) + 0.12 * n(u, v, 0.04, reach)
    tone += 0.05 * n(u, v, 0.17, reach) + 0.025 * n(u, v, 1.1, reach)
    tone += 0.05 * n(0.3 * u, 2 * v, 4.0, reach)
    # Repairs: rectangles of another mixture with a dark seam of tar around.
    cell_u, cell_v = np.floor(u / 9.0), np.floor(v / 2.2)
    repaired = book.chance(cell_u, cell_v) < 0.16
    shade = 0.75 + 0.45 * book.chance(cell_u, cell_v, cell_u * 0 + 5)
    tone *= np.where(repaired, shade, 1.0)
    seam = np.maximum(_lines(u, 9.0, 0.05, du), _lines(v, 2.2, 0.04, dv))
    tone *= 1 - 0.35 * seam * repaired
    # Tracks of tyres are worn, the middle of a lane is stained.
    lane = p.style[:, 0]
    across = np.abs(v) - lane / 2
    tone *= (
        1
        - 0.10 * np.exp(-((across / 0.35) ** 2))
        + 0.05 * np.exp(-(((np.abs(across) - 0.8) / 0.3) ** 2))
    )
    # Cracks run where two slow noises cancel, in some stretches only.
    crack = np.abs(n(u, v, 2.7, reach) + 0.35 * n(u, v, 0.3, reach))
    cracked = np.clip(n(u, v, 7.0, reach) - 0.3, 0, 1)
    tone *= 1 - 0.4 * cracked * np.clip(1 - crack / 0.04, 0, 1)
    albedo = p.tint * tone[:, None]
    edge, on_street = p.style[:, 1], p.style[:, 3] < 0.5
    dash = _inside(np.mod(u, 9.0), 0.0, 3.4, du)
    middle = _inside(np.abs(v), -1.0, 0.065, dv) * dash
    parked = _inside(np.abs(v) - lane, 0.0, 0.11, dv) * _inside(np.mod(u, 2.0), 0, 1.1, du)
    parked = parked * (p.style[:, 2] > 0)
    gutter = np.abs(v) > edge - 0.28
    bays = np.maximum(middle, parked) * on_street
    worn = np.clip(0.85 + 0.35 * n(u, v, 0.12, reach) + 0.3 * n(u, v, 0.8, reach), 0, 1)
    paint = (bays * worn)[:, None]
    albedo = albedo * np.where(gutter & on_street, 0.82, 1.0)[:, None]
    albedo = albedo + paint * (np.float32(0.55) - albedo)
    return albedo, 0.004, 0.0, 0.0


def _kerb(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.10 * book.noise(p.u, p.v, 0.5, reach) + 0.08 * book.noise(p.u, p.v, 0.04, reach)
    tone *= 1 - 0.4 * _lines(p.u, 1.0, 0.015, p.du)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _paving(book: PatternBook, p: Patch) -> _Result:
    row = np.floor(p.v / 0.4)
    u = p.u + 0.2 * np.mod(row, 2)
    reach = np.maximum(p.du, p.dv)
    seen = np.clip(1.5 - reach / 0.4, 0, 1)
    tone = 1 + 0.22 * (book.chance(u / 0.4, row) - 0.5) * seen
    joints = np.maximum(_lines(u, 0.4, 0.012, p.du), _lines(p.v, 0.4, 0.012, p.dv))
    tone *= 1 - 0.45 * joints
    tone += 0.06 * book.noise(p.u, p.v, 1.7, reach) + 0.07 * book.noise(p.u, p.v, 0.03, reach)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _grass(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    n = book.noise
    tone = 1 + 0.25 * n(p.u, p.v, 0.05, reach) + 0.2 * n(p.u, p.v, 0.25, reach)
    tone += 0.2 * n(p.u, p.v, 2.3, reach)
    dry = np.clip(0.25 + 0.35 * n(p.u, p.v, 3.1, reach) + 0.2 * n(p.u, p.v, 0.4, reach), 0, 1)
    straw = np.array((0.19, 0.16, 0.07), np.float32)
    albedo = p.tint + dry[:, None] * (straw - p.tint)
    return albedo * tone[:, None], 0.0, 0.0, 0.0


def _facade(book: PatternBook, p: Patch) -> _Result:
    """Plaster or bricks with a window in every bay of every floor, above a plinth."""
    u, v = p.u, p.v
    pitch, house, share = np.maximum(p.style[:, 0], 0.5), p.style[:, 1], p.style[:, 2]
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.05 * book.noise(u, v, 1.5, reach) + 0.05 * book.noise(u, v, 0.06, reach)
    stain = book.noise(u, 0.15 * v, 0.5, p.du)
    tone *= 1 - 0.06 * np.clip(stain, 0, 2) - 0.12 * np.exp(-np.maximum(v, 0) / 0.5)
    bricks = p.style[:, 3] > 0.5
    if bricks.any():
        tone[bricks] *= _brick_tone(book, u[bricks], v[bricks], p.du[bricks], p.dv[bricks])
    albedo: _Values = p.tint * tone[:, None]
    plinth = (v < 0.45)[:, None]
    albedo = np.where(plinth, albedo * np.float32(0.55), albedo)
    bay, floor = np.floor(u / pitch), np.floor(v / 2.9)
    x, z = u - (bay + 0.5) * pitch, v - floor * 2.9
    half = np.maximum(0.5 * share * pitch, 0.05)
    blind = book.chance(bay, floor, house) < 0.06
    has = (share > 0.05) & ~blind
    frame = _inside(x / half, -1.13, 1.13, p.du / half) * _inside(z, 0.78, 2.42, p.dv) * has
    pane = _inside(np.abs(x) / half, 0.07, 0.92, p.du / half) * _inside(z, 0.92, 2.3, p.dv) * has
    sill = _inside(x / half, -1.25, 1.25, p.du / half) * _inside(z, 0.70, 0.79, p.dv) * has
    white = np.float32(0.6) + 0.0 * tone
    albedo = albedo + (frame[:, None]) * (white[:, None] - albedo)
    albedo = albedo + (sill[:, None]) * (np.float32(0.33) - albedo)
    # Behind the glass: dark rooms, sometimes curtains, sometimes shutters half way down.
    curtain = book.chance(bay, floor, house + 7)
    room = np.where(curtain < 0.3, 0.28, 0.025).astype(np.float32)
    shutter = (curtain > 0.8) & (z > 1.5)
    inside = np.repeat(room[:, None], 3, axis=1)
    albedo = albedo + pane[:, None] * (inside - albedo)
    closed = (pane * shutter)[:, None]
    albedo = albedo + closed * (np.float32(0.42) - albedo)
    glass = pane * ~shutter
    lit = (book.chance(bay, floor, house + 13) < 0.35) * glass
    return albedo, 0.06 * glass, glass, lit


def _brick_tone(book: PatternBook, u: _Values, v: _Values, du: _Values, dv: _Values) -> _Values:
    row = np.floor(v / 0.08)
    shifted = u + 0.12 * np.mod(row, 2)
    seen = np.clip(1.5 - np.maximum(du, dv) / 0.12, 0, 1)
    tone = 1 + 0.5 * (book.chance(shifted / 0.24, row) - 0.5) * seen
    joints = np.maximum(_lines(shifted, 0.24, 0.012, du), _lines(v, 0.08, 0.012, dv))
    return np.asarray(tone * (1 + 0.5 * joints), np.float32)


def _brick(book: PatternBook, p: Patch) -> _Result:
    tone = _brick_tone(book, p.u, p.v, p.du, p.dv)
    tone += 0.1 * book.noise(p.u, p.v, 0.7, np.maximum(p.du, p.dv))
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _roof(book: PatternBook, p: Patch) -> _Result:
    row = np.floor(p.v / 0.33)
    seen = np.clip(1.5 - np.maximum(p.du, p.dv) / 0.33, 0, 1)
    tone = 1 + 0.35 * (book.chance(p.u / 0.26, row) - 0.5) * seen
    tone *= 1 - 0.45 * _lines(p.v, 0.33, 0.05, p.dv) - 0.25 * _lines(p.u, 0.26, 0.03, p.du)
    tone += 0.12 * book.noise(p.u, p.v, 2.0, np.maximum(p.du, p.dv))
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _paint(book: PatternBook, p: Patch) -> _Result:
    """Car body; u runs along the car, v is the height. Doors have seams."""
    joint = np.zeros(len(p.u), np.float32)
    length = np.maximum(p.style[:, 0], 1.0)
    for share in (-0.16, 0.08, 0.25):
        joint = np.maximum(joint, _inside(p.u - share * length, -0.006, 0.006, p.du))
    joint *= (p.style[:, 0] > 0) & (p.v > 0.3) & (p.v < 0.95)
    dirt = 0.15 * np.exp(-np.maximum(p.v - 0.2, 0) / 0.15)
    albedo = p.tint * (1 - 0.7 * joint)[:, None]
    albedo = albedo + dirt[:, None] * (np.float32(0.15) - albedo)
    return albedo, 0.05, 0.0, 0.0


def _car_end(book: PatternBook, p: Patch) -> _Result:
    """Lamps, number plate and grille; u is the share of the half-width, v of the height."""
    y, z = np.abs(p.u), p.v
    rear = p.style[:, 0] < 0
    reach_y, reach_z = p.du, p.dv
    albedo = p.tint.copy()
    glow = np.zeros(len(y), np.float32)
    bumper = _inside(z, 0.0, 0.22, reach_z)
    albedo += bumper[:, None] * (np.float32(0.03) - albedo)
    grille = _inside(y, -1, 0.5, reach_y) * _inside(z, 0.24, 0.36, reach_z) * ~rear
    albedo += grille[:, None] * (np.float32(0.015) - albedo)
    front = _inside(y, 0.56, 0.92, reach_y) * _inside(z, 0.33, 0.41, reach_z) * ~rear
    albedo += front[:, None] * (np.float32(0.65) - albedo)
    red = np.array((0.45, 0.01, 0.01), np.float32)
    back = _inside(y, 0.68, 0.97, reach_y) * _inside(z, 0.42, 0.56, reach_z) * rear
    albedo += back[:, None] * (red - albedo)
    plate = _inside(y, -1, 0.3, reach_y) * _inside(z, 0.25, 0.325, reach_z)
    letters = 0.72 - 0.6 * (book.chance(p.u / 0.06, p.v * 0 + 1) < 0.55) * _inside(
        z, 0.262, 0.312, reach_z
    ) * _inside(y, -1, 0.27, reach_y)
    albedo += plate[:, None] * (letters.astype(np.float32)[:, None] - albedo)
    glow += (6.0 * front + 1.5 * back) * (p.style[:, 3] > 0)
    return albedo, 0.05, 0.0, glow


def _glass(book: PatternBook, p: Patch) -> _Result:
    """Car windows with pillars; u is metres along the car."""
    pillar = np.zeros(len(p.u), np.float32)
    for x in (-0.08, 0.95, -1.05):
        pillar = np.maximum(pillar, _inside(p.u - x, -0.04, 0.04, p.du))
    pillar *= np.float32(0.9)
    albedo = p.tint + pillar[:, None] * (np.float32(0.012) - p.tint)
    return albedo, 0.08, 1 - pillar, 0.0


def _bark(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.35 * book.noise(3 * p.u, 0.5 * p.v, 0.08, reach)
    tone += 0.2 * book.noise(p.u, p.v, 0.3, reach)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _leaves(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.45 * book.noise(p.u, p.v, 0.045, reach) + 0.2 * book.noise(p.u, p.v, 0.2, reach)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _forest(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    n = book.noise
    tone = 1 + 0.5 * n(p.u, p.v, 1.8, reach) + 0.4 * n(p.u, p.v, 0.6, reach)
    tone += 0.3 * n(p.u, p.v, 0.2, reach)
    return p.tint * np.clip(tone, 0.15, 2.2)[:, None], 0.0, 0.0, 0.0


def _metal(book: PatternBook, p: Patch) -> _Result:
    albedo, *_ = _plain(book, p)
    return albedo, 0.03, 0.0, 0.0


def _wood(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = (
        1 + 0.18 * book.noise(p.u, 0.12 * p.v, 0.02, p.du) + 0.1 * book.noise(p.u, p.v, 0.5, reach)
    )
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _cloth(book: PatternBook, p: Patch) -> _Result:
    reach = np.maximum(p.du, p.dv)
    tone = 1 + 0.12 * book.noise(p.u, p.v, 0.12, reach)
    return p.tint * tone[:, None], 0.0, 0.0, 0.0


def _sign(book: PatternBook, p: Patch) -> _Result:
    """Discs with a red rim, blue discs, warning triangles, blue squares, yellow boards."""
    white, red, blue, yellow, black = (
        np.array(c, np.float32)
        for c in (
            (0.75,) * 3,
            (0.5, 0.015, 0.02),
            (0.01, 0.06, 0.33),
            (0.7, 0.45, 0.02),
            (0.02,) * 3,
        )
    )
    x, y, kind = p.u, p.v, p.style[:, 0]
    radius = np.hypot(x, y)
    albedo = np.repeat(white[None, :], len(x), axis=0)
    mark = (np.abs(y) < 0.16) & (np.mod(np.abs(x), 0.13) < 0.07) & (np.abs(x) < 0.2)
    rim = ((kind == 0) & (radius > 0.24)) | ((kind == 2) & (
        (y < -0.25) | (np.abs(x) * 0.86 + y * 0.5 > 0.13)))  # fmt: skip
    albedo[rim] = red
    albedo[mark & ((kind == 0) | (kind == 2)) & ~rim] = black
    arrow = (np.abs(x) < 0.05) & (np.abs(y) < 0.2)
    for number in (1, 3):
        own = kind == number
        albedo[own] = blue
        albedo[own & (arrow | (radius > 0.3) & (number == 1))] = white
    board = kind == 4
    albedo[board] = yellow
    albedo[board & (np.abs(y) < 0.07) & (book.chance(x / 0.07, p.style[:, 1]) < 0.65)
           & (np.abs(x) < 0.55)] = black  # fmt: skip
    albedo[radius > 5] = 0.3
    return albedo, 0.02, 0.0, 0.0


def _lamp(book: PatternBook, p: Patch) -> _Result:
    return p.tint, 0.0, 0.0, 8.0


_PATTERNS: dict[Material, Callable[[PatternBook, Patch], _Result]] = {
    Material.ASPHALT: _asphalt,
    Material.KERB: _kerb,
    Material.PAVING: _paving,
    Material.GRASS: _grass,
    Material.FACADE: _facade,
    Material.ROOF: _roof,
    Material.PAINT: _paint,
    Material.GLASS: _glass,
    Material.RUBBER: _plain,
    Material.BARK: _bark,
    Material.LEAVES: _leaves,
    Material.METAL: _metal,
    Material.SIGN: _sign,
    Material.WOOD: _wood,
    Material.BRICK: _brick,
    Material.CLOTH: _cloth,
    Material.LAMP: _lamp,
    Material.CAR_END: _car_end,
    Material.FOREST: _forest,
}
