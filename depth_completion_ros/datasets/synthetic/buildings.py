"""Houses: walls with windows, doors and plinths, roofs, chimneys, balconies.

Not here: windows themselves, which are a pattern on the wall (`textures.py`), and where the houses
stand (`scene.py`). A house has its front on y = 0 facing -y, x along the street.
"""

from __future__ import annotations

import itertools

import numpy as np

from .mesh import Material, Mesh, box, boxes, merge, quad

_PLASTER = (
    (0.62, 0.58, 0.48), (0.70, 0.66, 0.58), (0.55, 0.46, 0.32), (0.66, 0.52, 0.36),
    (0.50, 0.50, 0.48), (0.72, 0.70, 0.66), (0.48, 0.36, 0.26), (0.42, 0.48, 0.46),
    (0.60, 0.42, 0.34), (0.30, 0.13, 0.085), (0.34, 0.16, 0.10),
)  # fmt: skip
_ROOFS = ((0.26, 0.085, 0.045), (0.20, 0.07, 0.045), (0.09, 0.075, 0.07), (0.16, 0.09, 0.06))
FLOOR_HEIGHT = 2.9


def build_house(rng: np.random.Generator, width: float) -> Mesh:
    """Build a house of the given width in metres with one to four floors."""
    floors = int(rng.choice((1, 2, 2, 3, 3, 4)))
    depth = rng.uniform(9, 13)
    height = floors * FLOOR_HEIGHT + rng.uniform(0.4, 0.9)
    tint = np.array(_PLASTER[int(rng.integers(len(_PLASTER)))]) * rng.uniform(0.75, 1.1)
    # What the facade pattern reads: window pitch, identity, share of glass, bricks or plaster.
    style = (
        width / max(round(width / rng.uniform(2.4, 3.4)), 1),
        float(rng.integers(1, 999)),
        rng.uniform(0.36, 0.52),
        float(tint[0] > 2.0 * tint[2] and tint[0] < 0.4),
    )
    ring = ((0, 0), (width, 0), (width, depth), (0, depth), (0, 0))
    parts = [
        quad((*a, -0.6), (*b, -0.6), (*b, height), (*a, height), Material.FACADE, tint,
             style=style, uv=_wall_uv(np.hypot(b[0] - a[0], b[1] - a[1]), height))
        for a, b in itertools.pairwise(ring)
    ]  # fmt: skip
    roof = np.array(_ROOFS[int(rng.integers(len(_ROOFS)))]) * rng.uniform(0.7, 1.2)
    if rng.random() < 0.75:
        parts += _gable(rng, width, depth, height, tint, roof, style)
    else:
        parts += [
            box((-0.15, -0.15, height), (width + 0.15, depth + 0.15, height + 0.35),
                Material.KERB, tint * 0.8),
        ]  # fmt: skip
    if floors > 1 and rng.random() < 0.4:
        parts += _balconies(rng, width, floors, style[0])
    return merge([*parts, *_entrance(rng, width, style[0])])


def _wall_uv(length: float, height: float) -> tuple[tuple[float, float], ...]:
    return ((0, -0.6), (length, -0.6), (length, height), (0, height))


def _gable(
    rng: np.random.Generator,
    width: float,
    depth: float,
    height: float,
    tint: np.ndarray,
    roof: np.ndarray,
    style: tuple[float, ...],
) -> list[Mesh]:
    """Put a pitched roof on top, its ridge along the street, and perhaps dormers and a chimney."""
    rise = depth / 2 * rng.uniform(0.55, 0.95)
    over, drop = 0.45, 0.45 * rise / (depth / 2)
    ridge, eaves = height + rise, height - drop
    slopes = [
        quad((-0.3, -over, eaves), (width + 0.3, -over, eaves), (width + 0.3, depth / 2, ridge),
             (-0.3, depth / 2, ridge), Material.ROOF, roof),
        quad((width + 0.3, depth + over, eaves), (-0.3, depth + over, eaves),
             (-0.3, depth / 2, ridge), (width + 0.3, depth / 2, ridge), Material.ROOF, roof),
    ]  # fmt: skip
    # A triangle is a quad whose last two corners meet; the pattern continues from the wall below.
    gables = [
        quad((x, y0, height), (x, y1, height), (x, depth / 2, ridge), (x, depth / 2, ridge),
             Material.FACADE, tint, style=(*style[:2], 0.0, style[3]),
             uv=((0, height), (depth, height), (depth / 2, ridge), (depth / 2, ridge)))
        for x, y0, y1 in ((0, depth, 0), (width, 0, depth))
    ]  # fmt: skip
    x = rng.uniform(0.2, 0.8) * width
    chimney = box((x, depth / 2 + 0.4, ridge - 1.2), (x + 0.6, depth / 2 + 1.0, ridge + 0.7),
                  Material.BRICK, (0.2, 0.09, 0.06))  # fmt: skip
    parts = [*slopes, *gables, chimney]
    gutter = box((-0.3, -over - 0.1, eaves - 0.06), (width + 0.3, -over + 0.02, eaves + 0.04),
                 Material.METAL, (0.2, 0.19, 0.17))  # fmt: skip
    parts.append(gutter)
    if rng.random() < 0.5:
        for centre in np.arange(2.2, width - 2, 4.0):
            y = depth * 0.14
            z = height + y * rise / (depth / 2)
            parts.append(
                box((centre - 0.8, y, z - 0.4), (centre + 0.8, depth * 0.4, z + 1.35),
                    Material.FACADE, tint, style=(1.6, style[1], 0.55, 0))
            )  # fmt: skip
    return parts


def _balconies(rng: np.random.Generator, width: float, floors: int, pitch: float) -> list[Mesh]:
    parts = []
    column = int(rng.integers(0, max(int(width / pitch) - 1, 1)))
    x0, x1 = column * pitch + 0.2, min((column + 2) * pitch - 0.2, width)
    rail = np.array((0.35, 0.35, 0.36)) * rng.uniform(0.3, 1.5)
    for floor in range(1, floors):
        z = floor * FLOOR_HEIGHT + 0.25
        parts.append(box((x0, -1.3, z - 0.18), (x1, 0, z), Material.KERB, (0.45, 0.44, 0.42)))
        x = np.arange(x0 + 0.05, x1, 0.14)
        low = np.stack((x - 0.01, 0 * x - 1.28, 0 * x + z), axis=1)
        parts.append(boxes(low, low + np.array((0.02, 0.03, 0.95)), Material.METAL, rail))
        parts.append(box((x0, -1.3, z + 0.93), (x1, -1.23, z + 1.0), Material.METAL, rail))
    return parts


def _entrance(rng: np.random.Generator, width: float, pitch: float) -> list[Mesh]:
    """A door with a step and a small roof, between the windows."""
    x = pitch * (int(rng.integers(0, max(round(width / pitch), 1))) + 0.5)
    colour = np.array(
        ((0.10, 0.05, 0.03), (0.30, 0.30, 0.30), (0.03, 0.07, 0.05))[rng.integers(3)]
    )
    return [
        box((x - 0.62, -0.05, 0), (x + 0.62, 0.02, 2.25), Material.KERB, (0.5, 0.49, 0.46)),
        box((x - 0.5, -0.08, 0.1), (x + 0.5, 0.0, 2.12), Material.WOOD, colour),
        box((x - 0.8, -0.9, -0.3), (x + 0.8, 0.0, 0.12), Material.KERB, (0.3, 0.3, 0.29)),
        box((x - 0.9, -1.0, 2.4), (x + 0.9, 0.0, 2.5), Material.METAL, (0.2, 0.2, 0.21)),
    ]
