"""Trees, hedges, bushes: leaves are loose triangles, so that rays find their way through.

Not here: where they grow (`scene.py`). The origin is on the ground in the middle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...data import Float64Array
from .mesh import Material, Mesh, box, merge, place, triangles, tube

_GREENS = (
    (0.085, 0.165, 0.028), (0.115, 0.185, 0.034), (0.065, 0.130, 0.032),
    (0.185, 0.200, 0.040), (0.240, 0.160, 0.040), (0.095, 0.150, 0.048),
)  # fmt: skip


def scatter_leaves(
    rng: np.random.Generator,
    centres: Float64Array,
    outward: Float64Array,
    size: float,
    tint: ArrayLike,
) -> Mesh:
    """Put a loose leafy triangle at each centre.

    Args:
        rng: draws size, turn and tone of each.
        centres: (N, 3) metres.
        outward: (N, 3) directions used for shading, so that a crown looks round.
        size: typical side length in metres.
        tint: (3,) or (N, 3) linear colour.

    Returns:
        N triangles.
    """
    count = len(centres)
    corners = rng.normal(0, 1, (count, 3, 3))
    corners -= corners.mean(axis=1, keepdims=True)
    corners *= size * rng.uniform(0.5, 1.1, (count, 1, 1)) / 1.6
    tone = np.asarray(tint) * rng.uniform(0.7, 1.3, (count, 1)) * rng.uniform(0.9, 1.1, (count, 3))
    direction = outward + rng.normal(0, 0.35, outward.shape)
    normals = np.repeat(direction[:, None, :], 3, axis=1)
    uv = rng.uniform(0, 40, (count, 1, 2)) + corners[..., :2]
    return triangles(corners + centres[:, None, :], Material.LEAVES, tone, uv=uv, normals=normals)


def build_tree(rng: np.random.Generator) -> Mesh:
    """Build a tree of 6 to 12 m: trunk, branches and a crown of leafy clumps."""
    height = rng.uniform(6.5, 12)
    trunk = height * rng.uniform(0.2, 0.3)
    radius = 0.017 * height * rng.uniform(0.8, 1.2)
    spread = height * rng.uniform(0.25, 0.36)
    bark = np.array((0.10, 0.085, 0.07)) * rng.uniform(0.5, 1.1)
    fork = np.array((rng.normal(0, 0.15), rng.normal(0, 0.15), trunk))
    parts = [tube((0, 0, -0.1), fork, 1.25 * radius, 0.8 * radius, Material.BARK, bark)]
    middle = np.array((0, 0, trunk + 0.52 * (height - trunk)))
    stretch = np.array((spread, spread, 0.5 * (height - trunk)))
    green = np.array(_GREENS[int(rng.integers(len(_GREENS)))])
    for _ in range(int(rng.integers(15, 22))):
        direction = rng.normal(0, 1, 3)
        direction /= np.linalg.norm(direction)
        centre = middle + direction * stretch * rng.uniform(0.35, 0.8)
        size = spread * rng.uniform(0.26, 0.42)
        parts.append(tube(fork, centre, 0.4 * radius, 0.1 * radius, Material.BARK, bark, sides=4))
        parts.append(_leafy_ball(rng, centre, size, middle, stretch, green))
    return merge(parts)


def _leafy_ball(
    rng: np.random.Generator,
    centre: Float64Array,
    size: float,
    middle: Float64Array,
    stretch: Float64Array,
    green: Float64Array,
) -> Mesh:
    """Build one clump of a crown; its leaves are darker and sparser inside."""
    count = int(110 * size**1.5) + 60
    direction = rng.normal(0, 1, (count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = rng.uniform(0.5, 1.05, (count, 1))
    centres = centre + direction * size * depth * (1, 1, 0.8)
    outward = 0.7 * direction + (centres - middle) / stretch
    # Light reaches the outside of the crown: a cheap stand-in for its own ambient shadow.
    reach = np.clip(np.linalg.norm((centres - middle) / stretch, axis=1), 0.3, 1.1)
    tint = green * (0.35 + 0.75 * reach[:, None] ** 2)
    return scatter_leaves(rng, centres, outward, 0.27, tint)


def build_hedge(rng: np.random.Generator, length: float, height: float) -> Mesh:
    """Build a trimmed hedge along x, 0.7 m deep."""
    green = np.array(_GREENS[int(rng.integers(3))]) * 0.8
    core = box((-length / 2, -0.28, 0), (length / 2, 0.28, height - 0.06), Material.LEAVES, green)
    count = int(length * (2 * height + 0.7) * 55)
    # Walk once around the profile: up one side, over the top, down the other.
    around = rng.uniform(0, 2 * height + 0.7, count)
    y = np.clip(around - height, 0, 0.7) - 0.35
    z = np.where(around < height, around, np.where(around > height + 0.7, 0, height))
    z = np.where(around > height + 0.7, 2 * height + 0.7 - around, z)
    outward = np.stack((0 * y, np.sign(y) * (z < height), 1.0 * (z >= height)), axis=1)
    centres = np.stack((rng.uniform(-length / 2, length / 2, count), y, z), axis=1)
    centres += rng.normal(0, 0.03, centres.shape)
    return merge([core, scatter_leaves(rng, centres, outward + 1e-3, 0.085, green)])


def build_bush(rng: np.random.Generator) -> Mesh:
    """Build a round bush of about one metre."""
    size = rng.uniform(0.5, 1.1)
    direction = rng.normal(0, 1, (700, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = np.abs(direction[:, 2])
    centres = direction * size * rng.uniform(0.5, 1.0, (700, 1)) * (1, 1, 1.1)
    green = np.array(_GREENS[int(rng.integers(len(_GREENS)))])
    leaves = scatter_leaves(rng, centres, direction, 0.14, green)
    return leaves.moved(place(0, 0, 0.1, rng.uniform(0, 6)))
