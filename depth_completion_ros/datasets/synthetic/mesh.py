"""Triangles with all that shading needs, and the simple shapes a street is made of.

Not here: what is built from the shapes (`street.py`, `buildings.py`, `vehicles.py`, `plants.py`,
`furniture.py`). Meshes are triangle soups: no vertex is shared, so parts merge by stacking.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data import Float32Array, Float64Array


class Material(IntEnum):
    """What a triangle is made of; decides pattern, shine and LiDAR reflectivity."""

    ASPHALT = 0
    KERB = 1
    PAVING = 2
    GRASS = 3
    FACADE = 4
    ROOF = 5
    PAINT = 6
    GLASS = 7
    RUBBER = 8
    BARK = 9
    LEAVES = 10
    METAL = 11
    SIGN = 12
    WOOD = 13
    BRICK = 14
    CLOTH = 15
    LAMP = 16
    CAR_END = 17
    FOREST = 18


@dataclass(frozen=True, eq=False)
class Mesh:
    """Hold F triangles.

    Attributes:
        corners: (F, 3, 3) float64 metres, rounded to float32 so that the ray caster sees the same.
        uv: (F, 3, 2) float32 texture coordinates in metres.
        normals: (F, 3, 3) float32 unit vectors at the corners.
        material: (F,) uint8, a `Material`.
        tint: (F, 3) float32 linear base colour, 0..1.
        style: (F, 4) float32 numbers that the material's pattern reads.
    """

    corners: Float64Array
    uv: Float32Array
    normals: Float32Array
    material: NDArray[np.uint8]
    tint: Float32Array
    style: Float32Array

    def __len__(self) -> int:
        """Count the triangles."""
        return len(self.corners)

    def moved(self, T: Float64Array) -> Mesh:
        """Place the mesh by a (4, 4) transform; uniform scale in it is allowed."""
        scale = np.cbrt(np.linalg.det(T[:3, :3]))
        corners = (self.corners @ T[:3, :3].T + T[:3, 3]).astype(np.float32).astype(np.float64)
        normals = (self.normals @ (T[:3, :3].T / scale)).astype(np.float32)
        return replace(self, corners=corners, normals=normals)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Stack meshes into one."""
    columns = {
        field.name: np.concatenate([getattr(mesh, field.name) for mesh in meshes])
        for field in fields(Mesh)
    }
    return Mesh(**columns)


def triangles(
    corners: ArrayLike,
    material: Material | NDArray[np.uint8],
    tint: ArrayLike,
    *,
    uv: ArrayLike | None = None,
    normals: ArrayLike | None = None,
    style: ArrayLike = (0, 0, 0, 0),
) -> Mesh:
    """Make a mesh of loose triangles.

    Args:
        corners: (F, 3, 3) metres, counter-clockwise seen from outside.
        material: one for all, or (F,).
        tint: (3,) or (F, 3) linear colour.
        uv: (F, 3, 2) metres; without it x and y of the corners.
        normals: (F, 3, 3); without them the triangles are flat.
        style: (4,) or (F, 4).

    Returns:
        The mesh without triangles that have no area.
    """
    c = np.asarray(corners, dtype=np.float32).astype(np.float64)
    a, b = c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]
    # Written out: np.cross takes most of the time for small meshes.
    flat = np.stack((
        a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
        a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
        a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
    ), axis=1)  # fmt: skip
    length = np.sqrt((flat * flat).sum(axis=1))
    keep = length > 1e-10
    c, flat = c[keep], flat[keep] / length[keep, None]
    count = len(keep)
    texture = np.asarray(c[..., :2] if uv is None else np.asarray(uv)[keep], np.float32)
    if normals is None:
        shading = np.repeat(flat[:, None, :], 3, axis=1)
    else:
        shading = np.asarray(normals, np.float64)[keep]
        shading = shading / np.linalg.norm(shading, axis=2, keepdims=True)
    return Mesh(
        c,
        texture,
        shading.astype(np.float32),
        np.broadcast_to(np.asarray(material, np.uint8), count)[keep],
        np.broadcast_to(np.asarray(tint, np.float32), (count, 3))[keep],
        np.broadcast_to(np.asarray(style, np.float32), (count, 4))[keep],
    )


