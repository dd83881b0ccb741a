"""A whole street: what stands where, and what moves how.

Not here: how the things are built (`buildings.py`, `vehicles.py`, `plants.py`, `furniture.py`)
and how they are seen (`rays.py`, `shading.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data import Float64Array
from .buildings import build_house
from .furniture import (
    LAMP_HEIGHT,
    build_bin,
    build_bollard,
    build_cabinet,
    build_fence,
    build_lamp_post,
    build_person,
    build_sign,
    build_wall,
)
from .mesh import Material, Mesh, grid, merge, place
from .plants import build_bush, build_hedge, build_tree
from .recipe import SyntheticRecipe
from .street import Street, build_ground, draw_street
from .trajectory import EgoMotion, TrafficMotion
from .vehicles import build_car, car_length

# Street before the first and behind the last place of the drive, metres.
_BEFORE, _BEHIND = 90.0, 210.0
_WOOD_STEP = 1.25


@dataclass(frozen=True)
class Mover:
    """Something that moves: its shape in its own frame and its motion."""

    mesh: Mesh
    motion: TrafficMotion


@dataclass(frozen=True)
class Scene:
    """Everything there is to see.

    Attributes:
        static: what stands still, in world coordinates (x along the street's start, z up).
        movers: what moves.
        ego: motion of the recording vehicle.
        lamps: (L, 3) metres, the street lamps' lights.
    """

    static: Mesh
    movers: tuple[Mover, ...]
    ego: EgoMotion
    lamps: Float64Array


def draw_ego_motion(recipe: SyntheticRecipe) -> EgoMotion:
    """Draw the street and the way along it, without building anything.

    Args:
        recipe: without `randomise`.

    Returns:
        The motion of the recording vehicle.
    """
    rng = np.random.default_rng([recipe.seed, 0])
    length = recipe.speed * recipe.frames / recipe.rate
    street = draw_street(rng, -_BEFORE, 1.1 * length + _BEHIND)
    return EgoMotion(street, recipe.speed, float(rng.uniform(0, 2 * np.pi)))


def build_scene(recipe: SyntheticRecipe) -> Scene:
    """Draw a street and its traffic from the recipe's seed.

    Args:
        recipe: without `randomise`.

    Returns:
        The scene; equal recipes give equal scenes.
    """
    ego = draw_ego_motion(recipe)
    street = ego.street
    rng = np.random.default_rng([recipe.seed, 1])
    builder = _Builder(street, rng)
    builder.add(build_ground(street, np.array((0.135, 0.135, 0.14)) * rng.uniform(0.75, 1.3)))
    for sign in (1, -1):
        builder.plant_trees(sign, recipe.trees)
        builder.build_plots(sign)
        builder.park_cars(sign, recipe.parked_cars)
        builder.furnish(sign)
    builder.close_horizon()
    movers = _draw_traffic(recipe, street, ego, rng)
    lamps = np.array(builder.lamps).reshape(-1, 3)
    return Scene(merge(builder.parts), movers, ego, lamps)


class _Builder:
    """Collect meshes in world coordinates."""

    def __init__(self, street: Street, rng: np.random.Generator) -> None:
        self.street, self.rng = street, rng
        self.parts: list[Mesh] = []
        self.lamps: list[Float64Array] = []
        self._trees = [build_tree(rng) for _ in range(6)]
        self._bushes = [build_bush(rng) for _ in range(3)]
        self._cars = [build_car(rng) for _ in range(10)]

    def add(self, mesh: Mesh) -> None:
        self.parts.append(mesh)

    def put(
        self,
        mesh: Mesh,
        s: float,
        left: float,
        *,
        turn: float = 0.0,
        scale: float = 1.0,
        sunk: float = 0.0,
    ) -> None:
        """Stand a thing on the ground, its x along the street, turned by `turn` radians."""
        x, y = self.street.path.place(s, left)
        z = float(self.street.ground_height(s, left)) - sunk
        T = place(x, y, z, float(self.street.path.heading(s)) + turn, scale)
        # Long things follow the slope; upright edges stay upright.
        T[2, 0] = float(self.street.path.slope(s)) * np.cos(turn) * scale
        T[2, 1] = -float(self.street.path.slope(s)) * np.sin(turn) * scale
        self.add(mesh.moved(T))

    def plant_trees(self, sign: int, density: float) -> None:
        """Plant a row beside the road, and trees behind the houses."""
        street, rng = self.street, self.rng
        section = street.side(sign)
        has_verge = section.verge - section.road > 0.5
        left = (section.road + section.verge) / 2 if has_verge else section.road + 0.6
        s = street.path.start + rng.uniform(0, 10)
        while s < street.path.end:
            if rng.random() < density and not street.is_crossing(s, 4):
                self._plant(s, sign * left, 0.75 if has_verge else 0.6)
            s += rng.uniform(7, 15)
        for s in np.arange(street.path.start, street.path.end, 7.0):
            if rng.random() < 0.9 * density and not street.is_crossing(s, 5):
                self._plant(
                    s + rng.uniform(-4, 4), sign * (section.front + rng.uniform(15, 32)), 1.1
                )

    def _plant(self, s: float, left: float, scale: float) -> None:
        tree = self._trees[int(self.rng.integers(len(self._trees)))]
        self.put(
            tree, s, left, turn=self.rng.uniform(0, 6.3), scale=scale * self.rng.uniform(0.8, 1.2)
        )

    def build_plots(self, sign: int) -> None:
        """Line one side with houses and gardens, and close the gardens towards the street."""
        street, rng = self.street, self.rng
        section = street.side(sign)
        s = street.path.start + rng.uniform(0, 8)
        while s < street.path.end - 12:
            width = rng.uniform(9, 19)
            middle = s + width / 2
            if street.is_crossing(np.linspace(s, s + width, 30), 2.0).any():
                s += 1.0
                continue
            if rng.random() < 0.82:
                self._put_house(middle, width - (0 if rng.random() < 0.4 else 1.6), sign)
            else:
                for _ in range(int(rng.integers(2, 6))):
                    self._plant(
                        rng.uniform(s, s + width),
                        sign * rng.uniform(section.front + 1, section.front + 10),
                        0.9,
                    )
            self._close_garden(middle, width, sign)
            s += width + (0 if rng.random() < 0.5 else rng.uniform(2, 6))

    def _put_house(self, middle: float, width: float, sign: int) -> None:
        house = build_house(self.rng, width)
        setback = self.street.side(sign).front + self.rng.uniform(0, 0.6)
        path = self.street.path
        x, y = path.place(middle - sign * width / 2, sign * setback)
        ends = self.street.ground_height((middle - width / 2, middle + width / 2), sign * setback)
        x1, y1 = path.place(middle + sign * width / 2, sign * setback)
        heading = float(np.arctan2(y1 - y, x1 - x))
        self.add(house.moved(place(float(x), float(y), float(ends.mean()), heading)))

    def _close_garden(self, middle: float, width: float, sign: int) -> None:
        section, rng = self.street.side(sign), self.rng
        room = section.front - section.pavement
        if room < 1:
            return
        kind = int(rng.integers(4))
        edge = sign * (section.pavement + 0.35)
        gate = 1.6
        for start, end in ((0.2, width / 2 - gate / 2), (width / 2 + gate / 2, width - 0.2)):
            length, centre = end - start, middle - width / 2 + (start + end) / 2
            turn = 0.0 if sign > 0 else np.pi
            if kind == 0:
                self.put(build_fence(rng, length), centre, edge, turn=turn)
            elif kind == 1:
                self.put(build_hedge(rng, length, rng.uniform(0.9, 1.7)), centre, edge, turn=turn)
            elif kind == 2:
                self.put(build_wall(rng, length), centre, edge, turn=turn)
            if kind != 1 and rng.random() < 0.7 and room > 2.5:
                bush = self._bushes[int(rng.integers(3))]
                self.put(bush, centre + rng.uniform(-2, 2), edge + sign * 1.3)

    def park_cars(self, sign: int, share: float) -> None:
        """Fill parking places, and some driveways."""
        street, rng = self.street, self.rng
        section = street.side(sign)
        turn = np.pi if sign > 0 else 0.0
        s = street.path.start + rng.uniform(0, 6)
        while s < street.path.end - 5:
            if section.parking > 0 and rng.random() < share and not street.is_crossing(s, 7):
                car = self._cars[int(rng.integers(len(self._cars)))]
                left = sign * (street.lane + 0.08 + section.parking / 2 + rng.normal(0, 0.06))
                backwards = np.pi if rng.random() < 0.1 else 0.0
                self.put(car, s, left, turn=turn + backwards + rng.normal(0, 0.015))
            s += rng.uniform(5.4, 7.5)

    def furnish(self, sign: int) -> None:
        """Set up lamps, signs, bins, bollards, cabinets and people who stand about."""
        street, rng = self.street, self.rng
        section = street.side(sign)
        kerb = section.road + 0.45
        towards = -np.pi if sign > 0 else 0.0
        for s in np.arange(street.path.start + (6 if sign > 0 else 20), street.path.end, 28.0):
            if street.is_crossing(s, 2):
                continue
            self.put(build_lamp_post(), s, sign * kerb, turn=towards)
            x, y = street.path.place(s, sign * (kerb - 1.55))
            z = float(street.ground_height(s, sign * kerb)) + LAMP_HEIGHT
            self.lamps.append(np.array((x, y, z)))
        s = street.path.start + rng.uniform(5, 15)
        while s < street.path.end:
            kind = int(rng.integers(7))
            if not street.is_crossing(s, 1.5):
                wall = section.pavement - 0.25
                if kind <= 2:
                    turn = 0.0 if sign < 0 else np.pi
                    self.put(build_sign(rng), s, sign * kerb, turn=turn + rng.normal(0, 0.1))
                elif kind == 3:
                    for k in range(int(rng.integers(1, 4))):
                        self.put(
                            build_bin(rng), s + 0.75 * k, sign * wall, turn=rng.normal(0, 0.15)
                        )
                elif kind == 4:
                    for k in range(int(rng.integers(2, 6))):
                        self.put(build_bollard(), s + 1.5 * k, sign * kerb)
                elif kind == 5:
                    self.put(build_cabinet(), s, sign * wall)
                else:
                    self.put(
                        build_person(rng),
                        s,
                        sign * rng.uniform(section.verge + 0.5, section.pavement - 0.3),
                        turn=rng.uniform(0, 6.3),
                    )
            s += rng.uniform(4, 11)
        for crossing in street.crossings:
            self.put(build_sign(rng), crossing - street.crossing_width - 1.0, -kerb)

    def close_horizon(self) -> None:
        """Raise woods behind the houses and at both ends, so that the world has no edge."""
        street, rng = self.street, self.rng
        path = street.path
        s = np.arange(path.start, path.end + 1, _WOOD_STEP)
        tint = np.array((0.05, 0.075, 0.025))
        for sign in (1, -1):
            left = sign * (
                52 + 6 * np.sin(s / 23 + rng.uniform(0, 6)) + rng.normal(0, 0.7, len(s))
            )
            base = path.place(s, left)
            ground = street.ground_height(s, left) - 1
            self._raise_wood(base, ground, tint, mirrored=sign > 0)
        for end, flip in ((path.end - 3, True), (path.start + 3, False)):
            left = np.arange(-75, 76, _WOOD_STEP)
            base = path.place(end + 3 * np.sin(left / 9), left)
            ground = street.ground_height(end, left) - 1
            self._raise_wood(base, ground, tint, mirrored=flip)

    def _raise_wood(
        self, base: Float64Array, ground: Float64Array, tint: Float64Array, *, mirrored: bool
    ) -> None:
        count = len(base)
        # Crowns side by side: where two meet the wood is low.
        along = np.arange(count) * _WOOD_STEP
        height = np.zeros(count)
        for centre in np.arange(0, along[-1] + 6, 4.5):
            crown = (
                self.rng.uniform(7, 13.5) - ((along - centre) / self.rng.uniform(1.0, 1.8)) ** 2
            )
            height = np.maximum(height, crown)
        height = np.maximum(height, 5.5) + self.rng.normal(0, 0.25, count)
        levels = np.linspace(0, 1, 7)
        points = np.empty((count, 7, 3))
        points[..., :2] = base[:, None, :] + self.rng.normal(0, 0.3, (count, 7, 2))
        points[..., 2] = ground[:, None] + height[:, None] * levels
        uv = np.stack(np.broadcast_arrays(along[:, None], height[:, None] * levels), axis=-1)
        if mirrored:
            points, uv = points[::-1], uv[::-1]
        self.add(grid(points, Material.FOREST, tint, uv=uv, smooth=True))


def _draw_traffic(
    recipe: SyntheticRecipe, street: Street, ego: EgoMotion, rng: np.random.Generator
) -> tuple[Mover, ...]:
    """Let cars come towards the ego vehicle, one go ahead of it, and people walk."""
    movers = []
    reach = recipe.speed * recipe.frames / recipe.rate
    pace = -float(rng.uniform(7, 12))
    ahead = rng.uniform(18, 35)
    for index in range(recipe.moving_cars):
        car = build_car(rng, lights=True)
        if index % 4 == 1:
            gap = (14 + 8 * rng.random()) * (1 + index // 4)
            motion = TrafficMotion(
                street, gap, float(rng.uniform(0.0, 0.6)), -street.lane / 2, ego
            )
        else:
            motion = TrafficMotion(street, float(ahead), pace, street.lane / 2 + 0.1)
            ahead += car_length(car) + rng.uniform(12, max(14.0, 1.2 * (reach - pace)))
        movers.append(Mover(car, motion))
    for _ in range(2 + int(rng.integers(4))):
        sign = 1 if rng.random() < 0.5 else -1
        section = street.side(sign)
        left = sign * rng.uniform(section.verge + 0.4, section.pavement - 0.3)
        speed = float(rng.choice((-1, 1)) * rng.uniform(1.0, 1.7))
        motion = TrafficMotion(street, float(rng.uniform(8, 30 + reach)), speed, left)
        movers.append(Mover(build_person(rng), motion))
    return tuple(movers)
