"""What stands along a street: lamps, signs, bins, fences, walls, people.

Not here: where it stands (`scene.py`). The origin is on the ground; x is along the street.
"""

from __future__ import annotations

import itertools

import numpy as np

from .mesh import Material, Mesh, box, boxes, ellipsoid, merge, quad, triangles, tube

_GREY = (0.33, 0.34, 0.35)
LAMP_HEIGHT = 6.5


def build_lamp_post() -> Mesh:
    """Build a street lamp whose arm reaches over the road, which is towards +y."""
    pole = tube((0, 0, 0), (0, 0, LAMP_HEIGHT), 0.09, 0.05, Material.METAL, _GREY)
    arm = tube(
        (0, 0, LAMP_HEIGHT), (0, 1.4, LAMP_HEIGHT + 0.25), 0.04, 0.035, Material.METAL, _GREY
    )
    head = box(
        (-0.13, 1.2, LAMP_HEIGHT + 0.18), (0.13, 1.9, LAMP_HEIGHT + 0.3), Material.METAL, _GREY
    )
    z = LAMP_HEIGHT + 0.17
    light = quad(
        (-0.1, 1.25, z), (-0.1, 1.85, z), (0.1, 1.85, z), (0.1, 1.25, z),
        Material.LAMP, (1.0, 0.85, 0.6),
    )  # fmt: skip
    return merge([pole, arm, head, light])


def build_sign(rng: np.random.Generator) -> Mesh:
    """Build a traffic sign that faces -x: a disc, a triangle, a square or a direction board."""
    height = rng.uniform(2.2, 2.6)
    kind = int(rng.integers(5))
    top = height + (0.35 if kind < 4 else 0.3)
    pole = tube((0, 0, 0), (0, 0, top), 0.035, 0.035, Material.METAL, _GREY, sides=6)
    half = 0.32
    if kind == 0 or kind == 1:
        angle = np.linspace(0, 2 * np.pi, 25)
        rim = np.stack((half * np.cos(angle), half * np.sin(angle)), axis=1)
    elif kind == 2:
        rim = np.array(((0, 0.42), (-0.44, -0.33), (0.44, -0.33), (0, 0.42)))
    elif kind == 3:
        rim = np.array(
            ((-half, -half), (half, -half), (half, half), (-half, half), (-half, -half))
        )
    else:
        rim = np.array(((-0.7, -0.2), (0.7, -0.2), (0.7, 0.2), (-0.7, 0.2), (-0.7, -0.2)))
    if kind == 2:
        rim = rim[::-1]
    faces, uv = [], []
    for a, b in itertools.pairwise(rim):
        flat = np.array(((0.0, 0.0), a, b))
        # Seen from -x, the sign's right is -y.
        front = np.stack((np.full(3, -0.05), -flat[:, 0], flat[:, 1] + height), axis=1)
        back = front[::-1] + np.array((0.02, 0, 0))
        faces += [front[(0, 2, 1), :] if a[0] * b[1] < a[1] * b[0] else front, back]
        uv += [flat, np.full((3, 2), 9.0)]
    plate = triangles(
        faces, Material.SIGN, (1, 1, 1), uv=uv, style=(kind, int(rng.integers(99)), 0, 0)
    )
    return merge([pole, plate])


def build_bollard() -> Mesh:
    """Build a knee-high post."""
    return tube((0, 0, 0), (0, 0, 0.95), 0.06, 0.05, Material.METAL, (0.45, 0.45, 0.45))


def build_bin(rng: np.random.Generator) -> Mesh:
    """Build a wheeled bin."""
    tint = ((0.02, 0.02, 0.022), (0.03, 0.06, 0.25), (0.35, 0.27, 0.02), (0.1, 0.05, 0.02))
    colour = tint[int(rng.integers(4))]
    return merge([
        box((-0.27, -0.32, 0.03), (0.27, 0.32, 0.95), Material.CLOTH, colour),
        box((-0.29, -0.36, 0.95), (0.29, 0.36, 1.03), Material.CLOTH, np.array(colour) * 1.3),
    ])  # fmt: skip


def build_cabinet() -> Mesh:
    """Build a grey box as telephone companies put on pavements."""
    return box((-0.6, -0.2, 0), (0.6, 0.2, 1.25), Material.METAL, (0.42, 0.44, 0.42))