def grid(
    points: Float64Array,
    material: Material | NDArray[np.uint8],
    tint: ArrayLike,
    *,
    uv: ArrayLike | None = None,
    smooth: bool = False,
    style: ArrayLike = (0, 0, 0, 0),
) -> Mesh:
    """Span a sheet over rows and columns of points.

    Args:
        points: (R, C, 3) metres; the sheet is seen from where rows x columns turn
            counter-clockwise (row direction to the right, column direction up).
        material: one, or ((R - 1) * (C - 1),) per cell.
        tint: (3,) or per cell.
        uv: (R, C, 2) metres; without it lengths along the first row and column.
        smooth: True to shade over the edges.
        style: (4,) or per cell.

    Returns:
        Two triangles per cell.
    """
    p = np.asarray(points, np.float64)
    if uv is None:
        u = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(p[:, 0], axis=0), axis=1))))
        v = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(p[0], axis=0), axis=1))))
        uv = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)

    def split(a: NDArray[Any]) -> NDArray[Any]:
        quads = np.stack((a[:-1, :-1], a[1:, :-1], a[1:, 1:], a[:-1, 1:]), axis=2)
        quads = quads.reshape(-1, 4, a.shape[-1])
        return np.stack((quads[:, (0, 1, 2)], quads[:, (0, 2, 3)]), axis=1).reshape(
            -1, 3, a.shape[-1]
        )

    def twice(a: ArrayLike, width: int) -> NDArray[Any]:
        values = np.asarray(a)
        return np.repeat(values, 2, axis=0) if values.ndim == width else values

    normals = None
    if smooth:
        rows = np.gradient(p, axis=0)
        columns = np.gradient(p, axis=1)
        n = np.cross(rows, columns)
        lengths = np.linalg.norm(n, axis=2, keepdims=True)
        n = np.where(lengths > 1e-9, n / np.maximum(lengths, 1e-9), (0.0, 0.0, 1.0))
        normals = split(n)
    return triangles(
        split(p),
        twice(material, 1),
        twice(tint, 2),
        uv=split(np.asarray(uv, np.float64)),
        normals=normals,
        style=twice(style, 2),
    )


def quad(
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    d: ArrayLike,
    material: Material,
    tint: ArrayLike,
    *,
    uv: ArrayLike | None = None,
    style: ArrayLike = (0, 0, 0, 0),
) -> Mesh:
    """Make a flat face of four corners, counter-clockwise; uv is (4, 2), else in metres."""
    p = np.array([a, b, c, d], np.float64)
    w, h = np.linalg.norm(p[1] - p[0]), np.linalg.norm(p[3] - p[0])
    t = np.array(((0, 0), (w, 0), (w, h), (0, h)) if uv is None else uv, np.float64)
    order = ((0, 1, 2), (0, 2, 3))
    return triangles(
        [p[list(o)] for o in order], material, tint, uv=[t[list(o)] for o in order], style=style
    )


# Corners of a box's four sides and top, as choices between low (0) and high (1) of x, y and z.
_BOX = np.array(
    (
        ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
        ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)),
        ((1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1)),
        ((0, 1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1)),
        ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
    )
)


