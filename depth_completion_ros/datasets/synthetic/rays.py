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
        for index in range(len(self._movers)):
            near, o, d = self._in_own_frame(index, origins, directions, times)
            if not len(near):
                continue
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
        """Tell which of (N, 3) points something stands before in one direction (3,)."""
        directions = np.broadcast_to(direction, points.shape)
        single = np.ascontiguousarray(directions, np.float32)
        result = self._scenes[0].run(points.astype(np.float32), single, query="OCCLUDED")
        shadowed = result >= 0
        for index in range(len(self._movers)):
            near, o, d = self._in_own_frame(index, points, directions, time)
            if len(near):
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

    def _in_own_frame(
        self,
        index: int,
        origins: Float64Array,
        directions: Float64Array,
        times: Float64Array | float,
    ) -> tuple[NDArray[np.intp], Float64Array, Float64Array]:
        """Pick the rays that pass near a moving thing and express them in its frame.

        Within the time that the rays span the thing and their origins move; the sphere that
        decides what is near is larger by that.
        """
        span = np.array((np.min(times), np.max(times)))
        poses = self.mover_poses(index, span)
        centres = poses.R @ self._centres[index] + poses.position
        centre, radius = centres.mean(axis=0), self._radii[index]
        radius += float(np.linalg.norm(centres[1] - centres[0])) / 2
        if origins.strides[0] == 0:
            origin = origins[0]
        else:
            low, high = origins.min(axis=0), origins.max(axis=0)
            origin = (low + high) / 2
            # Many origins close together, as of a scan, or anywhere, as of shadow rays.
            spread = float(np.linalg.norm(high - low)) / 2
            if spread > 5:
                return self._near_points(index, origins, directions, centre, radius, times)
            radius += spread
        to_centre = centre - origin
        off = float(to_centre @ to_centre) - radius**2
        if off < 0:
            near = np.arange(len(directions))
        else:
            along = directions @ to_centre
            squared = np.einsum("ij,ij->i", directions, directions)
            near = np.flatnonzero((along > 0) & (along * along > off * squared))
        return self._moved_rays(index, near, origins, directions, times)

    def _near_points(
        self,
        index: int,
        origins: Float64Array,
        directions: Float64Array,
        centre: Float64Array,
        radius: float,
        times: Float64Array | float,
    ) -> tuple[NDArray[np.intp], Float64Array, Float64Array]:
        """Do the same for parallel rays from many places."""
        direction = directions[0] / np.linalg.norm(directions[0])
        along = float(centre @ direction) - origins @ direction
        candidates = np.flatnonzero(along > -radius)
        to_centre = centre - origins[candidates]
        off = np.einsum("ij,ij->i", to_centre, to_centre) - along[candidates] ** 2
        near = candidates[off < radius**2]
        return self._moved_rays(index, near, origins, directions, times)

    def _moved_rays(
        self,
        index: int,
        near: NDArray[np.intp],
        origins: Float64Array,
        directions: Float64Array,
        times: Float64Array | float,
    ) -> tuple[NDArray[np.intp], Float64Array, Float64Array]:
        if np.ndim(times) == 0:
            poses = self.mover_poses(index, times)
            R, position = poses.R[0], poses.position[0]
            return near, (origins[near] - position) @ R, directions[near] @ R
        poses = self.mover_poses(index, np.asarray(times)[near])
        o = np.einsum("nji,nj->ni", poses.R, origins[near] - poses.position)
        return near, o, np.einsum("nji,nj->ni", poses.R, directions[near])


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