def build_fence(rng: np.random.Generator, length: float) -> Mesh:
    """Build a picket or bar fence along x with gaps that one sees through."""
    wooden = bool(rng.random() < 0.6)
    height = rng.uniform(0.9, 1.4)
    if wooden:
        material, step, half, tint = Material.WOOD, 0.15, 0.045, np.array((0.22, 0.14, 0.08))
        tint = tint * rng.uniform(0.5, 1.2) if rng.random() < 0.7 else np.array((0.6, 0.6, 0.57))
    else:
        material, step, half, tint = Material.METAL, 0.13, 0.012, np.array((0.05, 0.06, 0.05))
    x = np.arange(-length / 2 + half, length / 2 - half, step)
    parts = [_row(x, half, (-0.012, 0.012), (0.06, height), material, tint)]
    for z in (0.25, height - 0.2):
        low, high = (-length / 2, 0.012, z - 0.03), (length / 2, 0.045, z + 0.03)
        parts.append(box(low, high, material, tint * 0.8))
    posts = np.arange(-length / 2 + 0.05, length / 2, 2.2)
    parts.append(_row(posts, 0.05, (0.0, 0.1), (0.0, height + 0.05), material, tint * 0.7))
    return merge(parts)


def _row(
    x: np.ndarray,
    half: float,
    y: tuple[float, float],
    z: tuple[float, float],
    material: Material,
    tint: np.ndarray,
) -> Mesh:
    """Stand equal upright bars at each x."""
    low = np.stack((x - half, 0 * x + y[0], 0 * x + z[0]), axis=1)
    high = np.stack((x + half, 0 * x + y[1], 0 * x + z[1]), axis=1)
    return boxes(low, high, material, tint)


def build_wall(rng: np.random.Generator, length: float) -> Mesh:
    """Build a low garden wall of bricks or plaster along x."""
    height = rng.uniform(0.7, 1.7)
    if rng.random() < 0.5:
        material, tint = Material.BRICK, np.array((0.24, 0.10, 0.065)) * rng.uniform(0.7, 1.2)
    else:
        material, tint = Material.KERB, np.array((0.42, 0.40, 0.36)) * rng.uniform(0.5, 1.1)
    body = box((-length / 2, -0.12, 0), (length / 2, 0.12, height), material, tint)
    cap = box(
        (-length / 2 - 0.02, -0.16, height), (length / 2 + 0.02, 0.16, height + 0.06),
        Material.KERB, (0.34, 0.33, 0.31),
    )  # fmt: skip
    return merge([body, cap])


def build_person(rng: np.random.Generator) -> Mesh:
    """Build somebody who walks along +x: legs apart, arms swinging."""
    size = rng.uniform(0.9, 1.05)
    shirt = rng.uniform(0.02, 0.5, 3)
    trousers = np.array(
        ((0.02, 0.025, 0.05), (0.05, 0.05, 0.05), (0.15, 0.12, 0.08))[rng.integers(3)]
    )
    skin, hair = (0.45, 0.28, 0.2), np.array((0.05, 0.03, 0.02)) * rng.uniform(0.4, 4)
    cloth = Material.CLOTH
    stride = rng.uniform(0.15, 0.32)
    parts = [
        tube((stride, 0.09, 0.04), (0, 0.09, 0.86), 0.055, 0.095, cloth, trousers),
        tube((-stride, -0.09, 0.04), (0, -0.09, 0.86), 0.055, 0.095, cloth, trousers),
        ellipsoid((stride + 0.06, 0.09, 0.05), (0.13, 0.05, 0.05), cloth, (0.02, 0.02, 0.02)),
        ellipsoid((-stride + 0.06, -0.09, 0.05), (0.13, 0.05, 0.05), cloth, (0.02, 0.02, 0.02)),
        ellipsoid((0, 0, 1.14), (0.14, 0.21, 0.36), cloth, shirt),
        tube((0, 0.22, 1.4), (-0.6 * stride, 0.27, 0.85), 0.055, 0.04, cloth, shirt),
        tube((0, -0.22, 1.4), (0.6 * stride, -0.27, 0.85), 0.055, 0.04, cloth, shirt),
        tube((0, 0, 1.42), (0, 0, 1.56), 0.055, 0.055, cloth, skin),
        ellipsoid((0.01, 0, 1.64), (0.095, 0.075, 0.12), cloth, skin),
        ellipsoid((-0.02, 0, 1.68), (0.10, 0.085, 0.105), cloth, hair),
    ]
    return merge(parts).moved(np.diag((size, size, size, 1.0)))