def boxes(
    low: ArrayLike,
    high: ArrayLike,
    material: Material,
    tint: ArrayLike,
    *,
    style: ArrayLike = (0, 0, 0, 0),
) -> Mesh:
    """Make many boxes between pairs of corners, (N, 3) each; they have no bottoms.

    The texture begins at the lower left of each side, metres.
    """
    ends = np.stack((np.atleast_2d(low), np.atleast_2d(high)), axis=1).astype(np.float64)
    p = np.stack([ends[:, _BOX[..., k], k] for k in range(3)], axis=-1).reshape(-1, 4, 3)
    width = np.linalg.norm(p[:, 1] - p[:, 0], axis=1)
    height = np.linalg.norm(p[:, 3] - p[:, 0], axis=1)
    zero = np.zeros_like(width)
    uv = np.stack((zero, zero, width, zero, width, height, zero, height), axis=1).reshape(-1, 4, 2)
    halves = ((0, 1, 2), (0, 2, 3))
    return triangles(
        np.concatenate([p[:, h] for h in halves]),
        material,
        tint,
        uv=np.concatenate([uv[:, h] for h in halves]),
        style=style,
    )


def box(
    low: ArrayLike,
    high: ArrayLike,
    material: Material,
    tint: ArrayLike,
    *,
    style: ArrayLike = (0, 0, 0, 0),
) -> Mesh:
    """Make one box between two corners; it has no bottom, which nobody sees."""
    return boxes(low, high, material, tint, style=style)


def tube(
    a: ArrayLike,
    b: ArrayLike,
    radius_a: float,
    radius_b: float,
    material: Material,
    tint: ArrayLike,
    *,
    sides: int = 8,
    capped: bool = False,
) -> Mesh:
    """Make a round bar or cone from a to b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    axis = (b - a) / np.linalg.norm(b - a)
    helper = np.array((1.0, 0, 0)) if abs(axis[0]) < 0.9 else np.array((0, 1.0, 0))
    e = np.cross(axis, helper)
    e /= np.linalg.norm(e)
    f = np.cross(axis, e)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.cos(angle)[:, None] * e + np.sin(angle)[:, None] * f
    p = np.stack((a + radius_a * ring, b + radius_b * ring), axis=1)
    length = float(np.linalg.norm(b - a))
    u = angle * max(radius_a, radius_b)
    uv = np.stack((np.stack((u, 0 * u), 1), np.stack((u, 0 * u + length), 1)), axis=1)
    side = grid(p, material, tint, uv=uv)
    normals = np.repeat(ring[:, None, :], 2, axis=1)
    rows = np.stack((normals[:-1, 0], normals[1:, 0], normals[1:, 1], normals[:-1, 1]), axis=1)
    corner_normals = np.stack((rows[:, (0, 1, 2)], rows[:, (0, 2, 3)]), axis=1).reshape(-1, 3, 3)
    if len(side) == len(corner_normals):
        side = replace(side, normals=corner_normals.astype(np.float32))
    parts = [side]
    if capped:
        for centre, edge, sign in ((a, p[:, 0], -1), (b, p[:, 1], 1)):
            fan = [
                (centre, q, r)[::sign] if sign < 0 else (centre, q, r)
                for q, r in itertools.pairwise(edge)
            ]
            parts.append(triangles(fan, material, tint))
    return merge(parts)


def ellipsoid(
    centre: ArrayLike, radii: ArrayLike, material: Material, tint: ArrayLike, *, steps: int = 8
) -> Mesh:
    """Make a smooth egg with axes along x, y and z."""
    longitude = np.linspace(0, 2 * np.pi, 2 * steps + 1)[:, None]
    latitude = np.linspace(-np.pi / 2, np.pi / 2, steps + 1)[None, :]
    ball = np.stack(
        (
            np.cos(longitude) * np.cos(latitude),
            np.sin(longitude) * np.cos(latitude),
            np.sin(latitude) + 0 * longitude,
        ),
        axis=-1,
    )
    return grid(ball * np.asarray(radii) + np.asarray(centre), material, tint, smooth=True)


def place(x: float, y: float, z: float, heading: float = 0.0, scale: float = 1.0) -> Float64Array:
    """Build the (4, 4) transform that puts a thing at x, y, z, facing `heading` radians."""
    c, s = np.cos(heading) * scale, np.sin(heading) * scale
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, scale, z], [0, 0, 0, 1]])
