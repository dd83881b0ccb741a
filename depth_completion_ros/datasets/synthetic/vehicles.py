"""Cars and vans, lofted from a few cross-sections.

Not here: where they stand and how they move (`scene.py`). A vehicle's origin is on the ground in
its middle, x forward, y left, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mesh import Material, Mesh, ellipsoid, grid, merge, triangles, tube

# Paint that is seen on German streets, linear.
_PAINTS = (
    (0.60, 0.60, 0.60), (0.35, 0.36, 0.38), (0.12, 0.125, 0.13), (0.015, 0.015, 0.017),
    (0.015, 0.015, 0.017), (0.75, 0.75, 0.73), (0.30, 0.02, 0.02), (0.02, 0.05, 0.20),
    (0.03, 0.09, 0.06), (0.45, 0.40, 0.30), (0.05, 0.16, 0.35),
)  # fmt: skip


@dataclass(frozen=True)
class _Shape:
    """Outline of a body: x from rear to front and heights as shares of length and height."""

    length: float
    width: float
    height: float
    # x share, top share, belt share, half-width share at the top
    stations: tuple[tuple[float, float, float, float], ...]
    # index of the first station of: roof, end of roof, foot of the windscreen; glass behind?
    roof: tuple[int, int]
    rear_glass: bool = True


_SHAPES = (
    # hatchback
    _Shape(4.0, 1.72, 1.47, (
        (0.00, 0.55, 0.55, 0.90), (0.02, 0.62, 0.60, 0.92), (0.06, 0.66, 0.63, 0.88),
        (0.16, 0.97, 0.63, 0.68), (0.40, 1.00, 0.62, 0.70), (0.58, 0.965, 0.61, 0.69),
        (0.76, 0.66, 0.60, 0.86), (0.92, 0.58, 0.55, 0.88), (0.985, 0.50, 0.47, 0.84),
        (1.00, 0.42, 0.42, 0.82),
    ), (3, 5)),
    # saloon
    _Shape(4.6, 1.78, 1.44, (
        (0.00, 0.60, 0.58, 0.88), (0.015, 0.66, 0.62, 0.90), (0.12, 0.68, 0.63, 0.86),
        (0.27, 0.97, 0.63, 0.66), (0.44, 1.00, 0.62, 0.69), (0.57, 0.965, 0.61, 0.68),
        (0.73, 0.66, 0.60, 0.85), (0.92, 0.57, 0.54, 0.87), (0.985, 0.48, 0.46, 0.82),
        (1.00, 0.40, 0.40, 0.80),
    ), (3, 5)),
    # estate
    _Shape(4.6, 1.78, 1.50, (
        (0.00, 0.56, 0.54, 0.90), (0.015, 0.64, 0.60, 0.92), (0.03, 0.66, 0.62, 0.88),
        (0.11, 0.96, 0.62, 0.70), (0.40, 1.00, 0.61, 0.71), (0.59, 0.965, 0.60, 0.70),
        (0.74, 0.65, 0.59, 0.86), (0.92, 0.57, 0.53, 0.88), (0.985, 0.48, 0.46, 0.84),
        (1.00, 0.40, 0.40, 0.80),
    ), (3, 5)),
    # van
    _Shape(5.2, 1.95, 2.1, (
        (0.00, 0.50, 0.48, 0.96), (0.005, 0.62, 0.60, 0.96), (0.01, 0.94, 0.62, 0.88),
        (0.03, 0.985, 0.62, 0.86), (0.40, 1.00, 0.61, 0.86), (0.72, 0.98, 0.60, 0.84),
        (0.88, 0.58, 0.52, 0.90), (0.96, 0.52, 0.48, 0.90), (0.99, 0.42, 0.40, 0.86),
        (1.00, 0.34, 0.34, 0.84),
    ), (3, 5), rear_glass=False),
)  # fmt: skip


def build_car(rng: np.random.Generator, *, lights: bool = False) -> Mesh:
    """Draw a shape and a colour, and build the vehicle on its wheels (about 500 triangles).

    Args:
        rng: draws shape, size and colour.
        lights: True for lamps that shine at night.

    Returns:
        The vehicle.
    """
    shape = _SHAPES[int(rng.choice(4, p=(0.38, 0.22, 0.28, 0.12)))]
    paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))])
    if shape.height > 2:
        paint = np.array(
            ((0.75, 0.75, 0.73), (0.5, 0.42, 0.05), (0.2, 0.2, 0.22))[rng.integers(3)]
        )
    scale = rng.uniform(0.95, 1.05)
    parts = [
        _body(shape, paint),
        _ends(shape, paint, lights),
        *_wheels(shape),
        *_details(shape, paint),
    ]
    mesh = merge(parts)
    return mesh.moved(np.diag((scale, scale, scale, 1.0)))


def car_length(mesh: Mesh) -> float:
    """Give the length of a vehicle in metres."""
    return float(np.ptp(mesh.corners[..., 0]))


def _section(shape: _Shape, station: tuple[float, float, float, float]) -> np.ndarray:
    """Outline of one cross-section from the left sill over the roof to the right one, (11, 3)."""
    share, top, belt, narrow = station
    x = (share - 0.5) * shape.length
    # The corners of a bumper are round seen from above.
    end = min(share, 1 - share)
    round_ = 1 - 0.16 * np.exp(-end / 0.025)
    w, h = shape.width / 2 * round_, shape.height
    side = [
        (0.93 * w, 0.18 if 0.04 < share < 0.96 else 0.24),
        (0.99 * w, 0.42),
        (1.00 * w, 0.5 * (0.42 + belt * h)),
        (0.965 * w, belt * h),
        (narrow * w, top * h - (0.03 if top > 0.8 else 0.01)),
    ]
    left = [(x, y, z) for y, z in side]
    middle = (x, 0.0, top * h + (0.03 if top > 0.8 else 0.02))
    right = [(x, -y, z) for y, z in reversed(side)]
    return np.array([*left, middle, *right])


def _body(shape: _Shape, paint: np.ndarray) -> Mesh:
    p = np.stack([_section(shape, station) for station in shape.stations])
    count = len(shape.stations) - 1
    material = np.full((count, 10), Material.PAINT, np.uint8)
    tint = np.ones((count, 10, 3)) * paint
    first, last = shape.roof
    glass = (0.02, 0.025, 0.03)
    side = [c for c in range(first - 1, last + 1) if shape.rear_glass or c >= last - 1]
    for column in side:
        for row in (3, 6):
            material[column, row], tint[column, row] = Material.GLASS, glass
    for row in (4, 5):
        material[last, row], tint[last, row] = Material.GLASS, glass
        if shape.rear_glass:
            material[first - 1, row], tint[first - 1, row] = Material.GLASS, glass
    tint[:, 0], tint[:, 9] = paint * 0.4, paint * 0.4
    style = np.zeros((count, 10, 4))
    style[..., 0] = shape.length
    # Side windows know where their pillars are by x, windscreens by y.
    uv = p[..., (0, 2)].copy()
    return grid(
        p[:, ::-1],
        material[:, ::-1].reshape(-1),
        tint[:, ::-1].reshape(-1, 3),
        uv=uv[:, ::-1],
        smooth=True,
        style=style[:, ::-1].reshape(-1, 4),
    )


def _ends(shape: _Shape, paint: np.ndarray, lights: bool) -> Mesh:
    """Close front and rear; uv is (share of the half-width, share of the height)."""
    parts = []
    for station, sign in ((shape.stations[0], -1), (shape.stations[-1], 1)):
        ring = _section(shape, station)
        centre = np.array((ring[0, 0] + sign * 0.02, 0, 0.4 * shape.height))
        a, b = ring[:-1], ring[1:]
        fan = np.stack((np.broadcast_to(centre, a.shape), a, b), axis=1)
        bottom = np.array([[centre, ring[-1], ring[0]]])
        fan = np.concatenate((fan, bottom))
        if sign < 0:
            fan = fan[:, (0, 2, 1)]
        uv = np.stack((fan[..., 1] / (shape.width / 2), fan[..., 2] / shape.height), axis=-1)
        fan = fan[:, (0, 2, 1)]
        uv = uv[:, (0, 2, 1)]
        parts.append(
            triangles(
                fan, Material.CAR_END, paint, uv=uv, style=(sign, station[1], shape.height, lights)
            )
        )
    return merge(parts)


def _wheels(shape: _Shape) -> list[Mesh]:
    radius = 0.31 if shape.height < 2 else 0.35
    parts = []
    for x in (-0.30 * shape.length, 0.315 * shape.length):
        for sign in (-1, 1):
            outer, inner = sign * (shape.width / 2 + 0.005), sign * (shape.width / 2 - 0.22)
            black, rim = (0.012, 0.012, 0.012), (0.30, 0.30, 0.31)
            arch = sign * (shape.width / 2 - 0.035)
            parts += [
                tube(
                    (x, inner, radius), (x, outer, radius), radius, radius,
                    Material.RUBBER, black, sides=14, capped=True,
                ),
                tube(
                    (x, outer - sign * 0.02, radius), (x, outer + sign * 0.006, radius),
                    0.6 * radius, 0.56 * radius, Material.METAL, rim, sides=12, capped=True,
                ),
                tube(
                    (x, inner, radius + 0.02), (x, arch + sign * 0.037, radius + 0.02),
                    radius + 0.05, radius + 0.05, Material.RUBBER, (0.006, 0.006, 0.006),
                    sides=14, capped=True,
                ),
            ]  # fmt: skip
    return parts


def _details(shape: _Shape, paint: np.ndarray) -> list[Mesh]:
    """Mirrors at the foot of the windscreen."""
    share, _, belt, _ = shape.stations[shape.roof[1] + 1]
    x, z = (share - 0.5) * shape.length - 0.28, belt * shape.height + 0.1
    return [
        ellipsoid((x, s * (shape.width / 2 + 0.09), z), (0.06, 0.11, 0.075), Material.PAINT, paint,
                  steps=4)
        for s in (-1, 1)
    ]  # fmt: skip
