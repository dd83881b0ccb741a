"""Trees, hedges, bushes: leaves are loose triangles, so that rays find their way through.

Not here: where they grow (`scene.py`). The origin is on the ground in the middle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...data import Float64Array
from .mesh import Material, Mesh, box, merge, place, triangles, tube

_GREENS = (
    (0.055, 0.105, 0.018), (0.075, 0.120, 0.022), (0.040, 0.080, 0.020),
    (0.120, 0.130, 0.025), (0.160, 0.105, 0.025), (0.060, 0.095, 0.030),
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
        tint: (3,) linear colour.

    Returns:
        N triangles.
    """
    count = len(centres)
    corners = rng.normal(0, 1, (count, 3, 3))
    corners -= corners.mean(axis=1, keepdims=True)
    corners *= size * rng.uniform(0.5, 1.1, (count, 1, 1)) / 1.6
    tone = np.asarray(tint) * rng.uniform(0.6, 1.4, (count, 1)) * rng.uniform(0.9, 1.1, (count, 3))
    direction = outward + rng.normal(0, 0.35, outward.shape)
    normals = np.repeat(direction[:, None, :], 3, axis=1)
    uv = rng.uniform(0, 40, (count, 1, 2)) + corners[..., :2]
    return triangles(corners + centres[:, None, :], Material.LEAVES, tone, uv=uv, normals=normals)


def build_tree(rng: np.random.Generator) -> Mesh:
    """Build a tree of 5 to 12 m: trunk, branches and a crown of leafy clumps."""
    height = rng.uniform(5.5, 12)
    trunk = height * rng.uniform(0.22, 0.34)
    radius = 0.018 * height * rng.uniform(0.8, 1.2)
    spread = height * rng.uniform(0.22, 0.34)
    bark = np.array((0.10, 0.085, 0.07)) * rng.uniform(0.6, 1.3)
    top = np.array((rng.normal(0, 0.15), rng.normal(0, 0.15), trunk))
    parts = [tube((0, 0, -0.1), top, 1.25 * radius, 0.8 * radius, Material.BARK, bark)]
    clumps = []
    for _ in range(int(rng.integers(9, 14))):
        angle, lift = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
        reach = spread * np.sqrt(rng.uniform(0.1, 1)) * np.cos((lift - 0.35) * 1.9)
        centre = np.array((
            reach * np.cos(angle), reach * np.sin(angle),
            trunk + (height - trunk) * (0.12 + 0.75 * lift),
        ))  # fmt: skip
        clumps.append((centre, spread * rng.uniform(0.28, 0.48)))
        parts.append(tube(top, centre, 0.45 * radius, 0.12 * radius, Material.BARK, bark, sides=5))
    middle = np.array((0, 0, trunk + 0.5 * (height - trunk)))
    green = np.array(_GREENS[int(rng.integers(len(_GREENS)))])
    density = 85.0
    for centre, size in clumps:
        count = int(density * size**2 / 0.8) + 40
        direction = rng.normal(0, 1, (count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        centres = centre + direction * size * rng.uniform(0.45, 1.05, (count, 1)) * (1, 1, 0.8)
        outward = 0.6 * direction + (centres - middle) / spread
        parts.append(scatter_leaves(rng, centres, outward, 0.34, green))
    return merge(parts)


def build_hedge(rng: np.random.Generator, length: float, height: float) -> Mesh:
    """Build a trimmed hedge along x, 0.7 m deep."""
    green = np.array(_GREENS[int(rng.integers(3))]) * 0.8
    core = box((-length / 2, -0.28, 0), (length / 2, 0.28, height - 0.06), Material.LEAVES, green)
    count = int(length * (2 * height + 0.7) * 28)
    # Walk once around the profile: up one side, over the top, down the other.
    around = rng.uniform(0, 2 * height + 0.7, count)
    y = np.clip(around - height, 0, 0.7) - 0.35
    z = np.where(around < height, around, np.where(around > height + 0.7, 0, height))
    z = np.where(around > height + 0.7, 2 * height + 0.7 - around, z)
    outward = np.stack((0 * y, np.sign(y) * (z < height), 1.0 * (z >= height)), axis=1)
    centres = np.stack((rng.uniform(-length / 2, length / 2, count), y, z), axis=1)
    centres += rng.normal(0, 0.03, centres.shape)
    return merge([core, scatter_leaves(rng, centres, outward + 1e-3, 0.13, green)])


def build_bush(rng: np.random.Generator) -> Mesh:
    """Build a round bush of about one metre."""
    size = rng.uniform(0.5, 1.1)
    direction = rng.normal(0, 1, (420, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = np.abs(direction[:, 2])
    centres = direction * size * rng.uniform(0.5, 1.0, (420, 1)) * (1, 1, 1.1)
    green = np.array(_GREENS[int(rng.integers(len(_GREENS)))])
    leaves = scatter_leaves(rng, centres, direction, 0.2, green)
    return leaves.moved(place(0, 0, 0.1, rng.uniform(0, 6)))
