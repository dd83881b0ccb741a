"""The street itself: its course over hills and bends, its cross-section, the ground.

Not here: what stands on the ground (`scene.py`). A place on the street is given by s, metres along
its middle, and l, metres to the left of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...data import Float64Array
from .mesh import Material, Mesh, grid, merge

# Finer than any bend: between two samples the chord is off by less than a tenth of a millimetre.
_STEP = 0.25


class StreetPath:
    """Know where the middle of the street is, which way it leads and how high it lies."""

    def __init__(self, rng: np.random.Generator, start: float, end: float) -> None:
        """Draw gentle bends and slopes between two values of s, metres."""
        self.start, self.end = start, end
        self._bends = [
            (
                rng.uniform(0.02, 0.05),
                2 * np.pi / rng.uniform(110, 180),
                rng.uniform(0, 2 * np.pi),
            ),
            (rng.uniform(0.0, 0.1), 2 * np.pi / rng.uniform(260, 420), rng.uniform(0, 2 * np.pi)),
        ]
        self._hills = [
            (rng.uniform(0.1, 0.5), 2 * np.pi / rng.uniform(90, 140), rng.uniform(0, 2 * np.pi)),
            (rng.uniform(0.2, 1.6), 2 * np.pi / rng.uniform(250, 400), rng.uniform(0, 2 * np.pi)),
        ]
        self._s = np.arange(start - 1, end + 1 + _STEP, _STEP)
        heading = self.heading(self._s)
        dx, dy = np.cos(heading), np.sin(heading)
        self._x = np.concatenate(([0], np.cumsum((dx[1:] + dx[:-1]) / 2 * _STEP)))
        self._y = np.concatenate(([0], np.cumsum((dy[1:] + dy[:-1]) / 2 * _STEP)))
        self._x -= np.interp(0, self._s, self._x)
        self._y -= np.interp(0, self._s, self._y)

    def heading(self, s: ArrayLike) -> Float64Array:
        """Direction in radians, counter-clockwise from x; zero at s = 0."""
        s = np.asarray(s, np.float64)
        wave = sum(a * (np.sin(k * s + p) - np.sin(p)) for a, k, p in self._bends)
        return np.asarray(wave, np.float64)

    def height(self, s: ArrayLike) -> Float64Array:
        """Height of the middle in metres."""
        s = np.asarray(s, np.float64)
        return np.asarray(sum(a * np.sin(k * s + p) for a, k, p in self._hills), np.float64)

    def slope(self, s: ArrayLike) -> Float64Array:
        """Rise per metre."""
        s = np.asarray(s, np.float64)
        return np.asarray(sum(a * k * np.cos(k * s + p) for a, k, p in self._hills), np.float64)

    def place(self, s: ArrayLike, l: ArrayLike) -> Float64Array:  # noqa: E741
        """Give x, y in metres of places on the street, (..., 2)."""
        s, left = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(l, np.float64))
        heading = self.heading(s)
        x = np.interp(s, self._s, self._x) - np.sin(heading) * left
        y = np.interp(s, self._s, self._y) + np.cos(heading) * left
        return np.stack((x, y), axis=-1)


@dataclass(frozen=True)
class CrossSection:
    """Describe one side of the street by where its strips end, metres from the middle.

    Attributes:
        road: edge of the asphalt, parking places included.
        parking: width of the parking places, 0 for none.
        verge: end of the grass strip between kerb and pavement; equals `road` without one.
        pavement: end of the pavement.
        front: where the buildings stand; between pavement and front are gardens.
    """

    road: float
    parking: float
    verge: float
    pavement: float
    front: float


def draw_section(rng: np.random.Generator, lane: float) -> CrossSection:
    """Draw one side of the street next to a lane of the given width."""
    parking = float(rng.choice((0.0, 2.1, 2.1)))
    road = lane + parking + 0.1
    verge = road + 0.15 + float(rng.choice((0.0, 1.8, 2.5)))
    pavement = verge + rng.uniform(1.8, 3.2)
    front = pavement + float(rng.choice((0.3, 3.0, 5.0, 7.0)))
    return CrossSection(road, parking, verge, pavement, front)


@dataclass(frozen=True)
class Street:
    """A path with two sides and side streets.

    Attributes:
        path: its course.
        lane: width of a lane, metres.
        left, right: cross-sections.
        crossings: s of the middle of each side street.
        crossing_width: metres from middle to edge of a side street.
    """

    path: StreetPath
    lane: float
    left: CrossSection
    right: CrossSection
    crossings: tuple[float, ...]
    crossing_width: float = 3.6

    def side(self, sign: int) -> CrossSection:
        """Give the cross-section of the left (+1) or right (-1) side."""
        return self.left if sign > 0 else self.right

    def is_crossing(self, s: ArrayLike, margin: float = 0.0) -> np.ndarray:
        """Tell which s lie on a side street or within `margin` metres of one."""
        s = np.asarray(s, np.float64)
        near = np.zeros(s.shape, bool)
        for crossing in self.crossings:
            near |= np.abs(s - crossing) < self.crossing_width + margin
        return near

    def ground_height(self, s: ArrayLike, l: ArrayLike) -> Float64Array:  # noqa: E741
        """Height of road, pavement and gardens in metres."""
        s, left = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(l, np.float64))
        road = np.where(left > 0, self.left.road, self.right.road)
        off = np.abs(left)
        # The road drains to its sides; the kerb lifts what is beside it, but not on side streets.
        crown = -0.02 * np.minimum(off, road)
        kerb = np.clip((off - road - 0.005) / 0.01, 0, 1) * 0.12
        beside = np.full(s.shape, np.inf)
        for crossing in self.crossings:
            beside = np.minimum(beside, np.abs(s - crossing) - self.crossing_width)
        lift = np.clip(beside / 0.6, 0, 1)
        far = np.maximum(off - 40, 0) * 0.02
        return np.asarray(self.path.height(s) + crown + kerb * lift + far, np.float64)


def draw_street(rng: np.random.Generator, start: float, end: float) -> Street:
    """Draw a street whose middle runs from s = start to s = end, metres."""
    path = StreetPath(rng, start, end)
    lane = float(rng.uniform(3.0, 3.6))
    left, right = draw_section(rng, lane), draw_section(rng, lane)
    crossings = []
    s = start + rng.uniform(40, 90)
    while s < end - 30:
        crossings.append(float(s))
        s += rng.uniform(60, 120)
    return Street(path, lane, left, right, tuple(crossings))


def build_ground(street: Street, tint: ArrayLike) -> Mesh:
    """Build the ground from one end of the street to the other and 130 m to both sides.

    Args:
        street: where the strips are.
        tint: (3,) colour of the asphalt.

    Returns:
        A mesh whose uv is (s, l); style holds lane width, road edge, parking width and 1 on a
        side street.
    """
    path = street.path
    s = [np.arange(path.start, path.end + 1, 1.0)]
    for c in street.crossings:
        w = street.crossing_width
        s.append(np.array([c - w - 0.6, c - w, c + w, c + w + 0.6]))
    s_all = np.unique(np.round(np.concatenate(s), 3))
    meshes = []
    for sign in (1, -1):
        section = street.side(sign)
        edges = [
            (0.0, Material.ASPHALT),
            (section.road, Material.KERB),
            (section.road + 0.02, Material.KERB),
            (section.road + 0.15, Material.GRASS),
            (section.verge, Material.PAVING),
            (section.pavement, Material.GRASS),
            (section.front + 14, Material.GRASS),
            (42.0, Material.GRASS),
            (130.0, Material.GRASS),
        ]
        if section.verge - section.road < 0.2:
            edges = [edge for edge in edges if edge[0] != section.road + 0.15]
        left = sign * np.array([edge[0] for edge in edges])
        material = np.array([edge[1] for edge in edges[:-1]], np.uint8)
        S, L = np.meshgrid(s_all, left, indexing="ij")
        points = np.concatenate((path.place(S, L), street.ground_height(S, L)[..., None]), axis=-1)
        cells = np.tile(material, (len(s_all) - 1, 1))
        middle = (s_all[1:] + s_all[:-1]) / 2
        crossing = street.is_crossing(middle)
        cells[crossing] = Material.ASPHALT
        tints = np.ones((*cells.shape, 3)) * _TINTS[cells]
        tints[cells == Material.ASPHALT] = tint
        style = np.zeros((*cells.shape, 4))
        style[..., :3] = street.lane, section.road, section.parking
        style[..., 3] = crossing[:, None]
        uv = np.stack((S, L), axis=-1)
        if sign < 0:
            points, uv = points[:, ::-1], uv[:, ::-1]
            cells, tints, style = cells[:, ::-1], tints[:, ::-1], style[:, ::-1]
        meshes.append(
            grid(
                points,
                cells.reshape(-1),
                tints.reshape(-1, 3),
                uv=uv,
                style=style.reshape(-1, 4),
            )
        )
    return merge(meshes)


_TINTS = np.full((len(Material), 3), 0.2)
_TINTS[Material.KERB] = (0.32, 0.31, 0.29)
_TINTS[Material.PAVING] = (0.30, 0.285, 0.265)
_TINTS[Material.GRASS] = (0.085, 0.125, 0.035)
