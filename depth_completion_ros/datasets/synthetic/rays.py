"""Find what a ray hits first, standing or moving, to less than a millimetre.

Not here: what a hit looks like (`textures.py`, `shading.py`). The ray tracer is Embree by way of
embreex (extra `synthetic`); it works in float32, so distances are taken again from the triangle's
plane in float64. Moving things are hit in their own frame at each ray's own time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Float32Array, Float64Array
from ...errors import InputError
from .mesh import Mesh, merge
from .scene import Mover
from .trajectory import Poses


@dataclass(frozen=True)
class Hits:
    """Hold what N rays hit.

    Attributes:
        distance: (N,) float64, in lengths of the ray's direction; inf for nothing.
        face: (N,) int64, index into the caster's faces; -1 for nothing.
        weights: (N, 2) float32, shares of the face's second and third corner.
        mover: (N,) int16, which moving thing, -1 for the street.
    """

    distance: Float64Array
    face: NDArray[np.int64]
    weights: Float32Array
    mover: NDArray[np.int16]


class RayCaster:
    """Cast rays into a street with moving things on it."""

    def __init__(self, static: Mesh, movers: tuple[Mover, ...] = ()) -> None:
        """Prepare the search trees.

        Args:
            static: what stands still, world coordinates.
            movers: what moves, each in its own frame.

        Raises:
            InputError: embreex is not installed.
        """
        self._movers = movers
        meshes = [static, *(mover.mesh for mover in movers)]
        self._scenes = [_embree_scene(mesh) for mesh in meshes]
        self.faces = merge(meshes)
        self._first_face = np.cumsum([0, *(len(mesh) for mesh in meshes)])
        corners = self.faces.corners
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.plane_normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        self._plane_offsets = np.einsum("ij,ij->i", self.plane_normals, corners[:, 0])
        spheres = [_bounding_sphere(mover.mesh) for mover in movers]
        self._centres = [centre for centre, _ in spheres]
        self._radii = [radius for _, radius in spheres]

    def cast(
        self, origins: Float64Array, directions: Float64Array, times: Float64Array | float
    ) -> Hits:
        """Find the first thing along each ray.

        Args:
            origins: (N, 3) or (3,) float64 metres, world.
            directions: (N, 3) float64, any length.
            times: (N,) seconds after the first frame, or one for all.

        Returns:
            What was hit.
        """
        count = len(directions)
        single_origin = np.ndim(origins) == 1
        origins = np.broadcast_to(origins, (count, 3))
        result = self._scenes[0].run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            output=True,
        )
        face = result["primID"].astype(np.int64)
        weights = np.stack((result["u"], result["v"]), axis=1)
        distance = self._plane_distance(face, origins, directions)
        mover = np.full(count, -1, np.int16)
        if self._movers:
            if single_origin:
                origin, spread = origins[0], 0.0
            else:
                low, high = (np.array([f(o) for o in origins.T]) for f in (np.min, np.max))
                origin, spread = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
            squared = np.einsum("ij,ij->i", directions, directions)
        for index in range(len(self._movers)):
            centre, radius = self._sphere(index, times)
            to_centre = centre - origin
            off = float(to_centre @ to_centre) - (radius + spread) ** 2
            along = directions @ to_centre
            near = np.flatnonzero((along > 0) & (along * along > off * squared) | (off < 0))
            if not len(near):
                continue
            o, d = self._in_own_frame(index, origins[near], directions[near], _picked(times, near))
            result = self._scenes[index + 1].run(
                o.astype(np.float32), d.astype(np.float32), output=True
            )
            hit = result["primID"] >= 0
            own = result["primID"].astype(np.int64) + self._first_face[index + 1]
            own[~hit] = -1
            t = self._plane_distance(own, o, d)
            closer = t < distance[near]
            rows = near[closer]
            distance[rows], face[rows], mover[rows] = t[closer], own[closer], index
            weights[rows, 0], weights[rows, 1] = result["u"][closer], result["v"][closer]
        return Hits(distance, face, weights, mover)

    def is_shadowed(
        self, points: Float64Array, direction: Float64Array, time: float
    ) -> NDArray[np.bool_]:
        """Tell which of (N, 3) points something stands before in one unit direction (3,)."""
        directions = np.broadcast_to(direction, points.shape)
        single = np.ascontiguousarray(directions, np.float32)
        result = self._scenes[0].run(points.astype(np.float32), single, query="OCCLUDED")
        shadowed = result >= 0
        if self._movers:
            # Seen along the light everything is flat: a thing shadows only what lies behind its
            # disc.
            across = np.linalg.svd(direction[None, :])[2][1:]
            flat = (points @ across.T).astype(np.float32)
        for index in range(len(self._movers)):
            centre, radius = self._sphere(index, time)
            x, y = (across @ centre).astype(np.float32)
            disc = (flat[:, 0] - x) ** 2 + (flat[:, 1] - y) ** 2 < radius**2
            near = np.flatnonzero(disc)
            if len(near):
                o, d = self._in_own_frame(index, points[near], directions[near], time)
                result = self._scenes[index + 1].run(
                    o.astype(np.float32), d.astype(np.float32), query="OCCLUDED"
                )
                shadowed[near] |= result >= 0
        return np.asarray(shadowed)

    def mover_poses(self, index: int, times: Float64Array | float) -> Poses:
        """Give where a moving thing is."""
        return self._movers[index].motion.poses(times)

    def _plane_distance(
        self, face: NDArray[np.int64], origins: Float64Array, directions: Float64Array
    ) -> Float64Array:
        normals = self.plane_normals[face]
        along = np.einsum("ij,ij->i", normals, directions)
        gap = self._plane_offsets[face] - np.einsum("ij,ij->i", normals, origins)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = gap / along
        distance[(face < 0) | ~np.isfinite(distance) | (distance <= 0)] = np.inf
        return np.asarray(distance)

    def _sphere(self, index: int, times: Float64Array | float) -> tuple[Float64Array, float]:
        """Give a sphere that holds a moving thing during a span of times."""
        poses = self.mover_poses(index, np.array((np.min(times), np.max(times))))
        centres = poses.R @ self._centres[index] + poses.position
        way = float(np.linalg.norm(centres[1] - centres[0]))
        return centres.mean(axis=0), self._radii[index] + way / 2

    def _in_own_frame(
        self,
        index: int,
        origins: Float64Array,
        directions: Float64Array,
        times: Float64Array | float,
    ) -> tuple[Float64Array, Float64Array]:
        """Express rays in the frame of a moving thing, each at its own time."""
        poses = self.mover_poses(index, times)
        if len(poses.R) == 1:
            R, position = poses.R[0], poses.position[0]
            return (origins - position) @ R, directions @ R
        o = np.einsum("nji,nj->ni", poses.R, origins - poses.position)
        return o, np.einsum("nji,nj->ni", poses.R, directions)


def _picked(times: Float64Array | float, rows: NDArray[np.intp]) -> Float64Array | float:
    return times if np.ndim(times) == 0 else np.asarray(times)[rows]


def _embree_scene(mesh: Mesh) -> Any:
    try:
        from embreex import rtcore_scene
        from embreex.mesh_construction import TriangleMesh
    except ImportError as error:
        msg = (
            "synthetic drive: embreex is not installed; expected the extra 'synthetic', "
            "run pip install 'depth_completion[synthetic]'"
        )
        raise InputError(msg) from error
    scene = rtcore_scene.EmbreeScene()
    vertices = mesh.corners.reshape(-1, 3).astype(np.float32)
    TriangleMesh(scene, vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3))
    return scene


def _bounding_sphere(mesh: Mesh) -> tuple[Float64Array, float]:
    points = mesh.corners.reshape(-1, 3)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max()) + 0.05
